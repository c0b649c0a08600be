//! What a snapshot says, read from the chunks that its manifest names and checked as a whole.
//!
//! Owns the carrying over of what the snapshot before it had verified already. Refuses to own heads,
//! proofs and leaves: the caller has verified the manifest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use rap_types::{Digest, NodeId, OrganizationId, Reason};
use rap_wire::v1;

use crate::chunk::{peer_of_slot, relays_of_slot};
use crate::shared_map::Spread;
use crate::{
    ASSIGNMENT_SLOT, ChunksById, Manifest, POLICY_SLOT, ParsedChunk, Reject, SharedMap, TRUST_SLOT,
    parse_chunk,
};

/// What a snapshot says, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotContents {
    /// Cluster CA and revocations.
    pub trust: Arc<v1::TrustChunk>,
    /// Cluster-wide limits.
    pub policy: Arc<v1::PolicyChunk>,
    /// The node's own duties and addresses.
    pub assignment: Arc<v1::NodeAssignment>,
    /// Peers by node id.
    pub peers: SharedMap<NodeId, Arc<v1::PeerRecord>>,
    /// Relays of the platform (`None`) and of organizations.
    pub relays: BTreeMap<Option<OrganizationId>, Arc<v1::RelaysChunk>>,
}

/// Contents that hold, and what of them no two nodes may have.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    contents: SnapshotContents,
    claims: SharedMap<Claim, ()>,
}

/// What exactly one node of a snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Address(IpAddr),
    WireguardKey([u8; 32]),
}

impl Spread for Claim {
    /// The last byte: host numbers differ there, and keys everywhere.
    fn bucket(&self) -> u8 {
        match self {
            Self::Address(IpAddr::V4(address)) => address.octets()[3],
            Self::Address(IpAddr::V6(address)) => address.octets()[15],
            Self::WireguardKey(key) => key[31],
        }
    }
}

impl Held {
    pub(crate) const fn contents(&self) -> &SnapshotContents {
        &self.contents
    }
}

/// Encoded chunks by id.
pub(crate) type Chunks = SharedMap<Digest, Arc<[u8]>>;

/// The snapshot before: its manifest, its chunks and what they say.
pub(crate) type Before<'a> = (&'a Manifest, &'a Chunks, &'a Held);

/// Contents in the making: what stays is carried over, what is new was read.
pub(crate) struct Draft {
    chunks: Chunks,
    trust: Option<Arc<v1::TrustChunk>>,
    policy: Option<Arc<v1::PolicyChunk>>,
    assignment: Option<Arc<v1::NodeAssignment>>,
    peers: SharedMap<NodeId, Arc<v1::PeerRecord>>,
    relays: BTreeMap<Option<OrganizationId>, Arc<v1::RelaysChunk>>,
    claims: SharedMap<Claim, ()>,
    /// Peers that were read, not carried over.
    new_peers: Vec<NodeId>,
    new_trust: bool,
    new_assignment: bool,
}

impl Draft {
    /// Carries over every slot that `before` has with the same chunk and reads the others from `offered`.
    ///
    /// # Errors
    /// `snapshot.chunk_missing`, `snapshot.chunk_invalid`, `snapshot.too_large`.
    pub(crate) fn between(
        before: Option<Before<'_>>,
        manifest: &Manifest,
        offered: &ChunksById,
    ) -> Result<Self, Reject> {
        let nothing = Manifest::new();
        let known = before.map_or(&nothing, |(manifest, _, _)| manifest);
        let mut draft = before.map_or_else(Self::empty, |(_, chunks, held)| Self::of(chunks, held));
        let changes = known.changes(manifest);
        // All that goes goes first: two peers may swap their addresses.
        for change in &changes {
            if let Some(chunk) = &change.before {
                draft.take_out(change.key, chunk);
            }
        }
        for change in &changes {
            let Some(id) = change.after else { continue };
            let bytes = offered.get(&id).ok_or(Reject::new(Reason::SnapshotChunkMissing, "chunk"))?;
            draft.read(change.key, id, bytes)?;
        }
        Ok(draft)
    }

    fn empty() -> Self {
        Self {
            chunks: SharedMap::new(),
            trust: None,
            policy: None,
            assignment: None,
            peers: SharedMap::new(),
            relays: BTreeMap::new(),
            claims: SharedMap::new(),
            new_peers: Vec::new(),
            new_trust: false,
            new_assignment: false,
        }
    }

    fn of(chunks: &Chunks, held: &Held) -> Self {
        let contents = held.contents.clone();
        Self {
            chunks: chunks.clone(),
            trust: Some(contents.trust),
            policy: Some(contents.policy),
            assignment: Some(contents.assignment),
            peers: contents.peers,
            relays: contents.relays,
            claims: held.claims.clone(),
            ..Self::empty()
        }
    }

