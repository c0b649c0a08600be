//! Which of the known peers are dialled: all of them as long as they fit into the active set.
//!
//! Owns the choice where they do not: peers that survive for ever first, then in the order of SHA-256 over both ids,
//! which is the same at both ends, so that most dials meet a peer that wants the same link. The others are accepted.

use rap_types::{Digest, NodeId, limits};
use rap_wire::v1::{TableLink, TablePeer};

/// Marks the peers of a table.
pub(super) fn mark(peers: &mut [TablePeer], own: NodeId) {
    if peers.len() <= limits::ACTIVE_SET_MAX {
        return;
    }
    let rank = |peer: &TablePeer| (!peer.survive_forever, between(own.as_bytes(), &peer.node_id));
    let mut order: Vec<_> = peers.iter().enumerate().map(|(index, peer)| (rank(peer), index)).collect();
    order.sort_unstable();
    for (_, index) in order.split_off(limits::ACTIVE_SET_MAX) {
        peers[index].link = TableLink::Accept.into();
    }
}

fn between(one: &[u8], other: &[u8]) -> Digest {
    let (smaller, larger) = if one < other { (one, other) } else { (other, one) };
    Digest::of(&[b"rap.links.v1\0", smaller, larger])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(count: u16) -> Vec<TablePeer> {
        let id = |number: u16| [&[7; 14][..], &number.to_be_bytes()].concat();
        (0..count).map(|number| TablePeer { node_id: id(number), ..Default::default() }).collect()
    }

    fn dialled(peers: &[TablePeer]) -> usize {
        peers.iter().filter(|peer| peer.link() == TableLink::Dial).count()
    }

    #[test]
    fn everybody_is_dialled_up_to_the_active_set_and_nobody_is_refused_above_it() {
        let own = NodeId::from_bytes([1; 16]);
        let most = u16::try_from(limits::ACTIVE_SET_MAX).unwrap();
        let (mut few, mut many) = (peers(most), peers(most * 3));
        many[900].survive_forever = true;
        mark(&mut few, own);
        mark(&mut many, own);
        assert_eq!((dialled(&few), dialled(&many)), (few.len(), few.len()));
        assert_eq!(many[900].link(), TableLink::Dial);
        assert!(many.iter().all(|peer| peer.link() != TableLink::None));
    }

    #[test]
    fn the_order_is_the_same_at_both_ends() {
        let all = peers(3);
        let (one, other) = (&all[0].node_id, &all[1].node_id);
        assert_eq!(between(one, other), between(other, one));
        assert_ne!(between(one, other), between(one, &all[2].node_id));
    }
}
