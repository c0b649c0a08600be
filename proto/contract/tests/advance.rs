//! Carrying a snapshot over to the next one equals verifying the next one whole, for what is accepted and
//! for what is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use rap_contract::{
    ASSIGNMENT_SLOT, Audience, Expectation, HeadFacts, HeaderTerms, KeySet, Manifest, POLICY_SLOT, Signer,
    SnapshotParts, TRUST_SLOT, Verified, VerifiedSnapshot, chunk_id, leaf_hash, peer_slot, root_from_proof,
    sign,
};
use rap_types::{ClusterId, Digest, InstallationId, NodeId, Reason, Wall};
use rap_wire::v1;
use v1::chunk::Body;

const CLUSTER: ClusterId = ClusterId::from_bytes([2; 16]);
const NODE: NodeId = NodeId::from_bytes([9; 16]);
const SALT: [u8; 32] = [7; 32];

/// One peer's address, key, revision and key generation. Numbers are few, so that peers collide.
type Peer = (u8, u8, u8, u64);

#[derive(Debug, Clone)]
struct World {
    peers: BTreeMap<u8, Peer>,
    revoked: BTreeMap<u8, u64>,
    own: (u8, u8),
    mtu: u32,
}

fn world() -> impl Strategy<Value = World> {
    let peer = (0..24u8, 0..24u8, 0..3u8, 1..3u64);
    (
        proptest::collection::btree_map(0..10u8, peer, 0..6),
        proptest::collection::btree_map(0..10u8, 0..3u64, 0..2),
        (0..24u8, 0..24u8),
        1280..1283u32,
    )
        .prop_map(|(peers, revoked, own, mtu)| World { peers, revoked, own, mtu })
}

/// A world in which nothing collides, whatever the numbers.
fn sound(mut world: World) -> World {
    world.own = (100, 100);
    world.peers.remove(&9);
    for (number, peer) in &mut world.peers {
        (peer.0, peer.1, peer.3) = (number + 1, number + 1, 3);
    }
    world
}

fn chunk(slot: String, body: Body) -> (String, Vec<u8>) {
    let bytes = v1::Chunk { slot: slot.clone(), body: Some(body) }.encode_to_vec();
    (slot, bytes)
}

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn chunks(world: &World) -> Vec<(String, Vec<u8>)> {
    let revoked = world.revoked.iter().map(|(number, generation)| v1::RevokedNode {
        node_id: id(*number).to_vec(),
        node_key_sha256: vec![0; 32],
        key_generation: *generation,
    });
    let trust =
        v1::TrustChunk { cluster_ca: vec![1], revoked: revoked.collect(), ..v1::TrustChunk::default() };
    let policy = v1::PolicyChunk { mtu: world.mtu, leaf_lifetime_ms: 1, ..v1::PolicyChunk::default() };
    let assignment = v1::NodeAssignment {
        node_id: NODE.to_vec(),
        overlay_ipv4: format!("100.96.0.{}/16", world.own.0),
        overlay_ipv6: format!("fd00::{:x}/48", world.own.0),
        wireguard_public_key: vec![world.own.1; 32],
        node_key_sha256: vec![0; 32],
        ..v1::NodeAssignment::default()
    };
    let peers = world.peers.iter().map(|(number, (address, key, revision, generation))| {
        let record = v1::PeerRecord {
            node_id: id(*number).to_vec(),
            name: format!("revision-{revision}"),
            node_key_sha256: vec![0; 32],
            wireguard_public_key: vec![*key; 32],
            overlay_ipv4: format!("100.96.0.{address}"),
            overlay_ipv6: format!("fd00::{address:x}"),
            key_generation: *generation,
            ..v1::PeerRecord::default()
        };
        chunk(peer_slot(id(*number)), Body::Peer(record))
    });
    [
        chunk(TRUST_SLOT.into(), Body::Trust(trust)),
        chunk(POLICY_SLOT.into(), Body::Policy(policy)),
        chunk(ASSIGNMENT_SLOT.into(), Body::Assignment(assignment)),
    ]
    .into_iter()
    .chain(peers)
    .collect()
}

fn head(version: u64, root: Digest) -> (Verified<v1::ClusterHead>, HeadFacts) {
    let authority = Signer::from_seed(&[3; 32]);
    let header = HeaderTerms {
        installation: InstallationId::from_bytes([1; 16]),
        cluster: CLUSTER,
        audience: Audience::Cluster(CLUSTER),
        issuer: authority.id(),
        incarnation: 1,
        sequence: version,
        issued_at: Wall(1),
        expires_at: None,
        critical: Vec::new(),
    };
    let head = v1::ClusterHead {
        header: Some(header.to_wire()),
        incarnation: 1,
        version,
        refresh: 0,
        tree_size: 2,
        root: root.to_vec(),
        previous_head: Vec::new(),
        fresh_until_ms: 2,
        reconnect_window_ms: 0,
    };
    let keys = KeySet::of::<v1::ClusterHead>(authority.public());
    HeadFacts::open(&sign(&head, &[&authority]), &keys, &Expectation::default()).unwrap()
}

