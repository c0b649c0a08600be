//! Home relays: where a node can be found while nobody can be asked.
//!
//! Owns the order. Every node computes the same one from what is signed, so a destination is linked with the relays
//! at which a source looks for it.

use std::cmp::Reverse;

use rap_types::{Digest, NodeId};

/// A relay that may serve a node, as far as the order of homes needs it.
#[derive(Debug, Clone, Copy)]
pub struct HomeRelay<'a> {
    /// The relay.
    pub node: NodeId,
    /// Its region.
    pub region: &'a str,
    /// It leaves.
    pub draining: bool,
}

/// The relays, which are those that may serve `node`, from its first home on: those of its region first if there are
/// two, and those that drain last. The node itself is left out.
pub fn homes<'a>(node: NodeId, region: &str, relays: impl IntoIterator<Item = HomeRelay<'a>>) -> Vec<NodeId> {
    let relays: Vec<_> = relays.into_iter().collect();
    let stays_near = |relay: &HomeRelay<'_>| !relay.draining && relay.region == region;
    let near = relays.iter().filter(|relay| stays_near(relay)).count() >= 2;
    let others = relays.iter().filter(|relay| relay.node != node);
    let mut order: Vec<_> = others
        .map(|relay| {
            ((relay.draining, near && !stays_near(relay), Reverse(rank(node, relay.node))), relay.node)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, relay)| relay).collect()
}

/// Rendezvous hash: a relay that comes or goes moves only the nodes of which it is a home.
fn rank(node: NodeId, relay: NodeId) -> Digest {
    Digest::of(&[b"rap.home.v1\0", node.as_bytes(), relay.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(number: u8, region: &'static str) -> HomeRelay<'static> {
        HomeRelay { node: NodeId::from_bytes([number; 16]), region, draining: false }
    }

    fn order(node: u8, region: &str, relays: &[HomeRelay<'static>]) -> Vec<u8> {
        let homes = homes(NodeId::from_bytes([node; 16]), region, relays.iter().copied());
        homes.iter().map(|relay| relay.as_bytes()[0]).collect()
    }

    #[test]
    fn the_order_is_a_function_of_what_is_signed() {
        let mut relays: Vec<_> = (1..=5).map(|number| relay(number, "")).collect();
        let first = order(100, "", &relays);
        relays.reverse();
        assert_eq!(order(100, "", &relays), first, "whatever the order of the relays");
        // The digests are part of the protocol: releases must agree on them.
        assert_eq!(first, [2, 3, 1, 5, 4]);
        let firsts: std::collections::BTreeSet<u8> =
            (50..100).map(|node| order(node, "", &relays)[0]).collect();
        assert_eq!(firsts.len(), 5, "every relay is somebody's first home");
    }

    #[test]
    fn a_relay_that_goes_moves_only_those_of_whom_it_was_a_home() {
        let relays: Vec<_> = (1..=5).map(|number| relay(number, "")).collect();
        for node in 50..100 {
            let (before, after) = (order(node, "", &relays), order(node, "", &relays[1..]));
            assert_eq!(before.into_iter().filter(|relay| *relay != 1).collect::<Vec<_>>(), after);
        }
    }

    #[test]
    fn the_own_region_comes_first_if_it_has_two_and_who_drains_comes_last() {
        let mut relays = vec![relay(1, "a"), relay(2, "b"), relay(3, "a"), relay(4, "b"), relay(5, "c")];
        for node in 50..100 {
            let near = |region| order(node, region, &relays)[..2].to_vec();
            let sorted = |mut two: Vec<u8>| {
                two.sort_unstable();
                two
            };
            assert_eq!((sorted(near("a")), sorted(near("b"))), (vec![1, 3], vec![2, 4]));
            assert_eq!(order(node, "c", &relays), order(node, "", &relays), "one is not enough");
        }
        relays[0].draining = true;
        for node in 50..100 {
            assert_eq!(order(node, "a", &relays)[4], 1);
            assert_eq!(
                order(node, "a", &relays)[..4],
                order(node, "", &relays)[..4],
                "region a has one left"
            );
        }
    }

    #[test]
    fn a_relay_is_no_home_of_itself() {
        assert_eq!(order(1, "", &[relay(1, ""), relay(2, "")]), [2]);
    }
}
