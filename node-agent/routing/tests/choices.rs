//! What is chosen, what is kept, and what is explained.

mod support;

use rap_routing::{Constraint, Engine, Input, Lane, Probes, RelayFacts, Source, Standing, Why};
use rap_types::{OrganizationId, Reason};
use support::*;

/// Relays 1 to 4, one destination with these homes.
fn engine(homes: &[u8]) -> Engine {
    let mut engine = Engine::new(1);
    relays(&mut engine, (1..=4).map(facts), at(0));
    engine.handle(Input::Destination(destination(1, homes)), at(0));
    engine.decide(at(0));
    engine
}

#[test]
fn with_nothing_measured_the_homes_come_in_their_order() {
    let engine = engine(&[3, 1, 2]);
    assert_eq!(paths(&engine, 1), (vec![3], vec![1]));
    let decision = engine.decision(node(1)).unwrap();
    assert_eq!((decision.why, decision.since, decision.generation), (Why::First, at(0), 1));
}

#[test]
fn a_relay_that_is_measured_to_be_near_wins_and_a_little_nearer_one_does_not() {
    let mut engine = engine(&[3, 1, 2]);
    measured(&mut engine, 3, 40_000, at(1));
    measured(&mut engine, 1, 38_000, at(1));
    engine.decide(at(10));
    assert_eq!(paths(&engine, 1).0, [3], "within the margin");
    measured(&mut engine, 2, 2_000, at(11));
    let changed = engine.decide(at(12));
    assert_eq!((changed, paths(&engine, 1)), (vec![node(1)], (vec![2], vec![1])));
    assert_eq!(engine.decision(node(1)).unwrap().why, Why::Better);
}

#[test]
fn the_backup_takes_over_when_the_first_link_goes_and_the_next_best_is_the_backup() {
    let mut engine = engine(&[3, 1, 2]);
    engine.handle(Input::LinkUp(relay(3)), at(1));
    engine.decide(at(1));
    engine.handle(Input::LinkDown(relay(3)), at(2));
    assert_eq!(engine.due(), Some(at(1)), "it does not wait");
    assert_eq!(engine.decide(at(2)), [node(1)]);
    assert_eq!(paths(&engine, 1), (vec![1], vec![2]));
    assert_eq!(engine.decision(node(1)).unwrap().why, Why::Failed);
    engine.handle(Input::LinkUp(relay(3)), at(3));
    engine.decide(at(60));
    assert_eq!(paths(&engine, 1).0, [1], "it is not worth a change back");
}

#[test]
fn a_relay_that_did_not_reach_another_one_is_not_asked_for_it_by_any_destination_for_a_minute() {
    let mut engine = engine(&[4]);
    engine.handle(Input::Destination(destination(2, &[4])), at(0));
    for number in [1, 2] {
        measured(&mut engine, number, 2_000, at(1));
    }
    engine.handle(Input::LinkDown(relay(4)), at(1));
    engine.decide(at(2));
    let (first, second) = (paths(&engine, 1), paths(&engine, 2));
    assert_eq!((first.0.len(), first.0[1], first.1.len()), (2, 4, 2), "{first:?}");
    assert_eq!(second.0, first.0);
    let near = first.0[0];
    engine.handle(Input::NotReached(relay(near), relay(4)), at(3));
    assert_eq!(engine.due(), Some(at(2)), "it does not wait");
    engine.decide(at(3));
    let other = 3 - near;
    assert_eq!((paths(&engine, 1).0, paths(&engine, 2).0), (vec![other, 4], vec![other, 4]));
    engine.handle(Input::NotReached(relay(other), relay(4)), at(4));
    engine.decide(at(4));
    let third = paths(&engine, 1).0;
    assert_eq!((third.len(), &third[1..]), (3, &[3, 4][..]), "through the one that nobody spoke of");
    engine.decide(at(70));
    engine.decide(at(140));
    assert_eq!(paths(&engine, 1).0.len(), 2, "a word counts for a minute");
}

