//! What one node still lacks, and when it is sent.
//!
//! Owns one node's acknowledged version and at most one message in flight: latest wins, nothing is
//! queued. Refuses to own the stream and the clock.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use rap_contract::peer_of_slot;
use rap_types::{Digest, HeadOrder, Incarnation, Mono, NodeId, Version};
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
        if self.refused == Some(leaf) && !self.send_full {
            return Step::Idle;
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

    /// The node acknowledged the snapshot with this leaf under a head that it says is of `said`. What is
    /// answered was sent by this side.
    pub fn acknowledged(&mut self, leaf: Digest, said: (Incarnation, Version)) -> Acknowledged {
        if let Some(sent) = self.in_flight.take_if(|sent| sent.leaf == leaf) {
            let order = sent.version.order;
            self.refused = None;
            self.new_peers = sent.new_peers;
            self.held = Some(Held { leaf: sent.leaf, version: sent.version });
            return Acknowledged::Holds(order);
        }
        let holds = self.held.as_ref().is_some_and(|held| held.leaf == leaf);
        match (holds, said.cmp(&self.head_sent.durable())) {
            (true, Ordering::Equal) if self.in_flight.is_none() => Acknowledged::Holds(self.head_sent),
            (true, Ordering::Equal | Ordering::Less) => Acknowledged::Known,
            (true, Ordering::Greater) | (false, _) => Acknowledged::Unasked,
        }
    }

    /// The node refused what was in flight. It is not sent again until it changes, except once in
    /// full when the node lacks something.
    pub fn refused(&mut self, need_full: bool) {
        if let Some(sent) = self.in_flight.take() {
            self.refused = Some(sent.leaf);
            self.send_full = need_full && sent.new_peers.is_some();
        } else if need_full {
            // A head under which the node's stored snapshot does not hold.
            self.held = None;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::{ClusterRows, Limits, MapKey, NodeRow, plan};
    use rap_types::{ClusterId, InstallationId, Refresh, Wall};

    const WINDOW: Duration = Duration::from_secs(10);

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn published(version: u64, refresh: u64, nodes: &[u8]) -> Arc<Published> {
        let rows = ClusterRows {
            installation: InstallationId::from_bytes([1; 16]),
            cluster: ClusterId::from_bytes([2; 16]),
            name: "prod".into(),
            incarnation: Incarnation(1),
            version: Version(version),
            ipv4_pool: "100.96.0.0/16".parse().unwrap(),
            cluster_ca: vec![1],
            next_ca: None,
            degraded_for_ms: 1,
            leaf_lifetime_ms: 10,
            mtu: 1280,
            link_probe_interval_ms: 1000,
            wireguard_keepalive_s: 25,
            nodes: nodes.iter().map(|number| row(*number)).collect(),
            wireguard_key_max_age_ms: 0,
            identity_key_max_age_ms: 0,
            degraded_ends: Vec::new(),
            survive_forever_roles: Vec::new(),
            gone: Vec::new(),
            revocations: Default::default(),
            // Without memory every version is a new generation, so every leaf is a new one.
            leaves: BTreeMap::new(),
            limits: Limits::default(),
            loopback: rap_types::sense::Loopback::Refused,
        };
        let plan = plan(&rows, &MapKey::from_bytes([3; 32])).unwrap();
        let order =
            HeadOrder { incarnation: Incarnation(1), version: Version(version), refresh: Refresh(refresh) };
        Arc::new(Published {
            plan: Arc::new(plan),
            head: Arc::from([0; 4]),
            order,
            previous: None,
            issued_at: Wall(1),
            fresh_until: Wall(2),
        })
    }

    fn row(number: u8) -> NodeRow {
        NodeRow {
            node: node(number),
            name: format!("n{number}"),
            node_public_key: [number; 32],
            wireguard_public_key: [number; 32],
            organization: None,
            roles: Vec::new(),
            capabilities: Vec::new(),
            draining: false,
            tags: Vec::new(),
            region: String::new(),
            link_endpoints: Vec::new(),
            wireguard_endpoints: Vec::new(),
            host_number: number.into(),
            key_generation: 1,
        }
    }

    fn next(delivery: &mut Delivery, published: &Arc<Published>, seconds: u64) -> Step {
        delivery.next(published, WINDOW, 0.5, Mono(seconds * 1_000_000_000))
    }

    fn sent_update(step: Step) -> v1::SnapshotUpdate {
        match step {
            Step::Send(body) => match *body {
                Body::Update(update) => update,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_update_is_in_flight_and_the_next_is_against_what_was_acknowledged() {
        let (one, two, three) =
            (published(1, 0, &[1]), published(2, 0, &[1, 2]), published(3, 0, &[1, 2, 3]));
        let mut delivery = Delivery::new(node(1), None);
        assert!(sent_update(next(&mut delivery, &one, 0)).full);
        assert_eq!(next(&mut delivery, &two, 0), Step::Idle);
        let another = delivery.acknowledged(Digest::of(&[b"another"]), said(&one));
        assert_eq!(another, Acknowledged::Unasked);
        assert!(delivery.waits(), "an acknowledgement of something else counts for nothing");
        delivery.acknowledged(one.leaf_hash(node(1)).unwrap(), said(&one));
        assert_eq!(delivery.new_peers(), None, "all of them");
        // Version 2 came and went while the node was busy.
        let update = sent_update(next(&mut delivery, &three, 0));
        assert!(!update.full);
        assert_eq!(update.slots_set.len(), 2);
        delivery.acknowledged(three.leaf_hash(node(1)).unwrap(), said(&three));
        let mut new = delivery.new_peers().unwrap();
        new.sort_unstable();
        assert_eq!(new, [node(2), node(3)]);
        sent_update(next(&mut delivery, &published(4, 0, &[1, 3]), 0));
        delivery.acknowledged(
            published(4, 0, &[1, 3]).leaf_hash(node(1)).unwrap(),
            said(&published(4, 0, &[1, 3])),
        );
        assert_eq!(delivery.new_peers(), Some(Vec::new()), "its leaf changed, and nobody is new");
    }

    fn said(published: &Published) -> (Incarnation, Version) {
        published.order.durable()
    }

    #[test]
    fn what_a_node_holds_is_what_was_sent_whatever_it_says() {
        let one = published(1, 0, &[1]);
        let (leaf, max) = (one.leaf_hash(node(1)).unwrap(), (Incarnation(u64::MAX), Version(u64::MAX)));
        let mut delivery = Delivery::new(node(1), None);
        assert_eq!(delivery.acknowledged(leaf, said(&one)), Acknowledged::Unasked, "nothing was sent");
        sent_update(next(&mut delivery, &one, 0));
        assert_eq!(delivery.acknowledged(leaf, max), Acknowledged::Holds(one.order));
        for (version, expected) in [
            (max, Acknowledged::Unasked),
            (said(&one), Acknowledged::Holds(one.order)),
            ((Incarnation(0), Version(u64::MAX)), Acknowledged::Known),
        ] {
            assert_eq!(delivery.acknowledged(leaf, version), expected, "{version:?}");
        }
        // An equal leaf under a later head: acknowledged when the node has that head.
        let later =
            Arc::new(Published { order: HeadOrder { version: Version(2), ..one.order }, ..(*one).clone() });
        assert!(matches!(next(&mut delivery, &later, 0), Step::WaitUntil(_)));
        assert_eq!(delivery.acknowledged(leaf, said(&later)), Acknowledged::Unasked, "not sent yet");
        assert!(matches!(next(&mut delivery, &later, 100), Step::Send(_)));
        assert_eq!(delivery.acknowledged(leaf, said(&one)), Acknowledged::Known);
        assert_eq!(delivery.acknowledged(leaf, said(&later)), Acknowledged::Holds(later.order));
    }

    #[test]
    fn a_refused_leaf_waits_for_a_change_and_a_gap_is_filled_once() {
        let (one, two) = (published(1, 0, &[1]), published(2, 0, &[1, 2]));
        let mut delivery = Delivery::new(node(1), None);
        sent_update(next(&mut delivery, &one, 0));
        delivery.acknowledged(one.leaf_hash(node(1)).unwrap(), said(&one));
        assert!(!sent_update(next(&mut delivery, &two, 0)).full);
        delivery.refused(true);
        assert!(sent_update(next(&mut delivery, &two, 0)).full);
        delivery.refused(true);
        assert_eq!(next(&mut delivery, &two, 100), Step::Idle);
        let three = published(3, 0, &[1, 3]);
        assert!(matches!(next(&mut delivery, &three, 100), Step::Send(_)));
    }

    #[test]
    fn an_unchanged_leaf_gets_the_newest_head_once_in_its_place_of_the_window() {
        let one = published(1, 0, &[1]);
        let mut delivery = Delivery::new(node(1), one.leaf_hash(node(1)));
        assert!(matches!(next(&mut delivery, &one, 0), Step::Send(body) if matches!(*body, Body::Head(_))));
        assert_eq!(next(&mut delivery, &one, 0), Step::Idle);
        let refreshed = |refresh| {
            Arc::new(Published {
                order: HeadOrder { refresh: Refresh(refresh), ..one.order },
                ..(*one).clone()
            })
        };
        let due = Mono(25_000_000_000);
        assert_eq!(next(&mut delivery, &refreshed(1), 20), Step::WaitUntil(due));
        assert_eq!(next(&mut delivery, &refreshed(2), 24), Step::WaitUntil(due));
        assert!(matches!(next(&mut delivery, &refreshed(3), 25), Step::Send(_)));
        assert_eq!(next(&mut delivery, &refreshed(3), 25), Step::Idle);
    }

    #[test]
    fn a_node_outside_the_plan_is_gone() {
        let mut delivery = Delivery::new(node(9), None);
        assert_eq!(next(&mut delivery, &published(1, 0, &[1]), 0), Step::Gone);
    }
}
