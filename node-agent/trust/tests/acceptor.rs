//! The acceptor by attack: what is refused, that nothing changed, and that nothing overtakes the disk.

mod support;

use std::time::Duration;

use proptest::prelude::*;
use rap_contract::{CHUNK_CAP, Signer, sign};
use rap_trust::{Acceptor, Input, Output, PersistId, Record, StoredSnapshot};
use rap_types::{ClusterId, HeadOrder, InstallationId, NodeId, Reason, Wall};
use rap_wire::v1;
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
fn activation_waits_for_the_disk_and_the_floor_comes_with_it() {
    let world = World::default();
    let published = world.publish(V1, &world.contents(2), ISSUED);
    let mut acceptor = start(&world);
    acceptor.handle(Input::Updated(published.full()), at(1));
    let first = outputs(&mut acceptor);
    let [Output::Persist(id, record)] = first.as_slice() else { panic!("{first:?}") };
    let Record { floors, snapshot, contents_changed, evidence, chain } = record.as_ref();
    assert_eq!((floors.head.incarnation.0, floors.head.version.0), (1, 1));
    assert_eq!(floors.time, ISSUED);
    assert!(snapshot.is_some() && *contents_changed && evidence.is_none() && chain.is_none());
    assert_eq!(active(&acceptor), None, "nothing is active before it is on disk");
    acceptor.handle(Input::Persisted(*id), at(1));
    let second = outputs(&mut acceptor);
    assert!(matches!(second.as_slice(), [Output::Activate(_), Output::Acknowledge(_)]), "{second:?}");
    assert_eq!(active(&acceptor), Some(V1));
}