#[test]
fn what_does_not_work_is_planned_while_nothing_else_is_there() {
    let mut engine = engine(&[3, 1]);
    for relay in [3, 1].map(relay) {
        engine.handle(Input::LinkDown(relay), at(1));
        engine.decide(at(1));
    }
    let plan = paths(&engine, 1);
    assert!(plan == (vec![3], vec![1]) || plan == (vec![1], vec![3]), "{plan:?}");
    engine.decide(at(30));
    assert_eq!(paths(&engine, 1), plan, "one that does not work is as good as another");
}

#[test]
fn a_path_that_was_refused_comes_last_for_a_minute() {
    let mut engine = engine(&[3, 1, 2]);
    engine.handle(Input::PathFailed(node(1), vec![relay(3)], Reason::RelayUnknownEnd), at(1));
    engine.decide(at(1));
    assert_eq!(paths(&engine, 1), (vec![1], vec![2]));
    let explained = engine.explain(node(1), Lane::C, &[], at(2)).unwrap();
    let third = explained.candidates.iter().find(|candidate| candidate.relays == [relay(3)]).unwrap();
    assert_eq!(third.standing, Standing::Refused(Reason::RelayUnknownEnd));
    engine.handle(Input::LinkDown(relay(1)), at(70));
    engine.decide(at(70));
    assert_eq!(paths(&engine, 1), (vec![2], vec![3]), "it is one again");
}

#[test]
fn a_path_that_is_measured_counts_by_what_it_takes_and_not_by_the_sum() {
    let mut engine = engine(&[3, 1]);
    measured(&mut engine, 3, 10_000, at(1));
    measured(&mut engine, 1, 60_000, at(1));
    engine.decide(at(2));
    assert_eq!(paths(&engine, 1).0, [3]);
    let both = [(3, 400_000), (1, 70_000)];
    for second in 3..10 {
        for (number, rtt_us) in both {
            let probes = Probes { rtt_us, answered: 10, lost: 0 };
            engine.handle(Input::PathMeasured(node(1), vec![relay(number)], probes), at(second));
        }
        engine.decide(at(second));
    }
    assert_eq!(paths(&engine, 1), (vec![1], vec![3]));
    let explained = engine.explain(node(1), Lane::C, &[], at(10)).unwrap();
    let measured = explained.candidates[0].measured_us;
    assert_eq!((measured, explained.candidates[0].standing), (Some(70_000), Standing::Chosen));
}

#[test]
fn two_relays_are_taken_where_both_say_that_the_link_between_them_is_short() {
    let mut engine = engine(&[3, 1]);
    measured(&mut engine, 2, 10_000, at(1));
    for home in [3, 1] {
        measured(&mut engine, home, 60_000, at(1));
    }
    engine.handle(said(2, &[(3, 5_000)]), at(1));
    engine.handle(said(3, &[(2, 400_000)]), at(1));
    engine.decide(at(2));
    assert_eq!(paths(&engine, 1).0, [3], "the worse word counts");
    engine.handle(said(3, &[(2, 6_000)]), at(2));
    engine.decide(at(4));
    assert_eq!(paths(&engine, 1), (vec![2, 3], vec![1]));
    let explained = engine.explain(node(1), Lane::C, &[], at(5)).unwrap();
    let legs: Vec<_> = explained.candidates[0].legs.iter().map(|leg| (leg.to, leg.source)).collect();
    assert_eq!(legs, [(relay(2), Source::Measured), (relay(3), Source::Said), (node(1), Source::Assumed)]);
    engine.decide(at(70));
    assert_eq!(paths(&engine, 1).0.len(), 1, "nobody says it any more");
}

