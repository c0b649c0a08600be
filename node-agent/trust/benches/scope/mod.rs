//! A node's scope of any size, and updates that change one peer at a time, signed as its authority would.
//!
//! Owns the fixture of the acceptor's measurements. Refuses to own what is measured.

use std::sync::Arc;

use prost::Message as _;
use rap_contract::{
    ASSIGNMENT_SLOT, Audience, AuthorityChain, HeaderTerms, Manifest, POLICY_SLOT, Signer, TRUST_SLOT,
    chunk_id, leaf_hash, peer_slot, root_from_proof, sign,
};
use rap_trust::{Acceptor, Floors, Input, Output, Pinned};
use rap_types::{ClusterId, Digest, Incarnation, InstallationId, Mono, NodeId, Now, Wall};
use rap_wire::v1;
use v1::chunk::Body;

/// When everything here happens.
pub const NOW: Now = Now { mono: Mono(1_000_000_000), wall: Wall(1_800_000_000_000) };

const INSTALLATION: InstallationId = InstallationId::from_bytes([1; 16]);
const CLUSTER: ClusterId = ClusterId::from_bytes([2; 16]);
const NODE: NodeId = NodeId::from_bytes([0xff; 16]);
const SALT: [u8; 32] = [7; 32];
const POSITION: u64 = 1;
/// Slots every node has: trust, policy, assignment.
const OWN_SLOTS: u32 = 3;

/// The authority's side of one node's scope.
pub struct Scope {
    authority: Signer,
    identity: Signer,
    peers: u32,
    siblings: Vec<Digest>,
    manifest: Manifest,
    version: u64,
    turn: u32,
}

impl Scope {
    /// A scope of `slots` slots, of which all but three are peers.
    pub fn new(slots: u32) -> Self {
        let depth = slots.next_power_of_two().trailing_zeros().max(1);
        Self {
            authority: Signer::from_seed(&[3; 32]),
            identity: Signer::from_seed(&[4; 32]),
            peers: slots - OWN_SLOTS,
            siblings: (0..depth).map(|level| Digest::of(&[&level.to_be_bytes()])).collect(),
            manifest: Manifest::new(),
            version: 0,
            turn: 0,
        }
    }

    /// A node that has accepted the whole scope.
    pub fn acceptor(&mut self) -> Acceptor {
        let mut acceptor = self.empty_acceptor();
        let whole = self.whole();
        apply(&mut acceptor, whole);
        acceptor
    }

    /// A node that has accepted nothing yet.
    pub fn empty_acceptor(&self) -> Acceptor {
        let installation_authority = Signer::from_seed(&[6; 32]);
        let record = v1::AuthorityRecord {
            header: Some(
                HeaderTerms {
                    installation: INSTALLATION,
                    cluster: CLUSTER,
                    audience: Audience::Cluster(CLUSTER),
                    issuer: installation_authority.id(),
                    incarnation: 1,
                    sequence: 1,
                    issued_at: NOW.wall,
                    expires_at: None,
                    critical: Vec::new(),
                }
                .to_wire(),
            ),
            kind: v1::authority_record::Kind::Create.into(),
            authority_key: self.authority.public().to_vec(),
            previous_record_digest: Vec::new(),
        };
        let records = [sign(&record, &[&installation_authority, &self.authority])];
        let vouching = installation_authority.public();
        let chain = AuthorityChain::verify(&records, &vouching, INSTALLATION, CLUSTER, &[]).unwrap();
        let pinned = Pinned {
            installation: INSTALLATION,
            cluster: CLUSTER,
            node: NODE,
            node_key: self.identity.id(),
            wireguard_key: [5; 32],
            installation_authority: installation_authority.public(),
            chain: Arc::new(chain),
            former: None,
            addresses: None,
            accept_dev: false,
        };
        Acceptor::start(pinned, Floors::initial(Incarnation(1)), &[], NOW)
    }

    /// The update that gives everything to a node with nothing.
    pub fn whole(&mut self) -> v1::SnapshotUpdate {
        let mut chunks = vec![trust(), policy(), self.assignment()];
        chunks.extend((0..self.peers).map(|peer| peer_record(peer, 0)));
        let slots = chunks.iter().map(|chunk| (chunk.slot.clone(), id_of(chunk)));
        self.manifest = Manifest::from_slots(slots);
        let slots = self.manifest.to_wire();
        self.update(true, slots, chunks)
    }

    /// The next update: one peer's record changes.
    pub fn change(&mut self) -> v1::SnapshotUpdate {
        self.turn += 1;
        let chunk = peer_record(self.turn % self.peers, self.turn);
        let slots = vec![v1::Slot { key: chunk.slot.clone(), chunk_id: id_of(&chunk).to_vec() }];
        self.manifest = self.manifest.apply(&slots, &[] as &[&str]).expect("one sorted slot");
        self.update(false, slots, vec![chunk])
    }

    /// The next update: so many nodes joined.
    pub fn join(&mut self, nodes: u32) -> v1::SnapshotUpdate {
        let mut chunks: Vec<_> = (self.peers..self.peers + nodes).map(|peer| peer_record(peer, 0)).collect();
        chunks.sort_unstable_by(|one, other| one.slot.cmp(&other.slot));
        self.peers += nodes;
        let slot = |chunk: &v1::Chunk| v1::Slot { key: chunk.slot.clone(), chunk_id: id_of(chunk).to_vec() };
        let slots: Vec<_> = chunks.iter().map(slot).collect();
        self.manifest = self.manifest.apply(&slots, &[] as &[&str]).expect("sorted slots");
        self.update(false, slots, chunks)
    }