/// A restriction may come before the disk, a permission never.
#[test]
fn what_a_verified_snapshot_revokes_is_told_before_the_disk_even_if_that_is_behind() {
    let world = World::default();
    let mut acceptor = start(&world);
    acceptor.handle(Input::Updated(world.publish(V1, &world.contents(2), ISSUED).full()), at(1));
    acceptor.handle(Input::Persisted(PersistId(1)), at(1));
    outputs(&mut acceptor);
    let mut contents = world.contents(3);
    contents.revoke(&world.cluster_ca, &[1]);
    acceptor.handle(Input::Updated(world.publish(V2, &contents, ISSUED).full()), at(2));
    let told = outputs(&mut acceptor);
    let [Output::Restrict(early), Output::Persist(..)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(early.contents().trust.revoked.len(), 1);
    assert_eq!(active(&acceptor), Some(V1), "it permits nothing yet");
    // Three more wait for the disk; then one that revokes more does not fit.
    for version in 3..=5 {
        let next = world.publish(HeadOrder::new(1, version, 0), &contents, ISSUED);
        acceptor.handle(Input::Updated(next.full()), at(3));
    }
    outputs(&mut acceptor);
    contents.revoke(&world.cluster_ca, &[1, 2]);
    let next = world.publish(HeadOrder::new(1, 6, 0), &contents, ISSUED);
    acceptor.handle(Input::Updated(next.full()), at(4));
    let told = outputs(&mut acceptor);
    let [Output::Restrict(early), Output::Refuse(nack)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((early.contents().trust.revoked.len(), nack.reason.as_str()), (2, "state.timeout"));
}

#[test]
fn a_failed_write_activates_nothing_and_the_same_message_works_later() {
    let world = World::default();
    let published = world.publish(V1, &world.contents(1), ISSUED);
    let mut acceptor = start(&world);
    acceptor.handle(Input::Updated(published.full()), at(1));
    outputs(&mut acceptor);
    acceptor.handle(Input::PersistFailed(PersistId(1), Reason::StateNoSpace), at(1));
    assert_eq!(nack(&outputs(&mut acceptor)).unwrap().reason, "state.no_space");
    assert_eq!(active(&acceptor), None);
    acceptor.handle(Input::Persisted(PersistId(1)), at(1));
    assert!(outputs(&mut acceptor).is_empty(), "an answer that comes too late changes nothing");
    settle(&mut acceptor, Input::Updated(published.full()), 2);
    assert_eq!(active(&acceptor), Some(V1));
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
fn lower_version_incarnation_and_refresh_are_rollbacks() {
    let world = World::default();
    let contents = world.contents(2);
    let mut acceptor = accepted(&world, &world.publish(HeadOrder::new(5, 5, 3), &contents, ISSUED));
    for order in [HeadOrder::new(5, 4, 9), HeadOrder::new(4, 9, 9), HeadOrder::new(5, 5, 2)] {
        // The root is that of version 5, so that only the order is wrong.
        let mut old = world.publish(HeadOrder::new(5, 5, 3), &contents, ISSUED);
        let head = |head: &mut v1::ClusterHead| {
            let header = head.header.as_mut().unwrap();
            (head.incarnation, header.authority_incarnation) = (order.incarnation.0, order.incarnation.0);
            (head.version, header.sequence) = (order.version.0, order.version.0);
            head.refresh = order.refresh.0;
        };
        old.head = world.publish_as(HeadOrder::new(5, 5, 3), &contents, ISSUED, head).head;
        let outputs = settle(&mut acceptor, Input::HeadArrived(old.head_update()), 2);
        let nack = nack(&outputs).expect("refused");
        assert_eq!(nack.reason, "snapshot.rollback", "{order}");
        assert!(!nack.evidence.is_empty(), "the newer head travels with the refusal");
    }
    assert_eq!(active(&acceptor), Some(HeadOrder::new(5, 5, 3)));
}

#[test]
fn head_below_the_authority_records_incarnation_is_a_rollback() {
    let world = World::default();
    let update = world.publish(HeadOrder::new(0, 9, 0), &world.contents(1), ISSUED).full();
    assert_eq!(reason(&world, update), "snapshot.rollback");
}

#[test]
fn the_floor_holds_without_any_snapshot_left() {
    let world = World::default();
    let mut floors = world.floors();
    floors.head.version = rap_types::Version(7);
    let mut acceptor = Acceptor::start(world.pinned(), floors, &[], at(0));
    let old = world.publish(HeadOrder::new(1, 6, 0), &world.contents(1), ISSUED);
    let outputs = settle(&mut acceptor, Input::Updated(old.full()), 1);
    assert_eq!(nack(&outputs).unwrap().reason, "snapshot.rollback");
    let equal = world.publish(HeadOrder::new(1, 7, 0), &world.contents(1), ISSUED);
    settle(&mut acceptor, Input::Updated(equal.full()), 1);
    assert_eq!(active(&acceptor), Some(HeadOrder::new(1, 7, 0)), "the floor itself can be fetched again");
}

#[test]
fn equal_triple_with_another_digest_freezes_and_a_higher_incarnation_thaws() {
    let world = World::default();
    let contents = world.contents(2);
    let mut acceptor = accepted(&world, &world.publish(V1, &contents, ISSUED));
    let twin = world.publish(V1, &contents, Wall(ISSUED.0 + 1));
    let outputs = settle(&mut acceptor, Input::HeadArrived(twin.head_update()), 2);
    let nack_of = nack(&outputs).unwrap();
    assert_eq!(nack_of.reason, "snapshot.equivocation");
    assert!(!nack_of.evidence.is_empty());
    let evidence = outputs.iter().find_map(|output| match output {
        Output::Persist(_, record) => record.evidence.clone().zip(Some(record.floors.frozen)),
        _ => None,
    });
    let (evidence, frozen) = evidence.expect("evidence goes to disk");
    assert_eq!(frozen, Some(V1));
    assert_eq!(evidence.contradicting, twin.head);
    assert_ne!(evidence.accepted, evidence.contradicting);
    assert!(outputs.iter().any(|output| matches!(output, Output::Alarm(_))));
    assert_eq!(active(&acceptor), Some(V1), "the last good snapshot stays in use");

    let next = world.publish(V2, &contents, ISSUED);
    let outputs = settle(&mut acceptor, Input::Updated(next.full()), 3);
    assert_eq!(nack(&outputs).unwrap().reason, "snapshot.frozen");
    let reborn = world.publish(HeadOrder::new(2, 0, 0), &contents, ISSUED);
    settle(&mut acceptor, Input::Updated(reborn.full()), 4);
    assert_eq!(active(&acceptor), Some(HeadOrder::new(2, 0, 0)));
    assert_eq!(acceptor.floors().frozen, None);
}

#[test]
fn equal_version_with_another_root_is_equivocation_even_if_only_the_floor_is_left() {
    let world = World::default();
    let first = accepted(&world, &world.publish(V1, &world.contents(2), ISSUED));
    let mut acceptor = Acceptor::start(world.pinned(), first.floors().clone(), &[], at(0));
    let other = world.publish(HeadOrder::new(1, 1, 5), &world.contents(3), ISSUED);
    let outputs = settle(&mut acceptor, Input::Updated(other.full()), 1);
    assert_eq!(nack(&outputs).unwrap().reason, "snapshot.equivocation");
    assert_eq!(acceptor.floors().frozen, Some(HeadOrder::new(1, 1, 5)));
    // And it stays frozen across a restart.
    let mut again = Acceptor::start(world.pinned(), acceptor.floors().clone(), &[], at(0));
    let outputs = settle(&mut again, Input::Updated(world.publish(V2, &world.contents(1), ISSUED).full()), 1);
    assert_eq!(nack(&outputs).unwrap().reason, "snapshot.frozen");
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
fn a_head_from_beyond_the_tolerance_is_clock_skew_and_one_within_is_accepted() {
    let world = World::default();
    let ahead = |seconds: u64| ISSUED.plus(Duration::from_secs(2 + seconds));
    let update = world.publish(V2, &world.contents(1), Wall(ahead(60).0 + 1)).full();
    assert_eq!(reason(&world, update), "clock.skew");
    let mut acceptor = accepted(&world, &world.publish(V1, &world.contents(2), ISSUED));
    let within = world.publish(V2, &world.contents(1), ahead(60));
    settle(&mut acceptor, Input::Updated(within.full()), 2);
    assert_eq!(active(&acceptor), Some(V2));
}

#[test]
fn a_stale_head_above_the_floor_is_accepted() {
    let world = World::default();
    let old = world.publish(V1, &world.contents(1), ISSUED);
    let mut acceptor = start(&world);
    let later = FRESH_FOR.as_secs() * 10;
    settle(&mut acceptor, Input::Updated(old.full()), later);
    assert_eq!(active(&acceptor), Some(V1), "freshness sets a state, never a refusal");
}

#[test]
fn a_wall_clock_set_back_does_not_make_new_heads_look_like_the_future() {
    let world = World::default();
    let mut acceptor = accepted(&world, &world.publish(V1, &world.contents(1), ISSUED));
    let mut now = at(30);
    now.wall = Wall(0);
    let next = world.publish(V2, &world.contents(2), ISSUED.plus(Duration::from_secs(30)));
    acceptor.handle(Input::Updated(next.full()), now);
    let first = outputs(&mut acceptor);
    assert!(matches!(first.as_slice(), [Output::Persist(..)]), "{first:?}");
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
fn a_head_that_takes_revocations_back_is_refused_within_its_incarnation() {
    let world = World::default();
    let told = |order, sequence: u64, byte: u8| {
        let mut contents = world.contents(1);
        let trust = v1::TrustChunk {
            cluster_ca: world.cluster_ca.clone(),
            revocation_sequence: sequence,
            revocation_digest: if sequence == 0 { Vec::new() } else { vec![byte; 32] },
            ..Default::default()
        };
        contents.put("trust", Some(v1::chunk::Body::Trust(trust)));
        world.publish(order, &contents, ISSUED)
    };
    let two = told(V1, 2, 2);
    let mut acceptor = accepted(&world, &two);
    let mut refusal = |published: &Published| {
        let outputs = settle(&mut acceptor, Input::Updated(published.full()), 2);
        nack(&outputs).map(|nack| nack.reason.clone())
    };
    assert_eq!(refusal(&told(V2, 1, 1)).as_deref(), Some("snapshot.rollback"));
    assert_eq!(refusal(&told(V2, 0, 0)).as_deref(), Some("snapshot.rollback"));
    assert_eq!(refusal(&told(V2, 2, 9)).as_deref(), Some("snapshot.equivocation"));
    assert_eq!(refusal(&told(V2, 3, 3)), None);
    // The floor is on disk: an agent that starts over keeps it, and a new incarnation begins anew.
    let floors = acceptor.floors().clone();
    assert_eq!(floors.revocations.map(|floor| floor.sequence), Some(3));
    let mut again = Acceptor::start(world.pinned(), floors, &[], at(3));
    let older = settle(&mut again, Input::Updated(told(HeadOrder::new(1, 3, 0), 2, 2).full()), 3);
    assert_eq!(nack(&older).unwrap().reason, "snapshot.rollback");
    let restored = settle(&mut again, Input::Updated(told(HeadOrder::new(2, 1, 0), 2, 2).full()), 3);
    assert!(nack(&restored).is_none());
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
fn a_refresh_extends_freshness_without_new_contents() {
    let world = World::default();
    let contents = world.contents(2);
    let mut acceptor = accepted(&world, &world.publish(V1, &contents, ISSUED));
    let later = ISSUED.plus(Duration::from_secs(30));
    let refresh = world.publish(HeadOrder::new(1, 1, 1), &contents, later);
    let outputs = settle(&mut acceptor, Input::HeadArrived(refresh.head_update()), 30);
    let record = outputs.iter().find_map(|output| match output {
        Output::Persist(_, record) => Some(record),
        _ => None,
    });
    assert!(!record.unwrap().contents_changed);
    assert_eq!(acceptor.active().unwrap().head().fresh_until, later.plus(FRESH_FOR));
}

#[test]
fn at_start_the_highest_stored_snapshot_that_verifies_is_taken() {
    let world = World::default();
    let stored = |published: &Published| StoredSnapshot::of(accepted(&world, published).active().unwrap());
    let first = world.publish(V1, &world.contents(1), ISSUED);
    let second = world.publish(V2, &world.contents(2), ISSUED);
    let floors = accepted(&world, &first).floors().clone();
    let mut broken = stored(&second);
    broken.chunks[0][2] ^= 1;
    let on_disk = [stored(&first), broken];
    let acceptor = Acceptor::start(world.pinned(), floors.clone(), &on_disk, at(9));
    assert_eq!(active(&acceptor), Some(V1));
    assert_eq!(acceptor.rejects().last().map(|(reason, _)| reason), Some(Reason::SnapshotChunkMissing));

    // One above the floor: a crash came between the snapshot and the floor. The floor goes first.
    let mut acceptor = Acceptor::start(world.pinned(), floors, &[stored(&first), stored(&second)], at(9));
    assert_eq!(active(&acceptor), None);
    let first_outputs = outputs(&mut acceptor);
    let [Output::Persist(id, record)] = first_outputs.as_slice() else { panic!("{first_outputs:?}") };
    assert_eq!(record.floors.head.version.0, 2);
    acceptor.handle(Input::Persisted(*id), at(9));
    assert_eq!(active(&acceptor), Some(V2));

    // One below the floor: never.
    let floors = accepted(&world, &second).floors().clone();
    let acceptor = Acceptor::start(world.pinned(), floors, &[stored(&first)], at(9));
    assert_eq!(active(&acceptor), None);
    assert_eq!(acceptor.rejects().last().map(|(reason, _)| reason), Some(Reason::SnapshotRollback));
}

#[test]
fn a_stored_snapshot_is_taken_years_later_and_a_flipped_bit_of_it_never() {
    let world = World::default();
    let first = accepted(&world, &world.publish(V1, &world.contents(1), ISSUED));
    let stored = StoredSnapshot::of(first.active().unwrap());
    let years = at(10 * 365 * 86_400);
    let start = |stored: &StoredSnapshot| {
        Acceptor::start(world.pinned(), first.floors().clone(), std::slice::from_ref(stored), years)
    };
    assert_eq!(active(&start(&stored)), Some(V1));
    let flip = |change: &dyn Fn(&mut StoredSnapshot)| {
        let mut stored = stored.clone();
        change(&mut stored);
        assert_eq!(active(&start(&stored)), None);
    };
    for byte in 0..stored.head.len() {
        flip(&|stored| stored.head[byte] ^= 1);
    }
    for (index, chunk) in stored.chunks.iter().enumerate() {
        for byte in 0..chunk.len() {
            flip(&|stored| stored.chunks[index][byte] ^= 1);
        }
    }
    flip(&|stored| stored.slots[0].chunk_id[0] ^= 1);
    flip(&|stored| stored.leaf.salt[0] ^= 1);
    flip(&|stored| stored.proof.hashes[1][0] ^= 1);
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
