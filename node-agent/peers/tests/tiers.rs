//! Sizes and composition of the tiers (page 07, R.7; page 25, section 7), and make-before-break.

mod support;

use std::collections::BTreeSet;

use rap_peers::{Input, Known, Measured, Own, Required, Role, Tier, Why, sizes};
use support::{World, known, node, own};

fn relay(number: u16, home: Option<usize>) -> Known {
    Known { relay: true, home, ..known(number) }
}

/// A node that relays 1 to `relays` serve, in the order of its homes; the other peers are plain.
fn relayed(relays: u16, plain: u16, homes: usize) -> World {
    let mut all: Vec<Known> = (1..=relays).map(|n| relay(n, Some(usize::from(n) - 1))).collect();
    all.extend((relays + 1..=relays + plain).map(known));
    World::new(Own { relayed: true, homes, ..own(Role::Plain) }, all)
}

#[test]
fn what_is_wanted_is_bounded_by_the_role_and_nobody_wants_all() {
    for (role, most) in [(Role::Plain, 5), (Role::Thin, 3), (Role::Relay, 20)] {
        let all = (1..=200).map(|n| Known { relay: role == Role::Relay, ..known(n) }).collect();
        let mut world = World::new(own(role), all);
        world.answer();
        assert_eq!((world.wanted().len(), world.tier(Tier::Active).len()), (most, most), "{role:?}");
        assert_eq!(world.tier(Tier::Warm).len(), sizes(role).warm);
        assert_eq!(world.tier(Tier::Cold).len(), 200 - most - sizes(role).warm);
    }
}

#[test]
fn a_small_cluster_without_relays_is_linked_fully() {
    let world = World::plain(5);
    assert_eq!(world.wanted(), (1..=5).collect());
    assert_eq!(world.because(Why::Fill).len(), 5);
}

#[test]
fn known_wanted_and_accepted_are_apart() {
    let mut world = World::plain(40);
    world.answer();
    let stranger = world.tier(Tier::Cold)[0];
    world.peers.handle(Input::Up(node(stranger)), world.now);
    world.decide();
    let view = world.view(stranger);
    assert_eq!((view.tier, view.why, view.wanted), (Tier::Active, Why::Accepted, false));
    assert_eq!(world.wanted().len(), 5, "what it accepts takes no place of what it wants");
    world.peers.handle(Input::Down(node(stranger)), world.now);
    world.decide();
    assert!(!world.wanted().contains(&stranger));
}

#[test]
fn a_node_with_relays_wants_the_first_homes_that_answer() {
    let mut world = relayed(6, 10, 2);
    assert_eq!(world.wanted(), BTreeSet::from([1, 2]));
    world.answer();
    world.kill([1]);
    world.pass_ms(1900);
    assert_eq!(world.wanted(), BTreeSet::from([1, 2]), "it may answer again");
    world.pass_ms(200);
    assert_eq!(
        world.wanted(),
        BTreeSet::from([1, 2, 3]),
        "the first stays wanted: a source looks for the node there"
    );
    world.dead.clear();
    world.pass_ms(100);
    assert_eq!(world.wanted(), BTreeSet::from([1, 2]), "it is back");
    assert_eq!(relayed(6, 10, 1).wanted(), BTreeSet::from([1]), "who can be dialled keeps one");
}

#[test]
fn a_spare_home_goes_only_when_enough_others_stand() {
    let mut world = relayed(4, 0, 2);
    world.dead = BTreeSet::from([1]);
    world.pass_ms(6000);
    assert_eq!(world.wanted(), BTreeSet::from([1, 2, 3]));
    world.dead.clear();
    world.kill([2]);
    world.decide();
    assert!(world.wanted().contains(&3), "one of the first two does not stand yet");
    world.pass_ms(100);
    assert!(world.up.contains(&1) && world.wanted().contains(&3), "{:?}", world.wanted());
    world.dead.clear();
    world.pass_ms(3000);
    assert_eq!(world.wanted(), BTreeSet::from([1, 2]));
}

