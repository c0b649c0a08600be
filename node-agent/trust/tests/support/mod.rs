//! A cluster made of keys: signs what a control plane would, and what an attacker would.
#![allow(dead_code)]

mod enrollment;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rap_contract::{
    ASSIGNMENT_SLOT, Audience, AuthorityChain, HeaderTerms, JoinTokenText, Manifest, MerkleTree, POLICY_SLOT,
    Signer, TRUST_SLOT, chunk_id, join_secret_hash, leaf_hash, peer_slot, sign,
};
use rap_trust::{BreakGlassPins, Floors, Pinned};
use rap_types::{
    ClusterId, Digest, HeadOrder, Incarnation, InstallationId, JoinRequestId, Mono, NodeId, Now, TokenId,
    Wall,
};
use rap_wire::v1;
use v1::authority_record::Kind;
use v1::break_glass_grant::Permit;
use v1::chunk::Body;

pub const ISSUED: Wall = Wall(1_700_000_000_000);
pub const FRESH_FOR: Duration = Duration::from_secs(300);
pub const DEGRADED_FOR: Duration = Duration::from_secs(3600);
/// Something in the form of a certificate.
pub const CLUSTER_CA: [u8; 13] = [0x30, 11, 0x30, 1, 0, 0x30, 1, 0, 3, 3, 0, 1, 2];
pub const SECRET: [u8; 32] = [0x5e; 32];

/// An installation with one cluster and one node in it.
pub struct World {
    pub installation: InstallationId,
    pub cluster: ClusterId,
    pub node: NodeId,
    pub root: Signer,
    pub installation_authority: Signer,
    pub authority: Signer,
    pub node_key: Signer,
    pub wireguard_key: [u8; 32],
    pub dev: bool,
    pub control_urls: Vec<String>,
    pub server_pin: Digest,
    pub cluster_ca: Vec<u8>,
    pub key_generation: u64,
    /// First three bytes of the IPv4 pool and first two groups of the IPv6 prefix.
    pub pool: (&'static str, &'static str),
    /// Whether tokens name the pools.
    pub pools_in_token: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            installation: InstallationId::from_bytes([1; 16]),
            cluster: ClusterId::from_bytes([2; 16]),
            node: NodeId::from_bytes([3; 16]),
            root: Signer::from_seed(&[10; 32]),
            installation_authority: Signer::from_seed(&[11; 32]),
            authority: Signer::from_seed(&[12; 32]),
            node_key: Signer::from_seed(&[13; 32]),
            wireguard_key: [14; 32],
            dev: false,
            control_urls: vec!["https://127.0.0.1:8443".into()],
            server_pin: Digest::of(&[b"tls ca"]),
            cluster_ca: CLUSTER_CA.to_vec(),
            key_generation: 1,
            pool: ("100.96.0", "fd00:"),
            pools_in_token: false,
        }
    }
}

/// Now, on both clocks, `seconds` after [`ISSUED`].
pub fn at(seconds: u64) -> Now {
    let after = Duration::from_secs(seconds);
    Now { mono: Mono(1_000_000_000).plus(after), wall: ISSUED.plus(after) }
}

/// A peer of the node.
pub fn peer(index: u8) -> v1::PeerRecord {
    v1::PeerRecord {
        node_id: NodeId::from_bytes([100 + index; 16]).to_vec(),
        name: format!("peer-{index}"),
        node_key_sha256: vec![index; 32],
        wireguard_public_key: [&[index; 31][..], &[0x40]].concat(),
        overlay_ipv4: format!("100.96.0.{}", 10 + index),
        overlay_ipv6: format!("fd00::{:x}", 10 + index),
        link_endpoints: vec![format!("192.0.2.{index}:7443")],
        wireguard_endpoints: vec![format!("192.0.2.{index}:51820")],
        key_generation: 1,
        ..Default::default()
    }
}

/// Slots and chunks that a node may hold.
#[derive(Clone, Default)]
pub struct Contents {
    pub chunks: BTreeMap<String, Vec<u8>>,
}

impl Contents {
    pub fn put(&mut self, slot: &str, body: Option<Body>) -> &mut Self {
        let chunk = v1::Chunk { slot: slot.to_owned(), body };
        self.chunks.insert(slot.to_owned(), chunk.encode_to_vec());
        self
    }

    pub fn add_peer(&mut self, record: v1::PeerRecord) -> &mut Self {
        let id = NodeId::from_slice(&record.node_id).unwrap();
        self.put(&peer_slot(id), Some(Body::Peer(record)))
    }