#[test]
fn a_link_between_relays_of_which_nobody_speaks_is_planned_with_and_one_that_is_down_is_not() {
    let mut engine = engine(&[3]);
    measured(&mut engine, 1, 10_000, at(1));
    engine.decide(at(1));
    assert_eq!(
        paths(&engine, 1),
        (vec![3], vec![1, 3]),
        "nothing is apart from the only home: another begin"
    );
    engine.handle(Input::LinkDown(relay(3)), at(2));
    engine.decide(at(2));
    assert_eq!(paths(&engine, 1).0, [1, 3]);
    let explained = engine.explain(node(1), Lane::C, &[], at(2)).unwrap();
    let legs: Vec<_> = explained.candidates[0].legs.iter().map(|leg| (leg.to, leg.source)).collect();
    assert_eq!(legs, [(relay(1), Source::Measured), (relay(3), Source::Assumed), (node(1), Source::Assumed)]);

    engine.handle(said_lost(3, &[1, 2]), at(3));
    engine.decide(at(4));
    assert_eq!(paths(&engine, 1).0, [1, 4, 3], "one end says that its links with 1 and 2 are down");
    engine.handle(said(1, &[(3, 5_000)]), at(5));
    engine.decide(at(6));
    assert_eq!(paths(&engine, 1).0, [1, 4, 3], "the other end alone does not make it work");
    engine.handle(said_lost(3, &[1, 2, 4]), at(7));
    engine.decide(at(8));
    let explained = engine.explain(node(1), Lane::C, &[], at(8)).unwrap();
    let works = explained.candidates.iter().filter(|candidate| candidate.cost.is_some());
    assert_eq!(works.count(), 0, "every link with the only home is down");
}

#[test]
fn two_homes_of_others_give_a_path_of_several_relays_and_a_backup_apart_from_it() {
    let mut engine = engine(&[3, 4]);
    for home in [1, 2] {
        measured(&mut engine, home, 10_000, at(1));
    }
    for far in [3, 4] {
        engine.handle(Input::LinkDown(relay(far)), at(1));
    }
    engine.decide(at(2));
    let (primary, backup) = paths(&engine, 1);
    assert_eq!((primary.len(), backup.len()), (2, 2));
    assert!(primary.iter().all(|relay| !backup.contains(relay)), "{primary:?} and {backup:?}");
}

#[test]
fn a_path_that_takes_much_longer_than_its_relays_say_is_disputed_once_a_minute() {
    let mut engine = engine(&[3, 1]);
    measured(&mut engine, 2, 10_000, at(0));
    let measure = |engine: &mut Engine, relays: &[u8], rtt_us, seconds: std::ops::Range<u64>| {
        for second in seconds {
            let relays = relays.iter().map(|number| relay(*number)).collect();
            engine.handle(Input::PathMeasured(node(1), relays, probes(rtt_us)), at(second));
        }
    };
    let lie = |engine: &mut Engine, second| {
        engine.handle(said(2, &[(3, 1_000)]), at(second));
        engine.handle(said(3, &[(2, 1_000)]), at(second));
    };
    lie(&mut engine, 0);
    // Predicted: 10 ms measured, 1 ms said, 50 ms assumed.
    measure(&mut engine, &[2, 3], 85_000, 1..8);
    assert_eq!(engine.disputed(), 0, "less than half more");
    measure(&mut engine, &[3], 900_000, 8..16);
    assert_eq!(engine.disputed(), 0, "no relay said anything of it");
    measure(&mut engine, &[2, 3], 300_000, 16..40);
    assert_eq!(engine.disputed(), 1);
    let explained = engine.explain(node(1), Lane::C, &[], at(40)).unwrap();
    let of = |relays: &[u8]| {
        let relays: Vec<_> = relays.iter().map(|number| relay(*number)).collect();
        explained.candidates.iter().find(|candidate| candidate.relays == relays).unwrap().disputed
    };
    assert!(of(&[2, 3]) && !of(&[3]));
    let damped: Vec<_> = explained.damped.iter().map(|damped| (damped.relay, damped.avoided)).collect();
    assert_eq!(damped, [(relay(2), false), (relay(3), false)], "both said it; relay 1 said nothing");
    lie(&mut engine, 70);
    measure(&mut engine, &[2, 3], 300_000, 70..80);
    assert_eq!(engine.disputed(), 2, "a minute later it holds still");
}

