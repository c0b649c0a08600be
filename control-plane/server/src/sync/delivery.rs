//! What one node still lacks, and when it is sent.
//!
//! Owns one node's acknowledged version and at most one message in flight: latest wins, nothing is
//! queued. Refuses to own the stream and the clock.

use std::sync::Arc;
use std::time::Duration;

use rap_types::{Digest, HeadOrder, Mono, NodeId};
use rap_wire::v1;
use v1::control_message::Body;

use super::Published;

/// One node's side of the distribution.
#[derive(Debug)]
pub struct Delivery {
    node: NodeId,
    held: Option<Held>,
    in_flight: Option<InFlight>,
    refused: Option<Digest>,
    head_sent: HeadOrder,
    head_due: Option<Mono>,
    send_full: bool,
}

#[derive(Debug)]
struct Held {
    leaf: Digest,
    version: Arc<Published>,
}

#[derive(Debug)]
struct InFlight {
    leaf: Digest,
    version: Arc<Published>,
    full: bool,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Send this now.
    Send(Box<Body>),
    /// Nothing before this instant.
    WaitUntil(Mono),
    /// Nothing until something happens.
    Idle,
    /// The node is not a member any more.
    Gone,
}

impl Delivery {
    /// A node that just said hello with the leaf of the snapshot it holds, if it holds one.
    pub fn new(node: NodeId, leaf: Option<Digest>, published: Option<&Arc<Published>>) -> Self {
        let held = leaf.zip(published).and_then(|(leaf, published)| {
            (published.leaf_hash(node) == Some(leaf)).then(|| Held { leaf, version: published.clone() })
        });
        Self {
            node,
            held,
            in_flight: None,
            refused: None,
            head_sent: HeadOrder::default(),
            head_due: None,
            send_full: false,
        }
    }

    /// Decides on the next message. `window` spreads heads that change nothing for the node; `spread`
    /// in 0..1 is this node's place in it.
    pub fn next(&mut self, published: &Arc<Published>, window: Duration, spread: f64, now: Mono) -> Step {
        let Some(leaf) = published.leaf_hash(self.node) else { return Step::Gone };
        if self.in_flight.is_some() {
            return Step::Idle;
        }
        if self.held.as_ref().is_some_and(|held| held.leaf == leaf) && !self.send_full {
            return self.next_head(published, window, spread, now);
        }
        if self.refused == Some(leaf) && !self.send_full {
            return Step::Idle;
        }
        let known = match &self.held {
            Some(held) if !self.send_full => {
                held.version.plan.nodes.get(&self.node).map(|plan| &plan.manifest)
            }
            Some(_) | None => None,
        };
        let Some(update) = published.plan.update(self.node, known, &published.head) else {
            return Step::Gone;
        };
        self.in_flight = Some(InFlight { leaf, version: published.clone(), full: update.full });
        self.send_full = false;
        self.head_due = None;
        self.head_sent = published.order;
        Step::Send(Box::new(Body::Update(update)))
    }

    fn next_head(&mut self, published: &Arc<Published>, window: Duration, spread: f64, now: Mono) -> Step {
        if let Some(held) = &mut self.held {
            // Equal leaf: keep the newer plan, so that old ones are not kept alive by idle nodes.
            held.version = published.clone();
        }
        if published.order <= self.head_sent {
            return Step::Idle;
        }
        let first = self.head_sent == HeadOrder::default();
        let due = *self.head_due.get_or_insert(if first { now } else { now.plus(window.mul_f64(spread)) });
        if now < due {
            return Step::WaitUntil(due);
        }
        self.head_due = None;
        self.head_sent = published.order;
        let Some(proof) = published.plan.proof(self.node) else { return Step::Gone };
        Step::Send(Box::new(Body::Head(v1::HeadUpdate { head: published.head.to_vec(), proof: Some(proof) })))
    }

    /// The node acknowledged the snapshot with this leaf.
    pub fn acknowledged(&mut self, leaf: Digest) {
        if let Some(sent) = self.in_flight.take_if(|sent| sent.leaf == leaf) {
            self.refused = None;
            self.held = Some(Held { leaf: sent.leaf, version: sent.version });
        }
    }

    /// The node refused what was in flight. It is not sent again until it changes, except once in
    /// full when the node lacks something.
    pub fn refused(&mut self, need_full: bool) {
        if let Some(sent) = self.in_flight.take() {
            self.refused = Some(sent.leaf);
            self.send_full = need_full && !sent.full;
        } else if need_full {
            // A head under which the node's stored snapshot does not hold.
            self.held = None;
        }
    }

    /// True while a message waits for its acknowledgement.
    pub fn waits(&self) -> bool {
        self.in_flight.is_some()
    }

    /// True if the node holds, or is being sent, a slot of this key.
    pub fn knows_slot(&self, key: &str) -> bool {
        let sent = self.in_flight.as_ref().map(|sent| &sent.version);
        let version = sent.or(self.held.as_ref().map(|held| &held.version));
        version
            .and_then(|version| version.plan.nodes.get(&self.node))
            .is_some_and(|plan| plan.manifest.chunk(key).is_some())
    }
}
