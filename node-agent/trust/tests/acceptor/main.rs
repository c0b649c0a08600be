//! The acceptor by attack: what is refused, that nothing changed, and that nothing overtakes the disk.

mod disk;
mod order;
mod sense;
#[path = "../support/mod.rs"]
mod support;

use proptest::prelude::*;
use rap_contract::{CHUNK_CAP, Signer, sign};
use rap_trust::{Acceptor, Input, Output, PersistId, Record, StoredSnapshot};
use rap_types::{ClusterId, HeadOrder, InstallationId, NodeId, Reason, Wall};
use rap_wire::v1;
use std::time::Duration;
use support::{Contents, FRESH_FOR, ISSUED, Published, World, at, peer};

const V1: HeadOrder = HeadOrder::new(1, 1, 0);

const V2: HeadOrder = HeadOrder::new(1, 2, 0);

fn start(world: &World) -> Acceptor {
    Acceptor::start(world.pinned(), world.floors(), &[], at(0))
}

fn outputs(acceptor: &mut Acceptor) -> Vec<Output> {
    std::iter::from_fn(|| acceptor.poll_output()).collect()
}

/// Feeds one input and answers every persist until nothing is left to do.
fn settle(acceptor: &mut Acceptor, input: Input, seconds: u64) -> Vec<Output> {
    acceptor.handle(input, at(seconds));
    let mut all = Vec::new();
    loop {
        let new = outputs(acceptor);
        if new.is_empty() {
            return all;
        }
        for output in &new {
            if let Output::Persist(id, _) = output {
                acceptor.handle(Input::Persisted(*id), at(seconds));
            }
        }
        all.extend(new);
    }
}

fn accepted(world: &World, published: &Published) -> Acceptor {
    let mut acceptor = start(world);
    settle(&mut acceptor, Input::Updated(published.full()), 1);
    assert!(acceptor.active().is_some(), "{:?}", acceptor.rejects());
    acceptor
}

fn active(acceptor: &Acceptor) -> Option<HeadOrder> {
    acceptor.active().map(|active| active.head().order)
}

fn nack(outputs: &[Output]) -> Option<&v1::SnapshotNack> {
    outputs.iter().find_map(|output| match output {
        Output::Refuse(nack) => Some(nack),
        _ => None,
    })
}

/// Offers `input` to a node at version 1 and requires the refusal and an unchanged node.
fn refused(world: &World, input: Input) -> v1::SnapshotNack {
    let mut acceptor = accepted(world, &world.publish(V1, &world.contents(2), ISSUED));
    let (before, floors) = (acceptor.active().unwrap().leaf_hash(), acceptor.floors().clone());
    let outputs = settle(&mut acceptor, input, 2);
    assert_eq!(acceptor.active().unwrap().leaf_hash(), before);
    assert_eq!(acceptor.active().unwrap().head().order, V1);
    assert_eq!(acceptor.floors().head, floors.head);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Activate(_) | Output::Acknowledge(_))));
    let nack = nack(&outputs).cloned().expect("refused");
    let reason = Reason::from_code(&nack.reason).expect("a stable code");
    assert_eq!(acceptor.rejects().last().map(|(reason, _)| reason), Some(reason));
    nack
}

fn reason(world: &World, update: v1::SnapshotUpdate) -> String {
    refused(world, Input::Updated(update)).reason
}

#[test]
fn delta_and_full_lead_to_the_same_leaf() {
    let world = World::default();
    let old = world.publish(V1, &world.contents(3), ISSUED);
    let mut contents = world.contents(2);
    contents.add_peer(v1::PeerRecord { region: "north".into(), ..peer(2) }).add_peer(peer(9));
    let new = world.publish(V2, &contents, ISSUED);
    let mut by_delta = accepted(&world, &old);
    settle(&mut by_delta, Input::Updated(new.delta(&old)), 2);
    let by_full = accepted(&world, &new);
    assert_eq!(by_delta.active().unwrap().leaf_hash(), by_full.active().unwrap().leaf_hash());
    assert_eq!(by_delta.active().unwrap().contents(), by_full.active().unwrap().contents());
    let kept = &by_delta.active().unwrap().parts().chunks;
    assert_eq!(kept.len(), contents.chunks.len(), "chunks of the old version are gone");
}

