//! Links that stand on an own leaf that was renewed, or on an authority that soon vouches no more, are made anew while
//! they are up.
//!
//! The node that dialled dials again, by itself or because the other asks: of two connections of one side the newer
//! stays, and the one before is read and emptied for a while, so no moment is without a link. A peer that has no other
//! leaf yet is dialled again later.

use std::sync::Arc;
use std::time::Duration;

use rap_link::{Lane, lane_request};
use rap_runtime::tls::fingerprint;
use rap_types::NodeId;

use crate::active::Renewal;
use crate::dial::dial;
use crate::shared::Shared;

/// Runs until the mesh ends.
pub(crate) async fn renew(shared: Arc<Shared>) {
    let end = shared.tasks.token();
    let mut link_peers = shared.link_peers.subscribe();
    loop {
        let former = link_peers.borrow_and_update().former;
        let leaf = shared.certificate.leaf().as_ref().map(fingerprint);
        let outdated = shared.registry.outdated(former, leaf);
        let waits = !outdated.is_empty();
        let renewed = outdated.into_iter().filter(|peer| shared.make_anew(*peer)).take(AT_ONCE).count();
        tracing::trace!(renewed, "links made anew");
        tokio::select! {
            () = end.cancelled() => return,
            changed = link_peers.changed() => if changed.is_err() { return },
            () = shared.identified.notified() => {}
            () = tokio::time::sleep(LOOK), if waits => {}
        }
    }
}

impl Shared {
    /// Dials the peer beside the present link, or asks it to. False if it is not the turn of this link.
    pub(crate) fn make_anew(self: &Arc<Self>, peer: NodeId) -> bool {
        match self.registry.take_renewal(peer, self.now().mono) {
            Some(Renewal::Dial(remote, stop)) => {
                let mut endpoints = self
                    .link_peers
                    .borrow()
                    .peers
                    .get(&peer)
                    .map_or_else(Vec::new, |peer| peer.endpoints.clone());
                if endpoints.is_empty() {
                    endpoints.extend(remote);
                }
                let shared = self.clone();
                self.tasks.spawn("link-renewed", async move {
                    dial(shared, peer, &endpoints, stop).await;
                });
                true
            }
            Some(Renewal::Ask(inbox)) => inbox.push(lane_request(Lane::A)).is_ok(),
            None => false,
        }
    }
}

/// Handshakes of one look.
const AT_ONCE: usize = 64;
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use rap_link::Direction;
    use rap_types::{Digest, Mono};
    use tokio::sync::{broadcast, mpsc};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::active::Active;
    use crate::inbox::Inbox;
    use crate::on_demand::Lanes;
    use crate::registry::Registry;

    const PEER: NodeId = NodeId::from_bytes([2; 16]);

    fn linked(direction: Direction, knows_lanes: bool, leaf: Digest) -> Registry {
        let registry = Registry::new(NodeId::from_bytes([1; 16]), broadcast::channel(1).0);
        registry.retain([PEER].iter(), Mono(0), &CancellationToken::new());
        let inbox = Arc::<Inbox>::default();
        let active = Active {
            rows: false,
            id: 1,
            direction,
            commands: mpsc::channel(1).0,
            replaced: CancellationToken::new(),
            stop: CancellationToken::new(),
            head: Bytes::new(),
            attached: false,
            session_id: [0; 16],
            remote: Some(SocketAddr::from(([127, 0, 0, 1], 7443))),
            inbox: Some(inbox.clone()),
            lanes: knows_lanes.then(|| Lanes::new(&CancellationToken::new(), inbox)),
            on_demand: None,
            leaf: Some(leaf),
            authorities: [Some(Digest::of(&[b"own"])), Some(Digest::of(&[b"theirs"]))],
        };
        assert!(registry.admit(PEER, Lane::A, active, Mono(0)).is_ok());
        registry
    }

    #[test]
    fn a_peer_that_asks_for_ever_makes_one_dial_per_turn_and_turns_become_rare() {
        let registry = linked(Direction::Outbound, true, Digest::of(&[b"leaf"]));
        let second = Duration::from_secs(1);
        let mut dials = Vec::new();
        for at in 0..200 {
            let now = Mono(0).plus(second * at);
            let made = (0..1000).filter(|_| registry.take_renewal(PEER, now).is_some()).count();
            dials.extend((made > 0).then_some((at, made)));
        }
        let once = [0, 3, 9, 21, 45, 93, 189].map(|at| (at, 1)).to_vec();
        assert_eq!(dials, once);
    }

    #[test]
    fn who_dialled_dials_again_and_who_was_dialled_asks_a_peer_that_knows_the_request() {
        let (before, leaf) = (Digest::of(&[b"before"]), Digest::of(&[b"leaf"]));
        let former = Some(Digest::of(&[b"theirs"]));
        for (direction, knows_lanes, by_leaf, by_authority) in [
            (Direction::Outbound, true, 1, 1),
            (Direction::Outbound, false, 1, 1),
            (Direction::Inbound, true, 1, 0),
            (Direction::Inbound, false, 0, 0),
        ] {
            let registry = linked(direction, knows_lanes, before);
            assert_eq!(registry.outdated(None, Some(leaf)).len(), by_leaf, "{direction:?} {knows_lanes}");
            assert_eq!(registry.outdated(former, Some(before)).len(), by_authority, "{direction:?}");
            assert_eq!(registry.outdated(None, Some(before)), vec![], "the present leaf");
            assert_eq!(registry.outdated(None, None), vec![], "no leaf to make it with");
            let renewal = registry.take_renewal(PEER, Mono(0));
            let fits = match direction {
                Direction::Outbound => matches!(renewal, Some(Renewal::Dial(Some(_), _))),
                Direction::Inbound => matches!(renewal, Some(Renewal::Ask(_))) == knows_lanes,
            };
            assert!(fits, "{direction:?} {knows_lanes}: {renewal:?}");
        }
    }
}
