//! What one node still lacks, and when it is sent.
//!
//! Owns one node's acknowledged version and at most one message in flight: latest wins, nothing is
//! queued. Refuses to own the stream and the clock.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use rap_contract::peer_of_slot;
use rap_types::{Digest, HeadOrder, Incarnation, Mono, NodeId, Reason, Version};
use rap_wire::v1;
use v1::control_message::Body;

use crate::{LeftOut, Published};

/// One node's side of the distribution.
#[derive(Debug)]
pub struct Delivery {
    node: NodeId,
    /// Leaf that the node said it holds, until a version is known to compare it with.
    claimed: Option<Digest>,
    held: Option<Held>,
    in_flight: Option<InFlight>,
    refused: Option<Digest>,
    /// When what was refused for a passing reason is sent again.
    again: Option<Mono>,
    /// How long the next such refusal waits.
    pause: Duration,
    head_sent: HeadOrder,
    head_due: Option<Mono>,
    send_full: bool,
    /// Peers whose records the last acknowledged update brought for the first time; `None` if that update was whole.
    new_peers: Option<Vec<NodeId>>,
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
    /// Peers whose records the node did not hold; `None` if the update is whole.
    new_peers: Option<Vec<NodeId>>,
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
    /// The node is a member, and the plan has no room for it.
    LeftOut(LeftOut),
    /// The node is not a member any more.
    Gone,
}

/// What an acknowledgement comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// The node holds what was sent under the head of this order.
    Holds(HeadOrder),
    /// Something older that it held already.
    Known,
    /// Nothing that was sent to it: it counts for nothing.
    Unasked,
}

impl Delivery {
    /// A node that just said hello with the leaf of the snapshot it holds, if it holds one.
    pub fn new(node: NodeId, leaf: Option<Digest>) -> Self {
        Self {
            node,
            claimed: leaf,
            held: None,
            in_flight: None,
            refused: None,
            again: None,
            pause: FIRST_PAUSE,
            head_sent: HeadOrder::default(),
            head_due: None,
            send_full: false,
            new_peers: None,
        }
    }

    /// Decides on the next message. `window` spreads heads that change nothing for the node; `spread`
    /// in 0..1 is this node's place in it.
    pub fn next(&mut self, published: &Arc<Published>, window: Duration, spread: f64, now: Mono) -> Step {
        let Some(leaf) = published.leaf_hash(self.node) else {
            return published.plan.left_out.get(&self.node).map_or(Step::Gone, |what| Step::LeftOut(*what));
        };
        if self.claimed.take() == Some(leaf) {
            self.held = Some(Held { leaf, version: published.clone() });
        }
        if self.in_flight.is_some() {
            return Step::Idle;
        }
        if self.held.as_ref().is_some_and(|held| held.leaf == leaf) && !self.send_full {
            return self.next_head(published, window, spread, now);
        }
        if self.refused == Some(leaf)
            && !self.send_full
            && let Some(wait) = self.waits_again(now)
        {
            return wait;
        }
        let known = match &self.held {
            Some(held) if !self.send_full => held.version.plan.nodes.get(&self.node),
            Some(_) | None => None,
        };
        let Some(update) = published.plan.update(self.node, known, &published.head) else {
            return Step::Gone;
        };
        let new_peers = known.filter(|_| !update.full).map(|known| {
            let unknown = |slot: &&v1::Slot| known.manifest.chunk(&slot.key).is_none();
            update.slots_set.iter().filter(unknown).filter_map(|slot| peer_of_slot(&slot.key)).collect()
        });
        self.in_flight = Some(InFlight { leaf, version: published.clone(), new_peers });
        self.send_full = false;
        self.again = None;
        self.head_due = None;
        self.head_sent = published.order;
        tracing::trace!(way = "what changed for one node is put together");
        Step::Send(Box::new(Body::Update(update)))
    }