    /// Revokes these peers as of [`peer`] and takes their records out: the chain has that many revocations.
    pub fn revoke(&mut self, cluster_ca: &[u8], peers: &[u8]) -> &mut Self {
        for index in peers {
            self.chunks.remove(&peer_slot(NodeId::from_slice(&peer(*index).node_id).unwrap()));
        }
        let revoked = peers.iter().map(|index| v1::RevokedNode {
            node_id: peer(*index).node_id,
            node_key_sha256: peer(*index).node_key_sha256,
            key_generation: 1,
        });
        let trust = v1::TrustChunk {
            cluster_ca: cluster_ca.to_vec(),
            revoked: revoked.collect(),
            revocation_sequence: peers.len() as u64,
            revocation_digest: Digest::of(&[b"revocations", peers]).to_vec(),
            ..Default::default()
        };
        self.put(TRUST_SLOT, Some(Body::Trust(trust)))
    }

    pub fn manifest(&self) -> Manifest {
        Manifest::from_slots(self.chunks.iter().map(|(slot, chunk)| (slot.clone(), chunk_id(chunk))))
    }
}

/// A signed version of the cluster as one node gets it.
#[derive(Clone)]
pub struct Published {
    pub head: Vec<u8>,
    pub leaf: v1::Leaf,
    pub proof: v1::InclusionProof,
    pub contents: Contents,
}

impl Published {
    /// Everything, for a node that has nothing.
    pub fn full(&self) -> v1::SnapshotUpdate {
        v1::SnapshotUpdate {
            head: self.head.clone(),
            leaf: Some(self.leaf.clone()),
            proof: Some(self.proof.clone()),
            full: true,
            slots_set: self.contents.manifest().to_wire(),
            slots_removed: Vec::new(),
            chunks: self.contents.chunks.values().cloned().collect(),
        }
    }

    /// What leads here from `old`.
    pub fn delta(&self, old: &Self) -> v1::SnapshotUpdate {
        let (slots_set, slots_removed) = old.contents.manifest().delta(&self.contents.manifest());
        let new = slots_set.iter().map(|slot| self.contents.chunks[&slot.key].clone()).collect();
        v1::SnapshotUpdate { full: false, slots_set, slots_removed, chunks: new, ..self.full() }
    }

    /// Only head and proof.
    pub fn head_update(&self) -> v1::HeadUpdate {
        v1::HeadUpdate { head: self.head.clone(), proof: Some(self.proof.clone()) }
    }
}

impl World {
    pub fn pinned(&self) -> Pinned {
        Pinned {
            installation: self.installation,
            cluster: self.cluster,
            node: self.node,
            node_key: self.node_key.id(),
            wireguard_key: self.wireguard_key,
            installation_authority: self.installation_authority.public(),
            chain: Arc::new(self.chain()),
            former: None,
            addresses: None,
            accept_dev: self.dev,
        }
    }

    /// The verified chain of this world's one record.
    pub fn chain(&self) -> AuthorityChain {
        AuthorityChain::verify(
            &self.authority_records(),
            &self.installation_authority.public(),
            self.installation,
            self.cluster,
            if self.dev { &["dev"] } else { &[] },
        )
        .unwrap()
    }

    /// The record that follows `chain` and names `next`, and the chain with it.
    pub fn record(
        &self,
        chain: &AuthorityChain,
        kind: Kind,
        (issuer, next): (&Signer, &Signer),
        incarnation: u64,
    ) -> Vec<u8> {
        let order = HeadOrder::new(incarnation, chain.sequence() + 1, 0);
        let header = HeaderTerms { issuer: issuer.id(), ..self.header(order, ISSUED) };
        let record = v1::AuthorityRecord {
            header: Some(header.to_wire()),
            kind: kind.into(),
            authority_key: next.public().to_vec(),
            previous_record_digest: chain.digest().to_vec(),
        };
        sign(&record, &[issuer, next])
    }

    pub fn break_glass_pins(&self) -> BreakGlassPins {
        BreakGlassPins {
            installation: self.installation,
            cluster: self.cluster,
            node: self.node,
            authority: self.authority.public(),
            activation_manifest: self.activation_manifest(),
            accept_dev: self.dev,
        }
    }

    /// An unsigned grant for an hour from `at`; `signer` is who will sign it.
    pub fn grant(&self, nonce: u8, at: Wall, signer: &Signer, permit: Permit) -> v1::BreakGlassGrant {
        let header = HeaderTerms {
            issuer: signer.id(),
            expires_at: Some(at.plus(Duration::from_secs(3600))),
            ..self.header(HeadOrder::new(1, 0, 0), at)
        };
        v1::BreakGlassGrant {
            header: Some(header.to_wire()),
            nonce: vec![nonce; 32],
            reason: "the control plane burned down".into(),
            permit: Some(permit),
        }
    }

