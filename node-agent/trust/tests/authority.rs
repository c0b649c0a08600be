//! The pin under attack: which key's heads count before, during and after a rotation.

mod support;

use std::sync::Arc;

use rap_contract::{AuthorityChain, Signer};
use rap_trust::{Acceptor, Input, Output, PersistId, Pinned, StoredSnapshot};
use rap_types::{HeadOrder, Incarnation, Reason};
use rap_wire::v1;
use support::{ISSUED, Published, World, at};
use v1::authority_record::Kind;

/// A world, its chain, and the worlds of the authorities that follow.
struct Rotations {
    worlds: Vec<World>,
    records: Vec<Vec<u8>>,
}

impl Rotations {
    /// `count` rotations, each starting the incarnation ten times its place.
    fn new(count: u8) -> Self {
        let first = World::default();
        let (mut worlds, mut chain) = (vec![first], World::default().chain());
        let mut records = World::default().authority_records();
        for number in 1..=count {
            let world = World { authority: Signer::from_seed(&[80 + number; 32]), ..World::default() };
            let signers = (&worlds.last().unwrap().authority, &world.authority);
            let record = world.record(&chain, Kind::Rotate, signers, u64::from(number) * 10);
            chain = chain.extended(&[&record], &world.installation_authority.public(), &[]).unwrap();
            records.push(record);
            worlds.push(world);
        }
        Self { worlds, records }
    }

    fn chain(&self, length: usize) -> AuthorityChain {
        let first = &self.worlds[0];
        let vouching = first.installation_authority.public();
        AuthorityChain::verify(&self.records[..length], &vouching, first.installation, first.cluster, &[])
            .unwrap()
    }

    fn pinned(&self, length: usize) -> Pinned {
        Pinned { chain: Arc::new(self.chain(length)), ..self.worlds[0].pinned() }
    }

    fn message(&self, range: std::ops::Range<usize>) -> Input {
        Input::RecordsArrived(v1::AuthorityRecords { records: self.records[range].to_vec() })
    }

    /// A version by the authority `number`, in its incarnation.
    fn published(&self, number: usize, version: u64) -> Published {
        let world = &self.worlds[number];
        let incarnation = (number as u64 * 10).max(1);
        world.publish(HeadOrder::new(incarnation, version, 0), &world.contents(2), ISSUED)
    }
}

fn outputs(acceptor: &mut Acceptor) -> Vec<Output> {
    std::iter::from_fn(|| acceptor.poll_output()).collect()
}

fn settle(acceptor: &mut Acceptor, input: Input) -> Vec<Output> {
    acceptor.handle(input, at(2));
    let mut all = Vec::new();
    loop {
        let new = outputs(acceptor);
        if new.is_empty() {
            return all;
        }
        for output in &new {
            if let Output::Persist(id, _) = output {
                acceptor.handle(Input::Persisted(*id), at(2));
            }
        }
        all.extend(new);
    }
}

fn started(rotations: &Rotations) -> Acceptor {
    let mut acceptor = Acceptor::start(rotations.pinned(1), rotations.worlds[0].floors(), &[], at(0));
    settle(&mut acceptor, Input::Updated(rotations.published(0, 5).full()));
    assert_eq!(active(&acceptor), Some((1, 5)));
    acceptor
}

fn active(acceptor: &Acceptor) -> Option<(u64, u64)> {
    let order = acceptor.active()?.head().order;
    Some((order.incarnation.0, order.version.0))
}

fn confirmed(outputs: &[Output]) -> Vec<(u64, String)> {
    let confirms = outputs.iter().filter_map(|output| match output {
        Output::Confirm(confirm) => Some((confirm.sequence, confirm.reason.clone())),
        _ => None,
    });
    confirms.collect()
}

fn refused(acceptor: &mut Acceptor, input: Input) -> String {
    let before = active(acceptor);
    let reason = settle(acceptor, input).into_iter().find_map(|output| match output {
        Output::Refuse(nack) => Some(nack.reason),
        _ => None,
    });
    assert_eq!(active(acceptor), before);
    reason.expect("refused")
}

#[test]
fn the_new_key_counts_once_its_record_is_on_disk_and_the_old_one_no_more() {
    let rotations = Rotations::new(1);
    let mut acceptor = started(&rotations);
    let new = rotations.published(1, 6);
    assert_eq!(refused(&mut acceptor, Input::Updated(new.full())), "key.unknown");

    acceptor.handle(rotations.message(1..2), at(2));
    let first = outputs(&mut acceptor);
    let [Output::Persist(id, record)] = first.as_slice() else { panic!("{first:?}") };
    assert_eq!(record.chain.as_ref().unwrap().sequence(), 2);
    assert_eq!((record.floors.head.incarnation, record.floors.head.version.0), (Incarnation(10), 0));
    assert_eq!(acceptor.pinned().chain.sequence(), 1, "nothing counts before it is on disk");
    acceptor.handle(Input::Persisted(*id), at(2));
    assert_eq!(confirmed(&outputs(&mut acceptor)), [(2, String::new())]);
    assert_eq!(active(&acceptor), Some((1, 5)), "the last good snapshot serves until the next head");

    let old = rotations.published(0, 7);
    assert_eq!(refused(&mut acceptor, Input::Updated(old.full())), "key.unknown");
    settle(&mut acceptor, Input::Updated(new.full()));
    assert_eq!(active(&acceptor), Some((10, 6)));
}

