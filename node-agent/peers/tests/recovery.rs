//! The recovery ladder and its times (page 05), and peers without an admitted way (page 25, section 7).

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use rap_peers::{Input, Role, Rung, State, Why};
use support::{World, known, node, number, own};

/// All links are lost, and nobody answers.
fn lost(count: u16) -> World {
    let mut world = World::plain(count);
    world.answer();
    world.dialled.clear();
    world.start = world.now;
    world.kill(1..=count);
    world
}

#[test]
fn the_rungs_have_their_times() {
    let mut world = lost(40);
    let mut rung_at = |ms: u64| {
        let at = world.start.plus(Duration::from_millis(ms));
        world.pass(at.since(world.now));
        world.peers.rung(world.now)
    };
    let rungs = [0, 1_999, 2_000, 4_999, 5_000, 9_999, 10_000, 90_000].map(&mut rung_at);
    let expected = [
        Rung::Active,
        Rung::Active,
        Rung::Warm,
        Rung::Warm,
        Rung::Cold,
        Rung::Cold,
        Rung::LastSnapshot,
        Rung::LastSnapshot,
    ];
    assert_eq!(rungs, expected);
}

#[test]
fn warm_peers_race_three_at_a_time_and_a_quarter_of_a_second_apart() {
    let mut world = lost(40);
    let members = world.wanted();
    world.pass_ms(1_950);
    assert!(world.dialled.is_empty(), "wanted peers alone are dialled again: {:?}", world.dialled);
    world.pass_ms(1_000);
    let at: Vec<u128> = world.dialled.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(at, [2_000, 2_250, 2_500]);
    assert_eq!(world.because(Why::Recovery).len(), 3);
    assert!(members.is_subset(&world.wanted()), "they are dialled on");
    world.pass_ms(2_500);
    assert_eq!(world.because(Why::Recovery).len(), 3, "one that does not answer makes room for the next");
    assert!(world.dialled.len() > 3, "{:?}", world.dialled);
}

#[test]
fn the_first_that_answers_is_kept_and_the_others_are_let_go() {
    let mut world = lost(40);
    world.pass_ms(2_600);
    let tried = world.because(Why::Recovery);
    world.rise(tried[1]);
    assert_eq!(world.peers.rung(world.now), Rung::Connected);
    assert!(world.because(Why::Recovery).is_empty());
    assert_eq!(world.view(tried[1]).why, Why::Fill);
    let others = [tried[0], tried[2]].map(|number| world.view(number));
    assert!(others.iter().all(|view| !view.wanted || view.why == Why::Replacement), "{others:?}");
}

#[test]
fn cold_peers_are_tried_when_the_warm_ones_failed() {
    let all = (1..=60).map(known).collect();
    let mut world = World::new(own(Role::Thin), all);
    world.answer();
    world.kill(1..=60);
    let warm: BTreeSet<u16> = world.tier(rap_peers::Tier::Warm).into_iter().collect();
    world.dialled.clear();
    world.start = world.now;
    world.pass_ms(4_900);
    let tried = |world: &World| world.dialled.iter().map(|(_, number)| *number).collect::<BTreeSet<u16>>();
    assert!(tried(&world).is_subset(&warm), "{:?} {warm:?}", tried(&world));
    world.pass_ms(10_000);
    assert!(!tried(&world).is_subset(&warm), "{:?}", tried(&world));
}

#[test]
fn a_round_in_which_nobody_answered_is_followed_by_a_longer_pause_each_time() {
    let mut world = lost(7);
    world.pass_ms(300_000);
    let mut pauses: Vec<u64> = Vec::new();
    let others: BTreeSet<u16> = world.dialled.iter().map(|(_, number)| *number).collect();
    assert_eq!(others.len(), 2);
    for two in world.dialled.windows(2) {
        let gap = u64::try_from((two[1].0 - two[0].0).as_millis()).unwrap();
        pauses.extend((gap > 1_000).then_some(gap));
    }
    assert!(pauses.len() >= 4, "{pauses:?}");
    assert!(pauses.last() > Some(&(pauses[0] * 4)), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 76_000), "{pauses:?}");
}

#[test]
fn an_accepted_link_ends_recovery() {
    let mut world = lost(40);
    world.pass_ms(6_000);
    let stranger = (1..=40).find(|number| !world.wanted().contains(number)).unwrap();
    world.rise(stranger);
    assert_eq!(world.peers.rung(world.now), Rung::Connected);
    assert!(world.because(Why::Recovery).is_empty() && !world.wanted().contains(&stranger));
}

#[test]
fn a_node_that_knows_nobody_waits_for_nothing() {
    let mut world = World::plain(0);
    world.pass_ms(20_000);
    assert_eq!(world.peers.rung(world.now), Rung::Connected);
}

#[test]
fn a_peer_without_an_admitted_way_waits_and_is_asked_at_growing_intervals() {
    let mut world = World::plain(30);
    world.answer();
    let stranger = world.tier(rap_peers::Tier::Cold)[0];
    world.peers.handle(Input::Reach(node(stranger), false), world.now);
    assert_eq!(world.in_state(State::WaitingRendezvous), [stranger]);
    let begun = world.now;
    let mut asked = Vec::new();
    for _ in 0..8 {
        let at = world.view(stranger).asked_at.unwrap();
        assert!(world.peers.due(world.now).unwrap() <= at);
        world.now = at;
        assert_eq!(world.peers.asked(world.now).into_iter().map(number).collect::<Vec<_>>(), [stranger]);
        assert!(world.peers.asked(world.now).is_empty(), "once");
        asked.push(world.now.since(begun).as_secs());
    }
    assert_eq!(asked, [1, 3, 7, 15, 31, 63, 123, 183]);
    world.peers.handle(Input::Reach(node(stranger), true), world.now);
    assert_eq!((world.view(stranger).state, world.view(stranger).asked_at), (State::Idle, None));
}

#[test]
fn the_state_of_a_wanted_peer_follows_its_link() {
    let mut world = World::plain(3);
    let state = |world: &World| world.view(2).state;
    assert_eq!(state(&world), State::Connecting);
    world.dead = BTreeSet::from([2]);
    world.pass_ms(5_000);
    assert_eq!(state(&world), State::Failing);
    world.dead.clear();
    world.answer();
    assert_eq!(state(&world), State::Linked);
    world.kill([2]);
    assert_eq!(state(&world), State::Connecting);
    world.pass_ms(2_000);
    assert_eq!(state(&world), State::Failing);
}