#[test]
fn snapshot_of_another_node_is_refused() {
    let world = World::default();
    let other = World { node: NodeId::from_bytes([4; 16]), ..World::default() };
    let update = other.publish(V2, &other.contents(1), ISSUED).full();
    assert_eq!(reason(&world, update), "snapshot.scope");
    // The leaf says it is ours, the assignment does not.
    let mut contents = world.contents(1);
    let foreign = other.contents(1).chunks["assignment"].clone();
    contents.chunks.insert("assignment".into(), foreign);
    assert_eq!(reason(&world, world.publish(V2, &contents, ISSUED).full()), "snapshot.scope");
    // Node id ours, keys another's.
    let thief = World { node_key: Signer::from_seed(&[77; 32]), ..World::default() };
    assert_eq!(reason(&world, thief.publish(V2, &thief.contents(1), ISSUED).full()), "snapshot.scope");
}

#[test]
fn snapshot_of_another_cluster_or_installation_is_refused() {
    let world = World::default();
    let cluster = World { cluster: ClusterId::from_bytes([8; 16]), ..World::default() };
    assert_eq!(reason(&world, cluster.publish(V2, &cluster.contents(1), ISSUED).full()), "header.cluster");
    let other = World { installation: InstallationId::from_bytes([8; 16]), ..World::default() };
    assert_eq!(reason(&world, other.publish(V2, &other.contents(1), ISSUED).full()), "header.installation");
}

#[test]
fn head_by_another_key_or_with_any_flipped_bit_is_refused() {
    let world = World::default();
    let stranger = World { authority: Signer::from_seed(&[66; 32]), ..World::default() };
    assert_eq!(reason(&world, stranger.publish(V2, &stranger.contents(1), ISSUED).full()), "key.unknown");
    let update = world.publish(V2, &world.contents(1), ISSUED).full();
    let mut acceptor = accepted(&world, &world.publish(V1, &world.contents(2), ISSUED));
    for bit in 0..update.head.len() * 8 {
        let mut flipped = update.clone();
        flipped.head[bit / 8] ^= 1 << (bit % 8);
        let outputs = settle(&mut acceptor, Input::Updated(flipped), 2);
        assert!(nack(&outputs).is_some(), "bit {bit} of the head was accepted");
    }
    assert_eq!(active(&acceptor), Some(V1));
}

#[test]
fn truncated_updates_are_refused_at_every_length() {
    let world = World::default();
    let bytes = prost::Message::encode_to_vec(&world.publish(V2, &world.contents(2), ISSUED).full());
    let mut acceptor = accepted(&world, &world.publish(V1, &world.contents(2), ISSUED));
    for length in 0..bytes.len() {
        // What decodes at all must be refused.
        let Ok(update) = <v1::SnapshotUpdate as prost::Message>::decode(&bytes[..length]) else { continue };
        let outputs = settle(&mut acceptor, Input::Updated(update), 2);
        // Cut inside the list of chunks: what is missing was there before, or is asked for.
        if active(&acceptor) != Some(V1) {
            assert!(acceptor.active().unwrap().parts().chunks.len() == 5, "{length}");
            acceptor = accepted(&world, &world.publish(V1, &world.contents(2), ISSUED));
            continue;
        }
        assert!(nack(&outputs).is_some(), "{length}");
    }
}