    fn update(&mut self, full: bool, slots_set: Vec<v1::Slot>, chunks: Vec<v1::Chunk>) -> v1::SnapshotUpdate {
        self.version += 1;
        let leaf = leaf_hash(CLUSTER, NODE, self.version, &self.manifest.root(), &SALT);
        let tree_size = 1 << self.siblings.len();
        let root = root_from_proof(leaf, POSITION, tree_size, &self.siblings).expect("one hash per level");
        v1::SnapshotUpdate {
            head: sign(&self.head(tree_size, root), &[&self.authority]),
            leaf: Some(v1::Leaf {
                node_id: NODE.to_vec(),
                node_generation: self.version,
                salt: SALT.to_vec(),
            }),
            proof: Some(v1::InclusionProof {
                position: POSITION,
                hashes: self.siblings.iter().map(|hash| hash.to_vec()).collect(),
            }),
            full,
            slots_set,
            slots_removed: Vec::new(),
            chunks: chunks.iter().map(v1::Chunk::encode_to_vec).collect(),
        }
    }

    fn head(&self, tree_size: u64, root: Digest) -> v1::ClusterHead {
        let header = HeaderTerms {
            installation: INSTALLATION,
            cluster: CLUSTER,
            audience: Audience::Cluster(CLUSTER),
            issuer: self.authority.id(),
            incarnation: 1,
            sequence: self.version,
            issued_at: NOW.wall,
            expires_at: None,
            critical: Vec::new(),
        };
        v1::ClusterHead {
            header: Some(header.to_wire()),
            incarnation: 1,
            version: self.version,
            refresh: 0,
            tree_size,
            root: root.to_vec(),
            previous_head: Vec::new(),
            fresh_until_ms: NOW.wall.0 + 300_000,
            reconnect_window_ms: 5_000,
        }
    }

    fn assignment(&self) -> v1::Chunk {
        let body = v1::NodeAssignment {
            node_id: NODE.to_vec(),
            name: "node".into(),
            roles: vec!["core".into()],
            overlay_ipv4: "100.96.255.1/16".into(),
            overlay_ipv6: "fd00::ffff/48".into(),
            wireguard_public_key: vec![5; 32],
            node_key_sha256: self.identity.id().to_vec(),
            key_generation: 1,
            ..v1::NodeAssignment::default()
        };
        chunk(ASSIGNMENT_SLOT, Body::Assignment(body))
    }
}

/// Takes one update in: verified, stored at once, active, acknowledged. Returns the acknowledgement.
///
/// # Panics
/// If the update is refused: what is measured must be acceptance.
pub fn apply(acceptor: &mut Acceptor, update: v1::SnapshotUpdate) -> v1::SnapshotAck {
    acceptor.handle(Input::Updated(update), NOW);
    let Some(Output::Persist(id, record)) = acceptor.poll_output() else { panic!("the update was refused") };
    drop(record);
    acceptor.handle(Input::Persisted(id), NOW);
    let (Some(Output::Activate(_)), Some(Output::Acknowledge(ack))) =
        (acceptor.poll_output(), acceptor.poll_output())
    else {
        panic!("the update did not become active")
    };
    ack
}

fn chunk(slot: &str, body: Body) -> v1::Chunk {
    v1::Chunk { slot: slot.to_owned(), body: Some(body) }
}

fn id_of(chunk: &v1::Chunk) -> Digest {
    let bytes: Arc<[u8]> = chunk.encode_to_vec().into();
    chunk_id(&bytes)
}

fn trust() -> v1::Chunk {
    chunk(TRUST_SLOT, Body::Trust(v1::TrustChunk { cluster_ca: vec![1; 500], ..v1::TrustChunk::default() }))
}

fn policy() -> v1::Chunk {
    let body = v1::PolicyChunk {
        degraded_for_ms: 43_200_000,
        leaf_lifetime_ms: 86_400_000,
        overlay_ipv4_pool: "100.96.0.0/16".into(),
        overlay_ipv6_prefix: "fd00::/48".into(),
        mtu: 1280,
        link_probe_interval_ms: 1_000,
        wireguard_keepalive_s: 25,
        cluster_name: "bench".into(),
        ..Default::default()
    };
    chunk(POLICY_SLOT, Body::Policy(body))
}

fn peer_record(peer: u32, revision: u32) -> v1::Chunk {
    let digest = Digest::of(&[&peer.to_be_bytes()]);
    let node = NodeId::from_slice(&digest.as_bytes()[..16]).expect("16 bytes");
    let number = peer + 1;
    let mut wireguard_key = Digest::of(&[b"wireguard", &peer.to_be_bytes()]).to_vec();
    wireguard_key[31] &= 0x7f;
    let body = v1::PeerRecord {
        node_id: node.to_vec(),
        name: format!("node-{number}"),
        node_key_sha256: digest.to_vec(),
        wireguard_public_key: wireguard_key,
        overlay_ipv4: format!("100.96.{}.{}", number >> 8, number & 0xff),
        overlay_ipv6: format!("fd00::{number:x}"),
        roles: vec!["core".into()],
        region: format!("region-{revision}"),
        link_endpoints: vec![format!("node-{number}.example.net:7443")],
        wireguard_endpoints: vec![format!("node-{number}.example.net:51820")],
        organization_id: Vec::new(),
        key_generation: 1,
    };
    chunk(&peer_slot(node), Body::Peer(body))
}