#[test]
fn survivors_and_permitted_peers_are_wanted_whatever_they_cost() {
    let mut all: Vec<Known> = (1..=60).map(known).collect();
    all[30].required = Some(Required::Survives);
    all[40].required = Some(Required::Permitted);
    let mut world = World::new(own(Role::Plain), all);
    assert_eq!((world.because(Why::Survives), world.because(Why::Permitted)), (vec![31], vec![41]));
    assert_eq!(world.wanted().len(), 5);
    world.known[40].required = None;
    world.tell();
    assert_eq!(world.because(Why::Permitted), Vec::<u16>::new());
}

#[test]
fn the_two_best_by_cost_come_from_two_failure_domains() {
    let all = (1..=40).map(|n| Known { domain: if n <= 3 { "a" } else { "b" }.into(), ..known(n) });
    let mut world = World::new(own(Role::Plain), Vec::new());
    world.known = all.collect();
    world.peers.handle(Input::Known(world.own, world.known.clone()), world.now);
    for (number, rtt_ms) in [(1, 2), (2, 3), (3, 4), (4, 30), (5, 20)] {
        let measured = Measured { rtt_us: rtt_ms * 1000, loss_ppm: 0 };
        world.peers.handle(Input::Measured(node(number), measured), world.now);
    }
    world.decide();
    assert_eq!(world.because(Why::Cost), [1, 5]);
    assert_eq!(world.wanted().len(), 5);
}

#[test]
fn loss_counts_against_a_peer() {
    let mut world = World::new(own(Role::Plain), Vec::new());
    world.known = (1..=40).map(known).collect();
    world.peers.handle(Input::Known(world.own, world.known.clone()), world.now);
    for (number, rtt_us, loss_ppm) in [(1, 2_000, 50_000), (2, 20_000, 0), (3, 30_000, 0)] {
        world.peers.handle(Input::Measured(node(number), Measured { rtt_us, loss_ppm }), world.now);
    }
    world.decide();
    assert_eq!(world.because(Why::Cost), [2, 3]);
}

#[test]
fn ranks_of_the_control_plane_have_their_places() {
    let all = (1..=40).map(|n| Known { rank: if n > 30 { u32::from(n) } else { 0 }, ..known(n) }).collect();
    let world = World::new(own(Role::Plain), all);
    assert_eq!(world.because(Why::Rank), [31, 32]);
    assert_eq!(world.because(Why::Fill).len(), 3);
}

#[test]
fn a_relay_wants_relays_and_no_plain_node() {
    let mut all: Vec<Known> = (1..=12).map(|n| relay(n, None)).collect();
    all.extend((13..=60).map(known));
    let world = World::new(own(Role::Relay), all);
    assert_eq!(world.wanted(), (1..=12).collect());
}

#[test]
fn a_draining_peer_fills_a_set_last() {
    let mut all: Vec<Known> = (1..=30).map(known).collect();
    all.iter_mut().take(20).for_each(|known| known.draining = true);
    let world = World::new(own(Role::Plain), all);
    assert!(world.wanted().iter().all(|number| *number > 20), "{:?}", world.wanted());
}

#[test]
fn a_member_that_fails_stays_until_its_replacement_stands() {
    let mut world = World::plain(30);
    world.answer();
    let before = world.wanted();
    let victim = *before.first().unwrap();
    world.kill([victim]);
    world.pass_ms(1900);
    assert_eq!(world.wanted(), before);
    world.now = world.now.plus(std::time::Duration::from_millis(150));
    world.decide();
    let tried = world.because(Why::Replacement);
    assert_eq!(tried.len(), 1);
    assert!(world.wanted().contains(&victim), "before its replacement stands");
    world.answer();
    let after = world.wanted();
    assert!(!after.contains(&victim) && after.contains(&tried[0]), "{after:?}");
    assert_eq!((after.len(), world.because(Why::Replacement).len()), (5, 0));
}

