//! What one node is shown of the audit log: the newest checkpoint, now and then.
//!
//! Owns what the node holds and when to show it more. Every node that keeps a checkpoint is a witness:
//! history it has seen cannot be taken back in silence.

use std::time::Duration;

use rap_wire::v1;
use tokio::time::Instant;

use crate::audit::compare_witness::compare_witness;
use crate::grpc::sync::member::Member;
use crate::replica::Replica;

/// What is due.
pub enum Due {
    /// This is to be sent.
    Now(v1::AuditWitness),
    /// Look again then.
    At(Instant),
}

/// One node as witness.
pub struct WitnessState {
    held: Option<(u64, u64)>,
    at: Instant,
}

impl WitnessState {
    /// Takes what the node said in its hello and compares it.
    pub async fn said(replica: &Replica, member: &Member, note: &[u8]) -> Self {
        let at = Instant::now() + FIRST.mul_f64(rand::random_range(0.5..1.0));
        if note.is_empty() {
            return Self { held: None, at };
        }
        let node = member.leaf.identity.node;
        let held =
            compare_witness(&replica.watch, &replica.audit, node, note).await.unwrap_or_else(|failure| {
                tracing::warn!(%node, reason = %failure.reason, "a node's checkpoint was not compared");
                None
            });
        Self { held, at }
    }

    /// What to show now, or when to look again.
    pub fn next(&mut self, replica: &Replica, now: Instant) -> Due {
        if now < self.at {
            return Due::At(self.at);
        }
        self.at = now + EVERY;
        if replica.audit.finding().is_some() {
            return Due::At(self.at);
        }
        let Some(signed) = replica.audit.newest().borrow().clone() else { return Due::At(self.at) };
        let newest = (signed.checkpoint.generation, signed.checkpoint.size);
        if self.held.is_some_and(|held| held >= newest) {
            return Due::At(self.at);
        }
        match replica.audit.witness(&signed, self.held) {
            Some(shown) => {
                self.held = Some(newest);
                Due::Now(shown)
            }
            None => Due::At(self.at),
        }
    }
}

/// The first checkpoint after a hello comes within this.
const FIRST: Duration = Duration::from_secs(3);

/// Between two checkpoints to one node.
const EVERY: Duration = Duration::from_secs(5);
