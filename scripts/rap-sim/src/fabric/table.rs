//! A forwarding table in the words of the path core, as the data plane reads it.

use std::collections::{BTreeMap, BTreeSet};

use rap_link::path::{Carries, KnownEnd, PathPlan, PathTerms};
use rap_types::{Mono, NodeId, OrganizationId};
use rap_wire::v1;
use v1::{TableLink, TablePath};

/// What a data plane takes from its table.
#[derive(Debug, Clone)]
pub struct Facts {
    pub terms: PathTerms,
    pub plans: BTreeMap<NodeId, PathPlan>,
    /// Peers that this node dials.
    pub dialled: BTreeSet<NodeId>,
    /// Highest revoked key generation per node.
    pub revoked: BTreeMap<NodeId, u64>,
}

impl Facts {
    pub fn of(table: &v1::ForwardingTable) -> Self {
        let me = NodeId::from_slice(&table.node_id).unwrap_or(NodeId::ZERO);
        let deadline = if table.deadline_ns == 0 { Mono(u64::MAX) } else { Mono(table.deadline_ns) };
        let relays: Vec<_> = table.relays.iter().map(|relay| NodeId::from_slice(relay).ok()).collect();
        let path = |path: &TablePath| {
            let at = |position: &u32| relays.get(usize::try_from(*position).ok()?).copied().flatten();
            path.relays.iter().map(at).collect::<Option<Vec<_>>>()
        };
        let organization = |id: &[u8]| OrganizationId::from_slice(id).ok();
        let (mut known, mut plans, mut dialled) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for peer in &table.peers {
            let Ok(node) = NodeId::from_slice(&peer.node_id) else { continue };
            known.insert(node, KnownEnd { organization: organization(&peer.organization_id), deadline });
            if peer.link == i32::from(TableLink::Dial) {
                dialled.insert(node);
            }
            let passes = |relays: &Vec<NodeId>| !relays.contains(&me) && !relays.contains(&node);
            let [primary, backup] =
                [&peer.primary, &peer.backup].map(|one| one.as_ref().and_then(path).filter(passes));
            // As the data plane: the first path that makes sense is the primary one.
            let mut paths = primary.into_iter().chain(backup);
            if let Some(primary) = paths.next() {
                plans.insert(node, PathPlan { destination: node, primary, backup: paths.next() });
            }
        }
        let revoked = table
            .revoked
            .iter()
            .filter_map(|one| Some((NodeId::from_slice(&one.node_id).ok()?, one.key_generation)));
        let carries = table
            .relay
            .as_ref()
            .map(|relay| Carries { any_organization: relay.any_organization, draining: relay.draining });
        let terms = PathTerms {
            organization: organization(&table.organization_id),
            carries,
            lifetime_s: table.path_lifetime_s,
            instance: table.path_instance,
            deadline,
            known,
        };
        Self { terms, plans, dialled, revoked: revoked.collect() }
    }

    /// Whether this node may carry a path between these ends, or end it. Said again here, so that the core is compared
    /// with something.
    pub fn permits(&self, me: NodeId, source: NodeId, destination: NodeId) -> bool {
        let of = |node: NodeId| self.terms.known.get(&node).map(|known| known.organization);
        if me == destination {
            return of(source).is_some();
        }
        let Some((carries, one, other)) =
            self.terms.carries.zip(of(source)).zip(of(destination)).map(|((c, a), b)| (c, a, b))
        else {
            return false;
        };
        let own = self.terms.organization;
        carries.any_organization || (own.is_some() && one == own && other == own)
    }
}
