//! Paths through relays: what this node carries for others, and by which relays its peers are reached.
//!
//! Owns the checks of these fields. A peer names relays by their positions in the table's list, so that a path costs
//! a few bytes; a change may bring another list, therefore positions become ids when the devices are told.

use std::collections::{BTreeMap, BTreeSet};

use rap_mesh::{Carries, KnownEnd, PathTerms};
use rap_runtime::Fault;
use rap_types::{Mono, NodeId, OrganizationId};
use rap_wire::v1::{TablePath, TableRelay};

use super::field::{ensure, id, too_large};

/// What a header says of paths.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathFields {
    /// The relays that paths of peers name by position.
    relays: Vec<NodeId>,
    /// Absent: a node of the platform.
    organization: Option<OrganizationId>,
    /// Absent: this node carries nothing for others.
    carries: Option<Carries>,
    /// Most links with nodes that are no relays, if this node is one.
    pub(super) attachments: Option<usize>,
    /// How long a path of this node lives without a renewal, in seconds.
    lifetime_s: u32,
    /// Upper half of the generation of this node's paths.
    instance: u32,
}

/// The relays of one path, from this node on, by their positions in the table's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RelayPositions([Option<u16>; RELAYS_OF_A_PATH]);

impl PathFields {
    pub(super) fn read(
        relays: &[Vec<u8>],
        relay: Option<TableRelay>,
        organization: &[u8],
        lifetime_s: u32,
        instance: u32,
    ) -> Result<Self, Fault> {
        if relays.len() > RELAYS {
            return Err(too_large("relays", RELAYS));
        }
        let relays = relays.iter().map(|relay| id(NodeId::from_slice(relay), "relays"));
        let relays = relays.collect::<Result<Vec<_>, _>>()?;
        let different: BTreeSet<&NodeId> = relays.iter().collect();
        ensure(different.len() == relays.len(), || "relays: one appears twice".to_owned())?;
        let lifetime_s = if lifetime_s == 0 { LONGEST_S } else { lifetime_s };
        ensure((SHORTEST_S..=LONGEST_S).contains(&lifetime_s), || "path_lifetime_s: 10 to 600".to_owned())?;
        let attachments = relay.map(|relay| match relay.attachments_max {
            0 => ATTACHMENTS,
            most => usize::try_from(most).unwrap_or(usize::MAX),
        });
        let carries =
            relay.map(|relay| Carries { any_organization: relay.any_organization, draining: relay.draining });
        let organization = read_organization(organization)?;
        Ok(Self { relays, organization, carries, attachments, lifetime_s, instance })
    }

    /// The rules of paths in the words of the mesh.
    pub(super) fn terms(&self, deadline: Mono, known: BTreeMap<NodeId, KnownEnd>) -> PathTerms {
        let Self { organization, carries, lifetime_s, instance, .. } = *self;
        PathTerms { organization, carries, lifetime_s, instance, deadline, known }
    }

    /// Every relay that a path may name.
    pub(super) fn relays(&self) -> BTreeSet<NodeId> {
        self.relays.iter().copied().collect()
    }

    /// True if a link with the node is wanted by this node alone: no relay wants links with plain nodes.
    pub(super) fn wants_alone(&self, node: NodeId) -> bool {
        self.carries.is_none() && self.relays.contains(&node)
    }

    /// The relays of a path to `destination`. `None`: the list has no such position, or the path leads through this
    /// node or its own end.
    pub(super) fn relays_of(
        &self,
        path: RelayPositions,
        own: NodeId,
        destination: NodeId,
    ) -> Option<Vec<NodeId>> {
        let relays = path.0.iter().flatten().map(|position| self.relays.get(usize::from(*position)).copied());
        let relays = relays.collect::<Option<Vec<_>>>()?;
        (!relays.contains(&own) && !relays.contains(&destination)).then_some(relays)
    }
}

