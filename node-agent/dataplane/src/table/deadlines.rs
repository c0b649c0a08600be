//! How the deadlines of a table combine.

use rap_types::Mono;

use super::field::earliest;

/// The deadlines that everything in a table has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// Of the whole table.
    pub(super) table: Option<Mono>,
    /// Of this node's certificate.
    pub(super) leaf: Option<Mono>,
    /// Until when a break-glass grant keeps tunnels up.
    pub(super) grant: Option<Mono>,
}

impl Deadlines {
    /// When a link with a peer ends at the latest. Without a valid certificate of this node there is none.
    pub(super) fn of_link(self, peer: Option<Mono>, survives: bool) -> Mono {
        let table = self.table.filter(|_| !survives);
        earliest(earliest(peer, table), self.leaf).unwrap_or(Mono(u64::MAX))
    }

    /// When all tunnels end but those of peers that survive. A node whose certificate has ended may talk to
    /// nobody, except for what a break-glass grant keeps up.
    pub(super) fn of_tunnels(self) -> Option<Mono> {
        self.grant.or(earliest(self.table, self.leaf))
    }

    /// When the tunnel with a peer ends by itself. A peer that survives outlasts the table, never this node's
    /// certificate: a node that hears of no revocation would go on with a thief for ever.
    pub(super) fn of_tunnel(self, peer: Option<Mono>, survives: bool) -> Option<Mono> {
        earliest(peer, self.leaf.max(self.grant.filter(|_| self.leaf.is_some())).filter(|_| survives))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::field::deadline;

    #[test]
    fn the_earliest_deadline_that_applies_ends_a_link() {
        let at =
            |table: u64, leaf: u64| Deadlines { table: deadline(table), leaf: deadline(leaf), grant: None };
        let never = Mono(u64::MAX);
        assert_eq!(at(0, 0).of_link(None, false), never);
        assert_eq!(at(9, 0).of_link(None, false), Mono(9));
        assert_eq!(at(9, 0).of_link(None, true), never);
        assert_eq!(at(9, 7).of_link(None, true), Mono(7), "no link without a valid leaf");
        assert_eq!(at(9, 7).of_link(Some(Mono(5)), true), Mono(5));
        assert_eq!(at(4, 7).of_link(Some(Mono(5)), false), Mono(4));
    }

    /// When the tunnel with a peer of no deadline of its own ends, as the device reckons it.
    #[test]
    fn a_tunnel_that_survives_outlasts_the_table_and_ends_with_the_own_leaf_or_a_grant() {
        let end = |table: u64, leaf: u64, grant: u64, survives: bool| {
            let all = Deadlines { table: deadline(table), leaf: deadline(leaf), grant: deadline(grant) };
            let common = all.of_tunnels().filter(|_| !survives);
            earliest(all.of_tunnel(None, survives), common).map(|Mono(end)| end)
        };
        assert_eq!(
            (end(4, 7, 0, false), end(4, 7, 0, true)),
            (Some(4), Some(7)),
            "with the leaf, as a link does"
        );
        assert_eq!((end(9, 7, 0, false), end(9, 7, 0, true)), (Some(7), Some(7)));
        assert_eq!((end(9, 7, 9, false), end(9, 7, 9, true)), (Some(9), Some(9)), "a grant needs no leaf");
        assert_eq!((end(5, 7, 5, false), end(5, 7, 5, true)), (Some(5), Some(7)), "a grant shortens nothing");
        assert_eq!((end(4, 0, 0, false), end(4, 0, 0, true)), (Some(4), None), "a leaf without an end");
        let own = Deadlines { table: None, leaf: deadline(7), grant: None }.of_tunnel(Some(Mono(5)), true);
        assert_eq!(own, Some(Mono(5)), "its own deadline counts");
    }
}
