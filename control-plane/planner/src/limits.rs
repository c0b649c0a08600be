//! What a node's scope may come to, and what is left out when the rows come to more.
//!
//! Owns the choice. Every version is planned, whatever the rows hold: a limit that stopped a version would stop
//! the revocations in it. So what exceeds a limit is left out of the plan and named: nodes that no head has
//! named yet, and the endpoints of records above their fair share. A node that a head has named stays.
//!
//! Why this is sound: the choice is a function of the rows and of the leaves of the newest head, so every
//! replica leaves out the same. A next plan is made of changes only while nothing is left out.

use std::collections::BTreeMap;

use rap_types::limits::{TABLE_PEERS_MAX, UPDATE_BYTES_MAX};
use rap_types::{NodeId, OrganizationId, Reason};

/// Limits of one node's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Peers that one node may know.
    pub peers: usize,
    /// Bytes of an update that brings a whole snapshot.
    pub update_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { peers: TABLE_PEERS_MAX, update_bytes: UPDATE_BYTES_MAX }
    }
}

/// What a plan does not hold although the rows do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// The node: no head has named it yet.
    Node,
    /// The endpoints of its record.
    Endpoints,
}

impl LeftOut {
    /// Stable reason code.
    pub const fn reason(self) -> Reason {
        Reason::PlannerScopeTooLarge
    }
}

/// Peers of one organization, and what their records take in an update.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    peers: usize,
    bytes: usize,
}

impl Size {
    fn plus(self, other: Self) -> Self {
        Self { peers: self.peers + other.peers, bytes: self.bytes + other.bytes }
    }
}

/// The sizes of all scopes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sizes {
    /// By organization; `None` are the platform's own nodes.
    of: BTreeMap<Option<OrganizationId>, Size>,
    all: Size,
}

impl Sizes {
    /// Counts a member whose record takes `bytes`.
    pub(crate) fn add(&mut self, organization: Option<OrganizationId>, bytes: usize) {
        let one = Size { peers: 1, bytes };
        let of = self.of.entry(organization).or_default();
        *of = of.plus(one);
        self.all = self.all.plus(one);
    }

    /// The largest scope of any member, itself included.
    fn largest(&self) -> Size {
        let platform = self.of.get(&None).copied().unwrap_or_default();
        if platform.peers > 0 {
            return self.all;
        }
        let larger = |a: Size, b: Size| Size { peers: a.peers.max(b.peers), bytes: a.bytes.max(b.bytes) };
        self.of.values().copied().fold(Size::default(), larger)
    }

    /// Whether every scope is within the limits; `shared` are the bytes that every update has.
    pub(crate) fn within(&self, limits: Limits, shared: usize) -> bool {
        self.largest().peers.saturating_sub(1) <= limits.peers && self.bytes_within(limits, shared)
    }

    fn bytes_within(&self, limits: Limits, shared: usize) -> bool {
        self.largest().bytes + shared <= limits.update_bytes
    }
}

/// One candidate: whether a head has named it, its organization, and the bytes of its record whole and
/// without endpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    pub(crate) host_number: u32,
    pub(crate) named: bool,
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) whole: usize,
    pub(crate) short: usize,
}

/// What is left out of a plan of these members; nothing if all of them fit.
pub(crate) fn left_out(candidates: &[Candidate], limits: Limits, shared: usize) -> BTreeMap<NodeId, LeftOut> {
    let (mut left, mut sizes) = (BTreeMap::new(), Sizes::default());
    candidates.iter().for_each(|one| sizes.add(one.organization, one.whole));
    if sizes.within(limits, shared) {
        return left;
    }
    let mut sizes = Sizes::default();
    candidates.iter().filter(|one| one.named).for_each(|one| sizes.add(one.organization, one.whole));
    if !sizes.bytes_within(limits, shared) {
        let share = limits.update_bytes.saturating_sub(shared) / sizes.largest().peers.max(1);
        sizes = Sizes::default();
        for one in candidates.iter().filter(|one| one.named) {
            let shortened = one.whole > share;
            sizes.add(one.organization, if shortened { one.short } else { one.whole });
            if shortened {
                left.insert(one.node, LeftOut::Endpoints);
            }
        }
    }
    let mut new: Vec<&Candidate> = candidates.iter().filter(|one| !one.named).collect();
    new.sort_unstable_by_key(|one| one.host_number);
    for one in new {
        let mut with = sizes.clone();
        with.add(one.organization, one.whole);
        if with.within(limits, shared) {
            sizes = with;
        } else {
            left.insert(one.node, LeftOut::Node);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { peers: 3, update_bytes: 1000 };

    fn candidate(number: u8, named: bool, organization: Option<u8>, whole: usize) -> Candidate {
        Candidate {
            node: NodeId::from_bytes([number; 16]),
            host_number: number.into(),
            named,
            organization: organization.map(|byte| OrganizationId::from_bytes([byte; 16])),
            whole,
            short: whole.min(100),
        }
    }

    fn chosen(candidates: &[Candidate]) -> Vec<(u8, LeftOut)> {
        let left = left_out(candidates, LIMITS, 100);
        left.into_iter().map(|(node, what)| (node.as_bytes()[0], what)).collect()
    }

    #[test]
    fn what_fits_stays_whole_and_of_what_does_not_the_newest_nodes_wait() {
        let all =
            |count: u8, named| (1..=count).map(|n| candidate(n, n <= named, None, 100)).collect::<Vec<_>>();
        assert_eq!(chosen(&all(4, 0)), []);
        assert_eq!(chosen(&all(6, 0)), [(5, LeftOut::Node), (6, LeftOut::Node)]);
        assert_eq!(chosen(&all(6, 6)), [], "a node that a head has named stays");
    }

    #[test]
    fn organizations_count_apart_unless_the_platform_sees_all_of_them() {
        let apart: Vec<Candidate> = (1..=8).map(|n| candidate(n, false, Some(n % 2), 100)).collect();
        assert_eq!(chosen(&apart), []);
        let seen: Vec<Candidate> = apart.iter().copied().chain([candidate(9, false, None, 100)]).collect();
        assert_eq!(chosen(&seen), [(9, LeftOut::Node)]);
    }

    #[test]
    fn records_that_grew_lose_their_endpoints_and_no_node_is_cut_off() {
        let grown: Vec<Candidate> =
            (1..=4).map(|n| candidate(n, true, None, if n == 2 { 800 } else { 150 })).collect();
        assert_eq!(chosen(&grown), [(2, LeftOut::Endpoints)]);
    }
}