    fn next_head(&mut self, published: &Arc<Published>, window: Duration, spread: f64, now: Mono) -> Step {
        if let Some(held) = &mut self.held {
            // Equal leaf: keep the newer plan, so that old ones are not kept alive by idle nodes.
            held.version = published.clone();
        }
        let known = published.order <= self.head_sent;
        if known && let Some(wait) = self.waits_again(now) {
            return wait;
        }
        let at_once = known || self.head_sent == HeadOrder::default();
        let due = *self.head_due.get_or_insert(if at_once { now } else { now.plus(window.mul_f64(spread)) });
        if now < due {
            return Step::WaitUntil(due);
        }
        self.head_due = None;
        self.again = None;
        self.head_sent = published.order;
        let Some(proof) = published.plan.proof(self.node) else { return Step::Gone };
        Step::Send(Box::new(Body::Head(v1::HeadUpdate { head: published.head.to_vec(), proof: Some(proof) })))
    }

    /// The node acknowledged the snapshot with this leaf under a head that it says is of `said`. What is
    /// answered was sent by this side.
    pub fn acknowledged(&mut self, leaf: Digest, said: (Incarnation, Version)) -> Acknowledged {
        if let Some(sent) = self.in_flight.take_if(|sent| sent.leaf == leaf) {
            let order = sent.version.order;
            self.refused = None;
            self.pause = FIRST_PAUSE;
            self.new_peers = sent.new_peers;
            self.held = Some(Held { leaf: sent.leaf, version: sent.version });
            return Acknowledged::Holds(order);
        }
        let holds = self.held.as_ref().is_some_and(|held| held.leaf == leaf);
        match (holds, said.cmp(&self.head_sent.durable())) {
            (true, Ordering::Equal) if self.in_flight.is_none() => {
                self.again = None;
                self.pause = FIRST_PAUSE;
                Acknowledged::Holds(self.head_sent)
            }
            (true, Ordering::Equal | Ordering::Less) => Acknowledged::Known,
            (true, Ordering::Greater) | (false, _) => Acknowledged::Unasked,
        }
    }

    /// The node refused what was sent. It is not sent again until it changes, except once in full when the node lacks
    /// something, and again and again when the reason may pass: after 2 s, then after twice as long each time, at most 60 s.
    pub fn refused(&mut self, reason: Reason, need_full: bool, now: Mono) {
        if may_pass(reason) {
            self.again = Some(now.plus(self.pause));
            self.pause = (self.pause * 2).min(LAST_PAUSE);
        }
        if let Some(sent) = self.in_flight.take() {
            self.refused = Some(sent.leaf);
            self.send_full = need_full && sent.new_peers.is_some();
        } else if need_full {
            // A head under which the node's stored snapshot does not hold.
            self.held = None;
        }
    }

    /// What to do about something that was sent already; `None` if it is sent again now.
    fn waits_again(&self, now: Mono) -> Option<Step> {
        match self.again {
            Some(again) if now < again => Some(Step::WaitUntil(again)),
            Some(_) => None,
            None => Some(Step::Idle),
        }
    }

    /// True if nothing that is older than this version waits for its acknowledgement.
    pub fn took(&self, published: &Published) -> bool {
        self.in_flight.as_ref().is_none_or(|sent| sent.version.order >= published.order)
    }

    /// True if the node holds a snapshot, or one was sent to it.
    pub fn holds(&self) -> bool {
        self.held.is_some() || self.in_flight.is_some()
    }

    /// True while a message waits for its acknowledgement.
    pub fn waits(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Takes the peers whose records came with the last acknowledged update and not before; `None` if it was whole.
    pub fn new_peers(&mut self) -> Option<Vec<NodeId>> {
        self.new_peers.take()
    }

    /// True if the node holds, or is being sent, the record of this peer.
    pub fn knows(&self, peer: NodeId) -> bool {
        let sent = self.in_flight.as_ref().map(|sent| &sent.version);
        let version = sent.or(self.held.as_ref().map(|held| &held.version));
        version.is_some_and(|version| version.plan.knows(self.node, peer))
    }
}

/// True if the same message may be accepted later: the node's disk fails, or it does not know the signer yet.
const fn may_pass(reason: Reason) -> bool {
    use Reason::{KeyUnknown, StateFull, StateIo, StateNoSpace, StateReadOnly, StateTimeout};
    matches!(reason, KeyUnknown | StateFull | StateIo | StateNoSpace | StateReadOnly | StateTimeout)
}

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
