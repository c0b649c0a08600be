//! Who relays for whom, and what nodes are told of it.
//!
//! Owns the rule: a relay of the platform may carry for everybody, one of an organization only between two nodes
//! of that organization. From it follows who knows whom. Refuses to own which relay a node uses.

use std::collections::{BTreeMap, BTreeSet};

use rap_contract::RELAYS_MAX;
use rap_types::{Capability, NodeId, OrganizationId, Role, sense};
use rap_wire::v1;

use crate::{ClusterRows, NodeRow};

/// What a relay says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) region: String,
    pub(crate) draining: bool,
}

impl Offer {
    /// The offer of a node that can relay: it has a role for it, its host can route, and it can be dialled.
    pub(crate) fn of(rows: &ClusterRows, node: &NodeRow) -> Option<Self> {
        let has_role = node.roles.iter().any(|role| matches!(role, Role::RelayNode | Role::Core));
        let routes = node.capabilities.contains(&Capability::RouteMesh);
        let is_dialled = node.link_endpoints.iter().any(|one| sense::endpoint(one, rows.loopback).is_ok());
        (has_role && routes && is_dialled)
            .then(|| Self { region: node.region.clone(), draining: node.draining })
    }

    /// Bytes of its entry, at most.
    pub(crate) fn cost(&self) -> usize {
        self.region.len() + ENTRY
    }
}

/// Tags, lengths, node id and flag of an entry, and its part of the slot and the chunk around it.
const ENTRY: usize = 128;

/// The relays among those that offer it: of the platform, and of each organization, those with the lowest host
/// numbers.
pub(crate) fn chosen(
    offers: impl Iterator<Item = (NodeId, Option<OrganizationId>, u32)>,
) -> BTreeSet<NodeId> {
    let mut by_owner: BTreeMap<Option<OrganizationId>, BTreeSet<(u32, NodeId)>> = BTreeMap::new();
    for (node, owner, host_number) in offers {
        by_owner.entry(owner).or_default().insert((host_number, node));
    }
    let first = |offers: BTreeSet<(u32, NodeId)>| offers.into_iter().take(RELAYS_MAX);
    by_owner.into_values().flat_map(first).map(|(_, node)| node).collect()
}

/// What the relays of one owner are told as.
pub(crate) fn chunk_body<'a>(relays: impl Iterator<Item = (&'a NodeId, &'a Offer)>) -> v1::RelaysChunk {
    let entry = |(node, offer): (&NodeId, &Offer)| v1::RelayEntry {
        node_id: node.to_vec(),
        region: offer.region.clone(),
        draining: offer.draining,
    };
    v1::RelaysChunk { relays: relays.map(entry).collect() }
}

/// Whose records, and whose relays, the nodes of one group hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Of everybody: the scope of a relay of the platform.
    All,
    /// Of one organization, or of the platform for `None`, and of the platform's relays.
    Of(Option<OrganizationId>),
}

impl Scope {
    /// The scope of a node.
    pub(crate) const fn of(organization: Option<OrganizationId>, relays: bool) -> Self {
        if relays && organization.is_none() { Self::All } else { Self::Of(organization) }
    }

    /// Whether its nodes know a node of this scope.
    pub(crate) fn sees(self, other: Self) -> bool {
        self == other || self == Self::All || other == Self::All
    }

    /// Whether its nodes hold what is told of an owner's relays; `None` is the platform.
    pub(crate) fn holds(self, owner: Option<OrganizationId>) -> bool {
        owner.is_none() || self == Self::All || self == Self::Of(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_offers_than_a_chunk_takes_leave_the_lowest_host_numbers() {
        let node = |number: u32| NodeId::from_bytes([number as u8; 16]);
        let offers = |numbers: std::ops::Range<u32>, owner| numbers.map(move |n| (node(n), owner, 200 - n));
        let most = RELAYS_MAX as u32;
        let one = Some(OrganizationId::from_bytes([9; 16]));
        let chosen = chosen(offers(0..most + 2, None).chain(offers(150..160, one)));
        assert_eq!(chosen.len(), RELAYS_MAX + 10);
        assert!(!chosen.contains(&node(0)) && !chosen.contains(&node(1)));
    }
}
