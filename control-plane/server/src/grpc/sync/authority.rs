//! Authority records on one node's stream: what it lacks, what it confirmed.
//!
//! Owns the order records before heads. Refuses to own the records and what confirmations are for.

use std::time::Duration;

use rap_contract::AuthorityChain;
use rap_store::authority_confirm;
use rap_types::{Digest, Reason};
use rap_wire::v1;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::grpc::sync::member::Member;
use crate::replica::Replica;

/// What one node has of its cluster's authority records.
#[derive(Debug)]
pub struct AuthorityState {
    /// Newest record that it has or was sent; `None` for an agent that does not say.
    sent: Option<u64>,
    /// Newest record that it confirmed on this stream.
    confirmed: u64,
    /// When it has to have confirmed what was sent; `None` if it did.
    confirms_by: Option<Instant>,
}

impl AuthorityState {
    /// A node whose hello named this record. Agents before rotation name none and take none.
    pub fn said(sequence: u64) -> Self {
        Self { sent: (sequence > 0).then_some(sequence), confirmed: 0, confirms_by: None }
    }

    /// The records to send now, before any head.
    pub fn due(&mut self, replica: &Replica, member: &Member) -> Option<v1::AuthorityRecords> {
        let cluster = replica.serving.clusters.by_id(member.cluster.id)?;
        let (sent, newest) = (self.sent.as_mut()?, cluster.chain.sequence());
        if *sent >= newest {
            return None;
        }
        let records = cluster.chain.envelopes_after(*sent);
        *sent = newest;
        self.confirms_by = Some(Instant::now() + CONFIRM);
        Some(v1::AuthorityRecords { records })
    }

    /// By when the node has to confirm what was sent; `None` if it confirmed everything. Until then it gets no head: it
    /// writes the records to its disk first, and would refuse a head of a key that it does not know.
    pub fn confirms_by(&self) -> Option<Instant> {
        self.confirms_by
    }

    /// Takes what the node says that it keeps.
    ///
    /// # Errors
    /// The reason for which the node refused records: the stream ends and the node tries again later.
    /// `authority.mismatch` if it keeps a record that this cluster never made.
    pub async fn heard(
        &mut self,
        replica: &Replica,
        member: &Member,
        confirm: &v1::AuthorityConfirm,
    ) -> Result<(), Failure> {
        let node = member.leaf.identity.node;
        if !confirm.reason.is_empty() {
            let reason = Reason::from_code(&confirm.reason).unwrap_or(Reason::ChainBroken);
            tracing::warn!(%node, reason = reason.code(), "a node did not keep the authority records");
            return Err(Failure::said(reason, "the node did not keep the authority records"));
        }
        if !self.holds(replica, member, confirm).await? {
            let text = format!("node {node} keeps an authority record that this cluster did not make");
            replica.watch.alarm(Reason::AuthorityMismatch, &text);
            return Err(Failure::new(Reason::AuthorityMismatch, "another authority record"));
        }
        // The first record came with the contract and confirms nothing.
        if confirm.sequence > self.confirmed.max(1) {
            let written: Result<(), Failure> =
                rap_store::transact!(replica.database.store.system(), |connection| {
                    Ok(authority_confirm(connection, node, confirm.sequence).await?)
                });
            written?;
        }
        self.confirmed = self.confirmed.max(confirm.sequence);
        if self.sent.is_some_and(|sent| sent <= confirm.sequence) {
            self.confirms_by = None;
        }
        Ok(())
    }

    async fn holds(
        &self,
        replica: &Replica,
        member: &Member,
        confirm: &v1::AuthorityConfirm,
    ) -> Result<bool, Failure> {
        let digest = Digest::from_slice(&confirm.digest)?;
        let known = |chain: &AuthorityChain| chain.digest_at(confirm.sequence) == Some(digest);
        let cluster = replica.serving.clusters.by_id(member.cluster.id);
        if cluster.as_ref().is_some_and(|cluster| known(&cluster.chain)) {
            return Ok(true);
        }
        // Another replica may have rotated a moment ago.
        replica.serving.load_cluster(member.cluster.id).await?;
        let cluster = replica.serving.clusters.by_id(member.cluster.id);
        Ok(cluster.is_some_and(|cluster| known(&cluster.chain)))
    }
}

const CONFIRM: Duration = Duration::from_secs(30);