    fn take_out(&mut self, slot: &str, chunk: &Digest) {
        // A chunk names its slot: no other slot has it.
        self.chunks.remove(chunk);
        match slot {
            TRUST_SLOT => self.trust = None,
            POLICY_SLOT => self.policy = None,
            ASSIGNMENT_SLOT => {
                if let Some(claims) = self.assignment.take().and_then(|own| claims_of_assignment(&own)) {
                    self.give_up(claims);
                }
            }
            _ => {
                if let Some(owner) = relays_of_slot(slot) {
                    self.relays.remove(&owner);
                }
                let peer = peer_of_slot(slot);
                let record = peer.and_then(|node| self.peers.remove(&node));
                if let Some(claims) = record.and_then(|record| claims_of_peer(&record)) {
                    self.give_up(claims);
                }
            }
        }
    }

    fn give_up(&mut self, claims: Claims) {
        for claim in claims.iter().flatten() {
            self.claims.remove(claim);
        }
    }

    fn read(&mut self, slot: &str, id: Digest, bytes: &Arc<[u8]>) -> Result<(), Reject> {
        match parse_chunk(slot, bytes)? {
            ParsedChunk::Trust(chunk) => {
                self.trust = Some(Arc::new(chunk));
                self.new_trust = true;
            }
            ParsedChunk::Policy(chunk) => self.policy = Some(Arc::new(chunk)),
            ParsedChunk::Assignment(chunk) => {
                self.assignment = Some(Arc::from(chunk));
                self.new_assignment = true;
            }
            ParsedChunk::Peer(node, chunk) => {
                self.peers.insert(node, Arc::from(chunk));
                self.new_peers.push(node);
            }
            ParsedChunk::Relays(owner, chunk) => {
                self.relays.insert(owner, Arc::new(chunk));
            }
            ParsedChunk::Unknown => {}
        }
        self.chunks.insert(id, bytes.clone());
        Ok(())
    }

    /// Checks that the whole makes sense for `node`. What was carried over made sense before, so only what
    /// is new can contradict it.
    ///
    /// # Errors
    /// `snapshot.semantic`, `snapshot.scope`.
    pub(crate) fn finish(mut self, node: NodeId) -> Result<(Chunks, Held), Reject> {
        let semantic = |what| Reject::new(Reason::SnapshotSemantic, what);
        let trust = self.trust.take().ok_or(semantic("no trust chunk"))?;
        let policy = self.policy.take().ok_or(semantic("no policy chunk"))?;
        let assignment = self.assignment.take().ok_or(semantic("no assignment chunk"))?;
        if assignment.node_id != node.as_bytes() {
            return Err(Reject::new(Reason::SnapshotScope, "assignment names another node"));
        }
        if self.peers.contains_key(&node) {
            return Err(semantic("the node is its own peer"));
        }
        if self.new_assignment {
            let claims = claims_of_assignment(&assignment).ok_or(semantic("assignment keys or addresses"))?;
            self.claim(claims)?;
        }
        for peer in std::mem::take(&mut self.new_peers) {
            let Some(record) = self.peers.get(&peer).cloned() else { continue };
            let claims = claims_of_peer(&record).ok_or(semantic("peer keys or addresses"))?;
            self.claim(claims)?;
            let position =
                trust.revoked.binary_search_by(|revoked| revoked.node_id.as_slice().cmp(peer.as_bytes()));
            if position.is_ok_and(|position| trust.revoked[position].key_generation >= record.key_generation)
            {
                return Err(semantic("a revoked node is a peer"));
            }
        }
        if self.new_trust && trust.revoked.iter().any(|revoked| self.is_peer(revoked)) {
            return Err(semantic("a revoked node is a peer"));
        }
        let contents = SnapshotContents { trust, policy, assignment, peers: self.peers, relays: self.relays };
        Ok((self.chunks, Held { contents, claims: self.claims }))
    }

    fn claim(&mut self, claims: Claims) -> Result<(), Reject> {
        for claim in claims.into_iter().flatten() {
            if self.claims.insert(claim, ()).is_some() {
                return Err(Reject::new(
                    Reason::SnapshotSemantic,
                    "two nodes share an address or a WireGuard key",
                ));
            }
        }
        Ok(())
    }

    fn is_peer(&self, revoked: &v1::RevokedNode) -> bool {
        let node = NodeId::from_slice(&revoked.node_id).ok();
        let record = node.and_then(|node| self.peers.get(&node));
        record.is_some_and(|record| revoked.key_generation >= record.key_generation)
    }
}

/// Two addresses and a key; a peer without a tunnel has no key.
type Claims = [Option<Claim>; 3];

fn claims_of_peer(peer: &v1::PeerRecord) -> Option<Claims> {
    claims(&peer.overlay_ipv4, &peer.overlay_ipv6, &peer.wireguard_public_key)
}

fn claims_of_assignment(own: &v1::NodeAssignment) -> Option<Claims> {
    let bare = |prefix: &'_ str| prefix.split('/').next().unwrap_or_default().to_owned();
    claims(&bare(&own.overlay_ipv4), &bare(&own.overlay_ipv6), &own.wireguard_public_key)
}

fn claims(ipv4: &str, ipv6: &str, wireguard_key: &[u8]) -> Option<Claims> {
    let address = |text: &str| text.parse().ok().map(Claim::Address);
    let key = match wireguard_key {
        [] => None,
        key => Some(Claim::WireguardKey(key.try_into().ok()?)),
    };
    Some([Some(address(ipv4)?), Some(address(ipv6)?), key])
}