    pub fn floors(&self) -> Floors {
        Floors::initial(Incarnation(1))
    }

    pub fn critical(&self) -> Vec<String> {
        if self.dev { vec!["dev".into()] } else { Vec::new() }
    }

    pub fn policy(&self) -> v1::PolicyChunk {
        v1::PolicyChunk {
            degraded_for_ms: DEGRADED_FOR.as_millis() as u64,
            leaf_lifetime_ms: 86_400_000,
            mtu: 1280,
            link_probe_interval_ms: 1000,
            wireguard_keepalive_s: 25,
            overlay_ipv4_pool: format!("{}.0/16", self.pool.0),
            overlay_ipv6_prefix: format!("{}:/48", self.pool.1),
            cluster_name: "test".into(),
            ..Default::default()
        }
    }

    pub fn assignment(&self) -> v1::NodeAssignment {
        v1::NodeAssignment {
            node_id: self.node.to_vec(),
            name: "own".into(),
            roles: vec!["core".into()],
            overlay_ipv4: format!("{}.5/16", self.pool.0),
            overlay_ipv6: format!("{}:5/48", self.pool.1),
            wireguard_public_key: self.wireguard_key.to_vec(),
            node_key_sha256: self.node_key.id().to_vec(),
            key_generation: self.key_generation,
            ..Default::default()
        }
    }

    /// Trust, policy, assignment and this many peers.
    pub fn contents(&self, peers: u8) -> Contents {
        let mut contents = Contents::default();
        let trust = v1::TrustChunk { cluster_ca: self.cluster_ca.clone(), ..Default::default() };
        contents
            .put(TRUST_SLOT, Some(Body::Trust(trust)))
            .put(POLICY_SLOT, Some(Body::Policy(self.policy())))
            .put(ASSIGNMENT_SLOT, Some(Body::Assignment(self.assignment())));
        for index in 1..=peers {
            let (ipv4, ipv6) = self.pool;
            contents.add_peer(v1::PeerRecord {
                overlay_ipv4: format!("{ipv4}.{}", 10 + index),
                overlay_ipv6: format!("{ipv6}:{:x}", 10 + index),
                ..peer(index)
            });
        }
        contents
    }

    pub fn header(&self, order: HeadOrder, issued_at: Wall) -> HeaderTerms {
        HeaderTerms {
            installation: self.installation,
            cluster: self.cluster,
            audience: Audience::Cluster(self.cluster),
            issuer: self.authority.id(),
            incarnation: order.incarnation.0,
            sequence: order.version.0,
            issued_at,
            expires_at: None,
            critical: self.critical(),
        }
    }

    /// The unsigned head of `order` over `root`.
    pub fn head(&self, order: HeadOrder, issued_at: Wall, tree_size: u64, root: Digest) -> v1::ClusterHead {
        v1::ClusterHead {
            header: Some(self.header(order, issued_at).to_wire()),
            incarnation: order.incarnation.0,
            version: order.version.0,
            refresh: order.refresh.0,
            tree_size,
            root: root.to_vec(),
            previous_head: Vec::new(),
            fresh_until_ms: issued_at.plus(FRESH_FOR).0,
            reconnect_window_ms: 100,
        }
    }

    pub fn publish(&self, order: HeadOrder, contents: &Contents, issued_at: Wall) -> Published {
        self.publish_as(order, contents, issued_at, |_| {})
    }

    /// Publishes for this node, with a last change to the head before it is signed. The salt and the
    /// generation do not depend on the version, so that equal contents have equal leaves.
    pub fn publish_as(
        &self,
        order: HeadOrder,
        contents: &Contents,
        issued_at: Wall,
        change: impl FnOnce(&mut v1::ClusterHead),
    ) -> Published {
        let leaf = v1::Leaf { node_id: self.node.to_vec(), node_generation: 1, salt: vec![7; 32] };
        let hash = leaf_hash(self.cluster, self.node, 1, &contents.manifest().root(), &[7; 32]);
        let mut leaves: Vec<Digest> = (0..4u8)
            .map(|index| Digest::of(&[b"padding", &[index], &order.version.0.to_be_bytes()]))
            .collect();
        leaves[2] = hash;
        let tree = MerkleTree::build(leaves).unwrap();
        let hashes = tree.proof(2).unwrap().into_iter().map(Digest::to_vec).collect();
        let mut head = self.head(order, issued_at, tree.size(), tree.root());
        change(&mut head);
        Published {
            head: sign(&head, &[&self.authority]),
            leaf,
            proof: v1::InclusionProof { position: 2, hashes },
            contents: contents.clone(),
        }
    }
}