#[test]
fn a_delta_and_a_head_of_the_new_key_apply_to_the_snapshot_of_the_old_one() {
    let rotations = Rotations::new(1);
    let mut acceptor = started(&rotations);
    settle(&mut acceptor, rotations.message(1..2));
    settle(&mut acceptor, Input::HeadArrived(rotations.published(1, 5).head_update()));
    assert_eq!(active(&acceptor), Some((10, 5)));
}

#[test]
fn a_node_that_slept_through_two_rotations_walks_the_chain_from_its_stored_snapshot() {
    let rotations = Rotations::new(2);
    let before = started(&rotations);
    let stored = StoredSnapshot::of(before.active().unwrap());
    let mut acceptor = Acceptor::start(rotations.pinned(1), before.floors().clone(), &[stored], at(900));
    assert_eq!(active(&acceptor), Some((1, 5)));
    outputs(&mut acceptor);
    let last = rotations.published(2, 9);
    assert_eq!(refused(&mut acceptor, Input::Updated(last.full())), "key.unknown");
    assert_eq!(confirmed(&settle(&mut acceptor, rotations.message(1..3))), [(3, String::new())]);
    settle(&mut acceptor, Input::Updated(last.full()));
    assert_eq!(active(&acceptor), Some((20, 9)));
}

#[test]
fn records_that_do_not_extend_the_chain_change_nothing() {
    let rotations = Rotations::new(2);
    let world = &rotations.worlds[0];
    let chain = rotations.chain(1);
    let stranger = Signer::from_seed(&[99; 32]);
    let next = Signer::from_seed(&[98; 32]);
    let vouching = &world.installation_authority;
    let rotate = |kind, signers, incarnation| world.record(&chain, kind, signers, incarnation);
    let other_cluster = World { cluster: rap_types::ClusterId::from_bytes([9; 16]), ..World::default() };
    let cases = [
        (rotations.records[2..3].to_vec(), "key.unknown"),
        (vec![rotate(Kind::Rotate, (&stranger, &next), 10)], "key.unknown"),
        (vec![rotate(Kind::Recovery, (&world.authority, &next), 10)], "chain.broken"),
        (vec![rotate(Kind::Rotate, (vouching, &next), 10)], "chain.broken"),
        (vec![rotate(Kind::Create, (vouching, &next), 10)], "chain.broken"),
        (vec![rotate(Kind::Rotate, (&world.authority, &next), 1)], "chain.broken"),
        (vec![rotate(Kind::Rotate, (&world.authority, &world.authority), 10)], "signature.missing"),
        (vec![other_cluster.record(&chain, Kind::Rotate, (&world.authority, &next), 10)], "header.cluster"),
        (vec![b"garbage".to_vec()], "envelope.malformed"),
    ];
    for (records, reason) in cases {
        let mut acceptor = started(&rotations);
        let floors = acceptor.floors().clone();
        let outputs = settle(&mut acceptor, Input::RecordsArrived(v1::AuthorityRecords { records }));
        assert_eq!(confirmed(&outputs), [(1, reason.to_owned())]);
        assert!(!outputs.iter().any(|output| matches!(output, Output::Persist(..))));
        assert_eq!((acceptor.pinned().chain.sequence(), acceptor.floors()), (1, &floors));
    }
}

#[test]
fn no_flipped_bit_of_a_record_moves_the_pin() {
    let rotations = Rotations::new(1);
    let mut acceptor = started(&rotations);
    let record = &rotations.records[1];
    for bit in 0..record.len() * 8 {
        let mut altered = record.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        settle(&mut acceptor, Input::RecordsArrived(v1::AuthorityRecords { records: vec![altered] }));
        assert_eq!(acceptor.pinned().chain.sequence(), 1, "bit {bit}");
    }
}

#[test]
fn records_it_has_are_confirmed_again_and_written_once() {
    let rotations = Rotations::new(1);
    let mut acceptor = started(&rotations);
    settle(&mut acceptor, rotations.message(1..2));
    let again = settle(&mut acceptor, rotations.message(0..2));
    assert!(matches!(again.as_slice(), [Output::Confirm(confirm)] if confirm.sequence == 2), "{again:?}");
}

