//! The disk: nothing overtakes it, and what it holds is verified at start.

use super::*;

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
    assert_eq!(early.trust.revoked.len(), 1);
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
    assert_eq!((early.trust.revoked.len(), nack.reason.as_str()), (2, "state.timeout"));
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
    assert_eq!(active(&acceptor), Some(V1));
    let first_outputs = outputs(&mut acceptor);
    let [Output::Activate(_), Output::Persist(id, record)] = first_outputs.as_slice() else {
        panic!("{first_outputs:?}")
    };
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
fn what_was_acknowledged_is_in_use_though_a_later_one_is_stored_and_the_disk_takes_no_floor() {
    let world = World::default();
    let stored = |published: &Published| StoredSnapshot::of(accepted(&world, published).active().unwrap());
    let first = world.publish(V1, &world.contents(3), ISSUED);
    let mut contents = world.contents(3);
    contents.revoke(&world.cluster_ca, &[1]);
    let second = world.publish(V2, &contents, ISSUED);
    let floors = accepted(&world, &first).floors().clone();
    let mut acceptor = Acceptor::start(world.pinned(), floors, &[stored(&second), stored(&first)], at(9));
    let started = outputs(&mut acceptor);
    let [Output::Activate(used), Output::Restrict(early), Output::Persist(id, _)] = started.as_slice() else {
        panic!("{started:?}")
    };
    assert_eq!((used.head().order, early.trust.revoked.len()), (V1, 1));
    acceptor.handle(Input::PersistFailed(*id, Reason::StateNoSpace), at(9));
    assert_eq!(active(&acceptor), Some(V1));
    // The control plane has it once more, and there is room.
    settle(&mut acceptor, Input::Updated(second.full()), 10);
    assert_eq!(active(&acceptor), Some(V2));
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