/// The parts of a world's snapshot, with the chunks that `lacking` wants.
fn parts(world: &World, version: u64, lacking: impl Fn(&Digest) -> bool) -> SnapshotParts {
    let chunks = chunks(world);
    let manifest = Manifest::from_slots(chunks.iter().map(|(slot, bytes)| (slot.clone(), chunk_id(bytes))));
    let leaf = leaf_hash(CLUSTER, NODE, version, &manifest.root(), &SALT);
    let sibling = Digest::of(&[b"sibling"]);
    SnapshotParts {
        head: head(version, root_from_proof(leaf, 1, 2, &[sibling]).unwrap()),
        leaf: v1::Leaf { node_id: NODE.to_vec(), node_generation: version, salt: SALT.to_vec() },
        proof: v1::InclusionProof { position: 1, hashes: vec![sibling.to_vec()] },
        manifest,
        chunks: chunks
            .into_iter()
            .map(|(_, bytes)| Arc::from(bytes))
            .filter(|bytes: &Arc<[u8]>| lacking(&chunk_id(bytes)))
            .collect(),
    }
}

fn whole(world: &World, version: u64) -> Result<VerifiedSnapshot, rap_contract::Reject> {
    VerifiedSnapshot::verify(parts(world, version, |_| true), Some(NODE))
}

fn carried(
    base: &VerifiedSnapshot,
    world: &World,
    version: u64,
) -> Result<VerifiedSnapshot, rap_contract::Reject> {
    base.advance(parts(world, version, |id| !base.parts().chunks.contains_key(id)))
}

proptest! {
    #[test]
    fn carried_over_equals_whole_along_any_history(first in world(), then in proptest::collection::vec(world(), 1..6)) {
        let mut base = whole(&sound(first), 1).unwrap();
        for (version, world) in (2..).zip(then.iter().flat_map(|world| [world.clone(), sound(world.clone())])) {
            match (carried(&base, &world, version), whole(&world, version)) {
                (Ok(carried), Ok(whole)) => {
                    prop_assert_eq!(carried.contents(), whole.contents());
                    prop_assert_eq!(carried.leaf_hash(), whole.leaf_hash());
                    prop_assert_eq!(&carried.parts().chunks, &whole.parts().chunks);
                    prop_assert_eq!(&carried.parts().manifest, &whole.parts().manifest);
                    base = carried;
                }
                (Err(carried), Err(whole)) => prop_assert_eq!(carried.reason, whole.reason),
                (carried, whole) => prop_assert!(
                    false, "carried over: {:?}; whole: {:?}", carried.err(), whole.err()
                ),
            }
        }
    }
}

fn two_peers() -> World {
    let peers = BTreeMap::from([(1, (1, 1, 0, 2)), (2, (2, 2, 0, 2))]);
    World { peers, revoked: BTreeMap::new(), own: (100, 100), mtu: 1280 }
}

fn refusal(change: impl Fn(&mut World)) -> Option<(Reason, &'static str)> {
    let base = whole(&two_peers(), 1).unwrap();
    let mut next = two_peers();
    change(&mut next);
    carried(&base, &next, 2).err().map(|reject| (reject.reason, reject.what))
}

#[test]
fn what_is_new_is_checked_against_what_was_carried_over() {
    let shared = Some((Reason::SnapshotSemantic, "two nodes share an address or a WireGuard key"));
    assert_eq!(refusal(|world| world.peers.extend([(3, (2, 3, 0, 1))])), shared, "address of a peer");
    assert_eq!(refusal(|world| world.peers.extend([(3, (3, 2, 0, 1))])), shared, "key of a peer");
    assert_eq!(refusal(|world| world.peers.extend([(3, (100, 3, 0, 1))])), shared, "own address");
    assert_eq!(refusal(|world| world.own = (1, 100)), shared, "own address becomes a peer's");
    let revoked = Some((Reason::SnapshotSemantic, "a revoked node is a peer"));
    assert_eq!(refusal(|world| world.revoked.extend([(2, 2)])), revoked);
    assert_eq!(refusal(|world| world.revoked.extend([(2, 1)])), None, "an older key was revoked");
    let own = Some((Reason::SnapshotSemantic, "the node is its own peer"));
    assert_eq!(refusal(|world| world.peers.extend([(9, (9, 9, 0, 1))])), own);
}

#[test]
fn addresses_may_change_hands_in_one_step() {
    let swap = |world: &mut World| {
        world.peers = BTreeMap::from([(1, (2, 2, 0, 2)), (2, (1, 1, 0, 2))]);
    };
    assert_eq!(refusal(swap), None);
    assert_eq!(refusal(|world| world.peers.retain(|number, _| *number != 1)), None);
    let taken_over = |world: &mut World| {
        world.peers.remove(&1);
        world.own = (1, 1);
    };
    assert_eq!(refusal(taken_over), None);
}

#[test]
fn a_chunk_that_is_new_must_be_offered_and_match() {
    let base = whole(&two_peers(), 1).unwrap();
    let mut next = two_peers();
    next.peers.insert(3, (3, 3, 0, 1));
    let missing = base.advance(parts(&next, 2, |_| false)).unwrap_err();
    assert_eq!(missing.reason, Reason::SnapshotChunkMissing);
    let mut wrong = parts(&next, 2, |id| !base.parts().chunks.contains_key(id));
    let altered = |(_, bytes): (String, Vec<u8>)| bytes.into_iter().chain([0]).collect::<Arc<[u8]>>();
    wrong.chunks = chunks(&next).into_iter().map(altered).collect();
    assert_eq!(base.advance(wrong).unwrap_err().reason, Reason::SnapshotChunkMissing);
}