#[test]
fn each_candidate_has_the_first_constraint_that_it_does_not_meet() {
    let organization = Some(OrganizationId::from_bytes([7; 16]));
    let mut engine = Engine::new(1);
    let of = |number, change: fn(&mut RelayFacts)| {
        let mut facts = facts(number);
        change(&mut facts);
        facts
    };
    let customers = RelayFacts { organization, ..facts(2) };
    let all = [
        facts(1),
        customers,
        of(3, |f| f.revoked = true),
        of(4, |f| f.draining = true),
        facts(5),
        facts(6),
        facts(7),
    ];
    relays(&mut engine, all, at(0));
    engine.handle(Input::Destination(destination(1, &[1, 2, 3, 4, 5, 7])), at(0));
    engine.handle(Input::LinkDown(relay(5)), at(0));
    engine.decide(at(0));
    assert_eq!(paths(&engine, 1), (vec![1], vec![7]));
    let explained = engine.explain(node(1), Lane::C, &[relay(7)], at(1)).unwrap();
    assert_eq!(explained.decision.backup, [relay(5)], "nothing better is left");
    let of = |number| {
        let candidate =
            explained.candidates.iter().find(|candidate| candidate.relays == [relay(number)]).unwrap();
        candidate.constraint.map(|constraint| (constraint, constraint.code().code()))
    };
    assert_eq!(of(1), None);
    assert_eq!(of(2), Some((Constraint::Organization, "relay.organization")));
    assert_eq!(of(3), Some((Constraint::Revoked, "node.revoked")));
    assert_eq!(of(4), Some((Constraint::Draining, "relay.draining")));
    assert_eq!(of(5), Some((Constraint::LinkDown, "path.next_unreachable")));
    assert_eq!(of(6), Some((Constraint::NotAttached, "path.next_unreachable")));
    assert_eq!(of(7), Some((Constraint::Assumed, "path.next_unreachable")));
    assert_eq!(paths(&engine, 1), (vec![1], vec![7]), "asking changes nothing");
    assert_eq!(engine.explain(node(2), Lane::C, &[], at(1)), None);
}

#[test]
fn another_lane_minds_other_things() {
    let mut engine = engine(&[3, 1]);
    measured(&mut engine, 1, 30_000, at(1));
    engine.handle(Input::LinkUp(relay(3)), at(1));
    for _ in 0..200 {
        engine.handle(Input::LinkMeasured(relay(3), Probes { rtt_us: 4_000, answered: 100, lost: 1 }), at(1));
    }
    let best = |lane| engine.explain(node(1), lane, &[], at(1)).unwrap().decision.primary;
    assert_eq!(
        (best(Lane::A), best(Lane::C)),
        (vec![relay(1)], vec![relay(3)]),
        "1 % of loss is much for input"
    );
}

#[test]
fn a_relay_that_leaves_is_left_and_takes_nothing_new() {
    let mut engine = engine(&[3, 1]);
    let draining = |number| RelayFacts { draining: number == 3, ..facts(number) };
    relays(&mut engine, (1..=4).map(draining), at(1));
    engine.handle(Input::Destination(destination(2, &[3])), at(1));
    engine.decide(at(1));
    assert_eq!(paths(&engine, 1), (vec![1], vec![3]), "what stands there may stay until there is another");
    assert_eq!(engine.decision(node(1)).unwrap().why, Why::Avoided);
    assert_eq!(paths(&engine, 2), (vec![], vec![]));
    assert_eq!(engine.decision(node(2)).unwrap().why, Why::None);
}