#[test]
fn missing_leaf_proof_slot_or_chunk_is_refused_and_asked_for() {
    let world = World::default();
    let mut contents = world.contents(2);
    contents.add_peer(peer(9));
    let update = world.publish(V2, &contents, ISSUED).full();
    let without = |change: &dyn Fn(&mut v1::SnapshotUpdate)| {
        let mut update = update.clone();
        change(&mut update);
        refused(&world, Input::Updated(update))
    };
    assert_eq!(without(&|update| update.leaf = None).reason, "snapshot.malformed");
    assert_eq!(without(&|update| update.proof = None).reason, "snapshot.malformed");
    assert_eq!(without(&|update| update.head.clear()).reason, "signature.missing");
    let nack = without(&|update| drop(update.slots_set.pop()));
    assert_eq!((nack.reason.as_str(), nack.need_full), ("snapshot.proof", true));
    let nack = without(&|update| update.chunks.clear());
    assert_eq!((nack.reason.as_str(), nack.need_full), ("snapshot.chunk_missing", true));
    assert_eq!(nack.leaf_hash.len(), 32, "the refused leaf is named, so that it is not sent again");
    let nack = without(&|update| {
        for chunk in &mut update.chunks {
            chunk[3] ^= 1;
        }
    });
    assert_eq!(nack.reason, "snapshot.chunk_missing", "an altered chunk is another chunk");
    assert_eq!(without(&|update| update.proof.as_mut().unwrap().hashes[0][0] ^= 1).reason, "snapshot.proof");
    assert_eq!(without(&|update| update.proof.as_mut().unwrap().position = 3).reason, "snapshot.proof");
    assert_eq!(without(&|update| drop(update.proof.as_mut().unwrap().hashes.pop())).reason, "snapshot.proof");
    assert_eq!(without(&|update| update.leaf.as_mut().unwrap().salt[0] ^= 1).reason, "snapshot.proof");
    assert_eq!(
        without(&|update| update.leaf.as_mut().unwrap().node_generation += 1).reason,
        "snapshot.proof"
    );
    assert_eq!(without(&|update| update.slots_set.reverse()).reason, "snapshot.manifest");
}

#[test]
fn oversize_updates_are_refused_before_they_are_hashed() {
    let world = World::default();
    let update = world.publish(V2, &world.contents(2), ISSUED).full();
    let mut large = update.clone();
    large.chunks.push(vec![0; CHUNK_CAP + 1]);
    assert_eq!(reason(&world, large), "snapshot.too_large");
    let mut many = update.clone();
    many.chunks.extend(std::iter::repeat_n(Vec::new(), 100_001));
    assert_eq!(reason(&world, many), "snapshot.too_large");
    let mut slots = update.clone();
    slots.slots_set = vec![v1::Slot::default(); 100_001];
    assert_eq!(reason(&world, slots), "snapshot.too_large");
    let mut head = update;
    head.head = vec![0; 64 * 1024];
    assert_eq!(reason(&world, head), "envelope.too_large");
}

#[test]
fn unknown_critical_feature_is_refused_and_dev_has_its_own_code() {
    let world = World::default();
    let with = |feature: &str| {
        let change =
            |head: &mut v1::ClusterHead| head.header.as_mut().unwrap().critical = vec![feature.into()];
        reason(&world, world.publish_as(V2, &world.contents(1), ISSUED, change).full())
    };
    assert_eq!(with("time-travel"), "header.critical");
    assert_eq!(with("dev"), "authority.dev_refused");
    let dev = World { dev: true, ..World::default() };
    accepted(&dev, &dev.publish(V1, &dev.contents(1), ISSUED));
}

#[test]
fn contents_that_contradict_each_other_are_refused() {
    let world = World::default();
    let publish = |contents: &Contents| reason(&world, world.publish(V2, contents, ISSUED).full());
    let with_peer = |record: v1::PeerRecord| {
        let mut contents = world.contents(1);
        contents.add_peer(record);
        publish(&contents)
    };
    let own_address = v1::PeerRecord { overlay_ipv4: "100.96.0.5".into(), ..peer(9) };
    assert_eq!(with_peer(own_address), "snapshot.semantic");
    let own_key = v1::PeerRecord { wireguard_public_key: world.wireguard_key.to_vec(), ..peer(9) };
    assert_eq!(with_peer(own_key), "snapshot.semantic");
    let myself = v1::PeerRecord { node_id: world.node.to_vec(), ..peer(9) };
    assert_eq!(with_peer(myself), "snapshot.semantic");
    let mut contents = world.contents(1);
    contents.chunks.remove("policy");
    assert_eq!(publish(&contents), "snapshot.semantic");
    let mut contents = world.contents(1);
    let trust = v1::TrustChunk {
        cluster_ca: world.cluster_ca.clone(),
        revoked: vec![v1::RevokedNode { node_id: peer(1).node_id, key_generation: 1, ..Default::default() }],
        ..Default::default()
    };
    contents.put("trust", Some(v1::chunk::Body::Trust(trust)));
    assert_eq!(publish(&contents), "snapshot.semantic", "a revoked node is no peer");
}