#[test]
fn a_record_that_cannot_be_stored_leaves_the_old_pin_and_works_later() {
    let rotations = Rotations::new(1);
    let mut acceptor = started(&rotations);
    acceptor.handle(rotations.message(1..2), at(2));
    let first = outputs(&mut acceptor);
    let [Output::Persist(id, _)] = first.as_slice() else { panic!("{first:?}") };
    acceptor.handle(Input::PersistFailed(*id, Reason::StateNoSpace), at(2));
    assert_eq!(confirmed(&outputs(&mut acceptor)), [(1, "state.no_space".to_owned())]);
    acceptor.handle(Input::Persisted(PersistId(id.0)), at(2));
    assert_eq!(acceptor.pinned().chain.sequence(), 1, "an answer that comes too late changes nothing");
    settle(&mut acceptor, Input::Updated(rotations.published(0, 8).full()));
    assert_eq!(active(&acceptor), Some((1, 8)), "the old key still serves");
    settle(&mut acceptor, rotations.message(1..2));
    assert_eq!(acceptor.pinned().chain.sequence(), 2);
}

#[test]
fn recovery_ends_a_freeze_and_a_floor_that_a_thief_drove_up() {
    let rotations = Rotations::new(0);
    let world = &rotations.worlds[0];
    let mut acceptor = started(&rotations);
    let high = HeadOrder::new(u64::MAX, u64::MAX, u64::MAX);
    settle(&mut acceptor, Input::Updated(world.publish(high, &world.contents(1), ISSUED).full()));
    let twin = world.publish(high, &world.contents(3), ISSUED);
    assert_eq!(refused(&mut acceptor, Input::Updated(twin.full())), "snapshot.equivocation");
    assert!(acceptor.floors().frozen.is_some());

    let next = World { authority: Signer::from_seed(&[97; 32]), ..World::default() };
    let signers = (&world.installation_authority, &next.authority);
    let record = world.record(&rotations.chain(1), Kind::Recovery, signers, 30);
    settle(&mut acceptor, Input::RecordsArrived(v1::AuthorityRecords { records: vec![record] }));
    assert_eq!(acceptor.floors().frozen, None);
    let healed = next.publish(HeadOrder::new(30, 1, 0), &next.contents(2), ISSUED);
    settle(&mut acceptor, Input::Updated(healed.full()));
    assert_eq!(active(&acceptor), Some((30, 1)));
    let stolen = world.publish(HeadOrder::new(31, 1, 0), &world.contents(1), ISSUED);
    assert_eq!(refused(&mut acceptor, Input::Updated(stolen.full())), "key.unknown");
}

#[test]
fn after_a_restart_the_predecessors_snapshot_holds_only_until_the_first_head_of_the_new_key() {
    let rotations = Rotations::new(1);
    let mut acceptor = started(&rotations);
    let old = StoredSnapshot::of(acceptor.active().unwrap());
    settle(&mut acceptor, rotations.message(1..2));
    let start = |floors: &rap_trust::Floors, stored: &[StoredSnapshot]| {
        Acceptor::start(rotations.pinned(2), floors.clone(), stored, at(9))
    };
    let mut restarted = start(acceptor.floors(), std::slice::from_ref(&old));
    assert_eq!(active(&restarted), Some((1, 5)), "the host may be away from the control plane for days");
    let first = outputs(&mut restarted);
    assert!(matches!(first.as_slice(), [Output::Activate(_)]), "no floor moves: {first:?}");

    // A head that the old key signed for the time of the new one was never its to sign.
    let forged =
        rotations.worlds[0].publish(HeadOrder::new(11, 1, 0), &rotations.worlds[0].contents(1), ISSUED);
    let mut thief = Acceptor::start(rotations.pinned(1), rotations.worlds[0].floors(), &[], at(0));
    settle(&mut thief, Input::Updated(forged.full()));
    let forged = StoredSnapshot::of(thief.active().unwrap());
    let refusing = start(acceptor.floors(), &[forged]);
    assert_eq!(active(&refusing), None);
    assert_eq!(refusing.rejects().last().map(|(reason, _)| reason), Some(Reason::KeyState));

    settle(&mut acceptor, Input::Updated(rotations.published(1, 6).full()));
    let gone = start(acceptor.floors(), &[old]);
    assert_eq!(active(&gone), None);
    assert_eq!(gone.rejects().last().map(|(reason, _)| reason), Some(Reason::SnapshotRollback));
}

#[test]
fn an_operators_pin_may_name_an_ancestor_and_nothing_else() {
    let rotations = Rotations::new(1);
    let chain = rotations.chain(2);
    let pin = |key: &Signer| rap_trust::AuthorityPin::read(Some(&key.public().to_string()), None).unwrap();
    for world in &rotations.worlds {
        assert_eq!(pin(&world.authority).check_chain(&chain), Ok(()));
    }
    let stranger = pin(&Signer::from_seed(&[99; 32])).check_chain(&chain).unwrap_err();
    assert_eq!(stranger.reason, Reason::PinMismatch);
    assert_eq!(pin(&rotations.worlds[0].installation_authority).check_chain(&chain), Err(stranger));
    assert_eq!(rap_trust::AuthorityPin::default().check_chain(&chain), Ok(()));
}
