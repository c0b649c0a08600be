//! What a node's scope may come to, and what is left out when the rows come to more.
//!
//! Owns the choice. Every version is planned, whatever the rows hold: a limit that stopped a version would stop
//! the revocations in it. So what exceeds a limit is left out of the plan and named: nodes that no head has
//! named yet, and the endpoints of records above their fair share. A node that a head has named stays.
//!
//! Why this is sound: the choice is a function of the rows and of the leaves of the newest head, so every
//! replica leaves out the same. A next plan is made of changes only while nothing is left out.

use std::collections::BTreeMap;

use rap_types::limits::{PLAIN_PEERS_MAX, TABLE_PEERS_MAX, UPDATE_BYTES_MAX};
use rap_types::{NodeId, OrganizationId, Reason};

use crate::relays::Scope;

/// Limits of one node's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Peers that one node may know.
    pub peers: usize,
    /// Peers that a node without a role may know.
    pub plain_peers: usize,
    /// Bytes of an update that brings a whole snapshot.
    pub update_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { peers: TABLE_PEERS_MAX, plain_peers: PLAIN_PEERS_MAX, update_bytes: UPDATE_BYTES_MAX }
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

/// Peers of one owner, and what their records take in an update.
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

/// What counts of a member, and the bytes of its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) organization: Option<OrganizationId>,
    pub(crate) relays: bool,
    pub(crate) has_role: bool,
}

/// The sizes of all scopes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sizes {
    /// By scope of the members, and whether one of them has no role.
    of: BTreeMap<Option<OrganizationId>, (Size, bool)>,
    /// Relays of the platform: everybody knows them, and they know everybody.
    platform_relays: Size,
    all: Size,
}

impl Sizes {
    /// Counts a member whose record takes `bytes`.
    pub(crate) fn add(&mut self, kind: Kind, bytes: usize) {
        let one = Size { peers: 1, bytes };
        self.all = self.all.plus(one);
        if Scope::of(kind.organization, kind.relays) == Scope::All {
            self.platform_relays = self.platform_relays.plus(one);
            return;
        }
        let (size, is_plain) = self.of.entry(kind.organization).or_default();
        *size = size.plus(one);
        *is_plain |= !kind.has_role;
    }

    /// The largest scope of any member, itself included.
    fn largest(&self) -> Size {
        if self.platform_relays.peers > 0 {
            return self.all;
        }
        let larger = |a: Size, b: Size| Size { peers: a.peers.max(b.peers), bytes: a.bytes.max(b.bytes) };
        self.of.values().map(|(size, _)| *size).fold(Size::default(), larger)
    }

    /// The peers that a member without a role knows, at most, itself included.
    fn largest_plain(&self) -> usize {
        let plain = self.of.values().filter(|(_, is_plain)| *is_plain);
        plain.map(|(size, _)| size.peers + self.platform_relays.peers).max().unwrap_or_default()
    }

    /// Whether every scope is within the limits; `shared` are the bytes that every update has.
    pub(crate) fn within(&self, limits: Limits, shared: usize) -> bool {
        self.largest().peers.saturating_sub(1) <= limits.peers
            && self.largest_plain().saturating_sub(1) <= limits.plain_peers
            && self.bytes_within(limits, shared)
    }

    fn bytes_within(&self, limits: Limits, shared: usize) -> bool {
        self.largest().bytes + shared <= limits.update_bytes
    }
}

/// One candidate: whether a head has named it, what counts of it, and the bytes of its record whole and without
/// endpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    pub(crate) host_number: u32,
    pub(crate) named: bool,
    pub(crate) kind: Kind,
    pub(crate) whole: usize,
    pub(crate) short: usize,
}

/// What is left out of a plan of these members; nothing if all of them fit.
pub(crate) fn left_out(candidates: &[Candidate], limits: Limits, shared: usize) -> BTreeMap<NodeId, LeftOut> {
    let (mut left, mut sizes) = (BTreeMap::new(), Sizes::default());
    candidates.iter().for_each(|one| sizes.add(one.kind, one.whole));
    if sizes.within(limits, shared) {
        return left;
    }
    let mut sizes = Sizes::default();
    candidates.iter().filter(|one| one.named).for_each(|one| sizes.add(one.kind, one.whole));
    if !sizes.bytes_within(limits, shared) {
        let share = limits.update_bytes.saturating_sub(shared) / sizes.largest().peers.max(1);
        sizes = Sizes::default();
        for one in candidates.iter().filter(|one| one.named) {
            let shortened = one.whole > share;
            sizes.add(one.kind, if shortened { one.short } else { one.whole });
            if shortened {
                left.insert(one.node, LeftOut::Endpoints);
            }
        }
    }
    let mut new: Vec<&Candidate> = candidates.iter().filter(|one| !one.named).collect();
    new.sort_unstable_by_key(|one| one.host_number);
    for one in new {
        let mut with = sizes.clone();
        with.add(one.kind, one.whole);
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

    const LIMITS: Limits = Limits { peers: 3, plain_peers: 2, update_bytes: 1000 };

    fn candidate(number: u8, named: bool, organization: Option<u8>, whole: usize) -> Candidate {
        Candidate {
            node: NodeId::from_bytes([number; 16]),
            host_number: number.into(),
            named,
            kind: Kind {
                organization: organization.map(|byte| OrganizationId::from_bytes([byte; 16])),
                relays: false,
                has_role: true,
            },
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
        let plain = candidate(9, false, None, 100);
        assert_eq!(
            chosen(&[&apart[..], &[plain]].concat()),
            [],
            "the platform's other nodes see none of them"
        );
        let relay = Candidate { kind: Kind { relays: true, ..plain.kind }, ..plain };
        assert_eq!(chosen(&[&apart[..], &[relay]].concat()), [(9, LeftOut::Node)]);
    }

    #[test]
    fn a_node_without_a_role_knows_fewer_peers() {
        let with_role: Vec<Candidate> = (1..=4).map(|n| candidate(n, false, None, 100)).collect();
        assert_eq!(chosen(&with_role), []);
        let mut plain = with_role;
        plain[1].kind.has_role = false;
        assert_eq!(chosen(&plain), [(4, LeftOut::Node)]);
    }

    #[test]
    fn records_that_grew_lose_their_endpoints_and_no_node_is_cut_off() {
        let grown: Vec<Candidate> =
            (1..=4).map(|n| candidate(n, true, None, if n == 2 { 800 } else { 150 })).collect();
        assert_eq!(chosen(&grown), [(2, LeftOut::Endpoints)]);
    }
}