#[test]
fn a_delta_without_a_base_asks_for_everything() {
    let world = World::default();
    let old = world.publish(V1, &world.contents(1), ISSUED);
    let new = world.publish(V2, &world.contents(2), ISSUED);
    let mut acceptor = start(&world);
    let outputs = settle(&mut acceptor, Input::Updated(new.delta(&old)), 1);
    let refusal = nack(&outputs).unwrap();
    assert_eq!((refusal.reason.as_str(), refusal.need_full), ("snapshot.chunk_missing", true));
    let outputs = settle(&mut acceptor, Input::HeadArrived(new.head_update()), 1);
    assert!(nack(&outputs).unwrap().need_full);
}

#[test]
fn a_delta_over_a_gap_asks_for_everything_and_then_heals() {
    let world = World::default();
    let first = world.publish(V1, &world.contents(1), ISSUED);
    let second = world.publish(V2, &world.contents(2), ISSUED);
    let third = world.publish(HeadOrder::new(1, 3, 0), &world.contents(3), ISSUED);
    let mut acceptor = accepted(&world, &first);
    let outputs = settle(&mut acceptor, Input::Updated(third.delta(&second)), 2);
    assert!(nack(&outputs).unwrap().need_full);
    settle(&mut acceptor, Input::Updated(third.full()), 2);
    assert_eq!(active(&acceptor), Some(HeadOrder::new(1, 3, 0)));
}

#[test]
fn the_same_message_twice_is_acknowledged_and_written_once() {
    let world = World::default();
    let published = world.publish(V1, &world.contents(1), ISSUED);
    let mut acceptor = accepted(&world, &published);
    let outputs = settle(&mut acceptor, Input::Updated(published.full()), 2);
    assert!(matches!(outputs.as_slice(), [Output::Acknowledge(_)]), "{outputs:?}");
}

#[test]
fn a_head_signed_for_another_audience_or_purpose_is_refused() {
    let world = World::default();
    let mut update = world.publish(V2, &world.contents(1), ISSUED).full();
    update.head = sign(&world.join_token(), &[&world.authority]);
    assert_eq!(reason(&world, update), "envelope.type");
    let change = |head: &mut v1::ClusterHead| {
        head.header.as_mut().unwrap().audience =
            Some(v1::Audience { kind: v1::audience::Kind::Any.into(), value: Vec::new() });
    };
    let update = world.publish_as(V2, &world.contents(1), ISSUED, change).full();
    assert_eq!(reason(&world, update), "header.audience");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever order valid versions come in, doubled or dropped: the active one only rises, and equals
    /// the full snapshot of its version.
    #[test]
    fn reordered_doubled_and_dropped_messages_never_lower_anything(
        order in proptest::collection::vec((0usize..6, any::<bool>()), 1..24)
    ) {
        let world = World::default();
        let versions: Vec<Published> = (1..=6u64)
            .map(|version| {
                let contents = world.contents((version % 4) as u8);
                world.publish(HeadOrder::new(1, version, 0), &contents, ISSUED)
            })
            .collect();
        let mut acceptor = start(&world);
        let mut highest = None;
        for (index, full) in order {
            let update = if full || index == 0 {
                versions[index].full()
            } else {
                versions[index].delta(&versions[index - 1])
            };
            settle(&mut acceptor, Input::Updated(update), 1);
            let now = active(&acceptor);
            prop_assert!(now >= highest);
            highest = now;
            if let Some(active) = acceptor.active() {
                let expected = &versions[active.head().order.version.0 as usize - 1];
                prop_assert_eq!(active.manifest().root(), expected.contents.manifest().root());
            }
        }
    }
}