#[test]
fn a_replacement_that_does_not_answer_rests_and_another_one_is_tried() {
    let mut world = World::plain(9);
    world.answer();
    let members = world.wanted();
    world.dead = (1..=9).filter(|number| !members.contains(number)).collect();
    let victim = *members.first().unwrap();
    world.kill([victim]);
    world.pass_ms(43_000);
    let tried: Vec<u16> = world.dialled.iter().skip(5).map(|(_, number)| *number).collect();
    let each: BTreeSet<u16> = tried.iter().copied().collect();
    assert_eq!((tried.len(), each.len()), (4, 4), "each of the others once: {tried:?}");
    assert_eq!(world.wanted(), members, "there is no better one: it is dialled again");
    world.dead.clear();
    world.pass_ms(100);
    assert!(world.up.contains(&victim));
}

#[test]
fn one_warm_peer_is_looked_at_each_minute_and_let_go() {
    let mut world = World::plain(12);
    world.answer();
    world.pass_ms(600_000);
    let looks = &world.dialled[5..];
    assert!((8..=13).contains(&looks.len()), "{looks:?}");
    let gaps: Vec<u128> = looks.windows(2).map(|two| (two[1].0 - two[0].0).as_millis()).collect();
    assert!(gaps.iter().all(|gap| (47_900..=72_100).contains(gap)), "60 s, a fifth more or less: {gaps:?}");
    assert!(gaps.iter().any(|gap| *gap != gaps[0]), "jitter");
    let each: BTreeSet<u16> = looks.iter().map(|(_, number)| *number).collect();
    assert_eq!(each.len(), 7, "in turn");
    assert_eq!(world.wanted().len(), 5);
}

#[test]
fn a_thin_node_looks_half_as_often() {
    let mut world = World::new(own(Role::Thin), (1..=12).map(known).collect());
    world.answer();
    world.pass_ms(600_000);
    let looks = world.dialled.len() - 3;
    assert!((4..=6).contains(&looks), "{looks}");
}

#[test]
fn a_peer_that_is_a_quarter_cheaper_takes_a_place_and_a_little_better_is_not_enough() {
    for (rtt_ms, moves) in [(90, false), (40, true)] {
        let mut world = World::plain(6);
        world.answer();
        let members = world.wanted();
        for number in &members {
            world.measure(*number, 100);
        }
        let sixth = (1..=6).find(|number| !members.contains(number)).unwrap();
        world.measure(sixth, rtt_ms);
        world.pass_ms(80_000);
        assert_eq!(world.wanted().contains(&sixth), moves, "{rtt_ms} ms against 100");
        assert_eq!(world.wanted().len(), 5);
    }
}

#[test]
fn a_node_with_relays_grows_to_its_least_size_by_relays_that_were_measured() {
    let mut world = relayed(6, 10, 1);
    world.answer();
    world.pass_ms(200_000);
    assert_eq!(
        (world.because(Why::Home), world.because(Why::Cost)),
        (vec![1], vec![]),
        "nothing was measured"
    );
    world.rtt_ms = Some(10);
    world.pass_ms(400_000);
    let best = world.because(Why::Cost);
    assert_eq!(best.len(), 2);
    assert!(best.iter().all(|number| (2..=6).contains(number)), "relays only: {best:?}");
    assert!(world.because(Why::Fill).is_empty());
}

#[test]
fn peers_that_the_snapshot_drops_are_forgotten() {
    let mut world = World::plain(6);
    world.answer();
    world.known.truncate(2);
    world.tell();
    assert_eq!((world.wanted(), world.peers.views(world.now).len()), (BTreeSet::from([1, 2]), 2));
}

#[test]
fn without_a_data_plane_nobody_is_wanted_and_another_one_begins_anew() {
    let mut world = World::plain(6);
    world.answer();
    world.peers.handle(Input::Plane(false), world.now);
    assert!(!world.peers.decide(world.now) && world.peers.due(world.now).is_none());
    assert!(world.wanted().is_empty() && world.tier(Tier::Active).is_empty());
    world.peers.handle(Input::Plane(true), world.now);
    assert!(world.peers.decide(world.now));
    assert_eq!(world.wanted().len(), 5);
}