impl RelayPositions {
    /// Reads a path of a peer; the message of a refusal.
    pub(super) fn read(path: &TablePath) -> Result<Self, String> {
        let refused = || format!("path: 1 to {RELAYS_OF_A_PATH} different positions of relays");
        let different: BTreeSet<&u32> = path.relays.iter().collect();
        if !(1..=RELAYS_OF_A_PATH).contains(&path.relays.len()) || different.len() != path.relays.len() {
            return Err(refused());
        }
        let mut positions = [None; RELAYS_OF_A_PATH];
        for (slot, position) in positions.iter_mut().zip(&path.relays) {
            *slot = Some(u16::try_from(*position).map_err(|_| refused())?);
        }
        Ok(Self(positions))
    }
}

/// 16 bytes; none at all: a node of the platform.
pub(super) fn read_organization(bytes: &[u8]) -> Result<Option<OrganizationId>, Fault> {
    if bytes.is_empty() {
        return Ok(None);
    }
    id(OrganizationId::from_slice(bytes), "organization_id").map(Some)
}

/// A path has at most four hops, and the last one is its end.
const RELAYS_OF_A_PATH: usize = 3;
/// Far above the relays of a platform and of one organization.
const RELAYS: usize = 1024;
const SHORTEST_S: u32 = 10;
const LONGEST_S: u32 = 600;
const ATTACHMENTS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use rap_types::Reason;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn terms(relays: &[u8], lifetime_s: u32) -> Result<PathFields, Reason> {
        let relays: Vec<_> = relays.iter().map(|number| vec![*number; 16]).collect();
        PathFields::read(&relays, None, &[], lifetime_s, 7).map_err(|fault| fault.reason)
    }

    fn path(relays: &[u32]) -> Result<RelayPositions, String> {
        RelayPositions::read(&TablePath { relays: relays.to_vec() })
    }

    #[test]
    fn absent_fields_mean_the_defaults_and_what_contradicts_itself_is_refused() {
        let plain = terms(&[], 0).unwrap();
        assert_eq!((plain.organization, plain.carries, plain.lifetime_s), (None, None, LONGEST_S));
        assert_eq!(terms(&[], 10).unwrap().lifetime_s, SHORTEST_S);
        for refused in [terms(&[], 9), terms(&[], 601), terms(&[5, 6, 5], 0)] {
            assert_eq!(refused, Err(Reason::DataplaneTable));
        }
        let many = vec![vec![1; 16]; RELAYS + 1];
        let large = PathFields::read(&many, None, &[], 0, 0).map_err(|fault| fault.reason);
        assert_eq!(large, Err(Reason::DataplaneTableTooLarge));
        let relay = TableRelay { any_organization: true, ..Default::default() };
        let relay = PathFields::read(&[], Some(relay), &[4; 16], 0, 0).ok().unwrap();
        let carries = Carries { any_organization: true, draining: false };
        assert_eq!((relay.carries, relay.attachments), (Some(carries), Some(ATTACHMENTS)));
        assert_eq!(relay.organization, Some(OrganizationId::from_bytes([4; 16])));
        assert!(PathFields::read(&[], None, &[4; 15], 0, 0).is_err());
    }

    #[test]
    fn positions_become_relays_and_a_path_leads_through_neither_end() {
        let terms = terms(&[5, 6, 7], 0).unwrap();
        let of = |relays: &[u32]| terms.relays_of(path(relays).unwrap(), node(1), node(2));
        assert_eq!(of(&[2, 0]), Some(vec![node(7), node(5)]));
        assert_eq!(of(&[3]), None, "the list is shorter");
        assert_eq!(terms.relays_of(path(&[0, 1]).unwrap(), node(6), node(2)), None, "through this node");
        assert_eq!(terms.relays_of(path(&[0, 1]).unwrap(), node(1), node(5)), None, "through its end");
        assert!(terms.wants_alone(node(6)) && !terms.wants_alone(node(2)));
        for refused in [&[][..], &[0, 1, 2, 3], &[1, 1], &[70_000]] {
            assert!(path(refused).is_err(), "{refused:?}");
        }
    }
}
