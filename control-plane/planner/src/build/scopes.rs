//! What the nodes of one scope hold in common: the base of their manifests.
//!
//! Owns which members relay, the scope of each member, and the revision of a base. Refuses to own the rule behind
//! a scope (relays).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rap_contract::{Manifest, peer_slot};
use rap_types::{Digest, NodeId, OrganizationId};
use rap_wire::v1;

use super::Draft;
use crate::chunks;
use crate::limits::{Kind, Sizes};
use crate::plan::Member;
use crate::relays::{self, Offer, Scope};

/// Slots that are no records: owner, slot, chunk.
pub(super) type Shared = Vec<(Option<OrganizationId>, String, Digest)>;

impl Draft<'_> {
    pub(super) fn is_within_limits(&self) -> bool {
        let (relays, mut sizes, mut bytes) = (self.chosen(), Sizes::default(), self.common_bytes());
        for (node, member) in self.members.iter() {
            let offer = member.offer.as_ref().filter(|_| relays.contains(node));
            bytes += offer.map_or(0, Offer::cost);
            let (organization, has_role) = (member.organization, member.has_role);
            sizes.add(Kind { organization, relays: offer.is_some(), has_role }, member.cost);
        }
        sizes.within(self.rows.limits, bytes)
    }

    /// The members that relay.
    pub(super) fn chosen(&self) -> BTreeSet<NodeId> {
        let offering = self.members.iter().filter(|(_, member)| member.offer.is_some());
        relays::chosen(offering.map(|(node, member)| (*node, member.organization, member.host_number)))
    }

    pub(super) fn scope(&self, node: NodeId, member: &Member) -> Scope {
        Scope::of(member.organization, member.offer.is_some() && self.relays.contains(&node))
    }

    /// The chunks that are no records take the place of the base's.
    pub(super) fn shared(&mut self) -> Shared {
        for (_, _, id) in self.base.iter().flat_map(|base| &base.shared) {
            self.chunks.remove(id);
        }
        let mut relays: BTreeMap<Option<OrganizationId>, BTreeMap<&NodeId, &Offer>> = BTreeMap::new();
        for (node, member) in self.relays.iter().filter_map(|node| Some((node, self.members.get(node)?))) {
            if let Some(offer) = &member.offer {
                relays.entry(member.organization).or_default().insert(node, offer);
            }
        }
        let relays = relays
            .into_iter()
            .map(|(owner, offers)| (owner, chunks::relays(owner, relays::chunk_body(offers.into_iter()))));
        let common = self.common.iter().map(|chunk| (None, chunk.clone()));
        let shared: Vec<_> = common.chain(relays).collect();
        for (_, chunk) in &shared {
            self.chunks.insert(chunk.id, chunk.bytes.clone());
        }
        shared.into_iter().map(|(owner, chunk)| (owner, chunk.slot, chunk.id)).collect()
    }

    /// The base manifest of each scope that has a member.
    pub(super) fn bases(&self, shared: &Shared) -> BTreeMap<Scope, Arc<Manifest>> {
        let scopes: BTreeSet<Scope> =
            self.members.iter().map(|(node, member)| self.scope(*node, member)).collect();
        let base = |scope| match self.base.and_then(|base| base.bases.get(&scope)) {
            Some(known) => (scope, self.revised(scope, shared, known)),
            None => (scope, Arc::new(self.base_of(scope, shared))),
        };
        scopes.into_iter().map(base).collect()
    }

    fn base_of(&self, scope: Scope, shared: &Shared) -> Manifest {
        let seen = self.members.iter().filter(|(node, member)| scope.sees(self.scope(**node, member)));
        let peers = seen.map(|(node, member)| (peer_slot(*node), member.peer));
        let held = shared.iter().filter(|(owner, _, _)| scope.holds(*owner));
        Manifest::from_slots(held.map(|(_, slot, id)| (slot.clone(), *id)).chain(peers))
    }

    /// The base of a scope with what changed in it; the same one if nothing did.
    fn revised(&self, scope: Scope, shared: &Shared, known: &Arc<Manifest>) -> Arc<Manifest> {
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        let mut put = |key: String, chunk: Option<Digest>| match (chunk, known.chunk(&key)) {
            (Some(chunk), before) if before != Some(chunk) => {
                set.push(v1::Slot { key, chunk_id: chunk.to_vec() });
            }
            (None, Some(_)) => removed.push(key),
            (Some(_) | None, _) => {}
        };
        let before = self.base.iter().flat_map(|base| &base.shared);
        for (_, slot, _) in before.filter(|(_, slot, _)| !shared.iter().any(|(_, now, _)| now == slot)) {
            put(slot.clone(), None);
        }
        for (_, slot, id) in shared.iter().filter(|(owner, _, _)| scope.holds(*owner)) {
            put(slot.clone(), Some(*id));
        }
        for node in &self.touched {
            let member = self.members.get(node).filter(|member| scope.sees(self.scope(*node, member)));
            put(peer_slot(*node), member.map(|member| member.peer));
        }
        if set.is_empty() && removed.is_empty() {
            return known.clone();
        }
        set.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        removed.sort_unstable();
        Arc::new(known.apply(&set, &removed).unwrap_or_else(|_| self.base_of(scope, shared)))
    }
}
