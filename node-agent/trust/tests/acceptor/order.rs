//! Order and time: rollback, equivocation, freshness, clocks.

use super::*;

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
