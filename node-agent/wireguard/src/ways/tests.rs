//! The choice of the way against a network that loses, and time that is given.

use super::*;

const MS: u64 = 1_000_000;

fn ms(millis: u64) -> Mono {
    Mono(millis * MS)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn udp(port: u16) -> Way {
    Way::Udp(at(port))
}

fn path(end: u64) -> Way {
    Way::Path(PathEnd(end))
}

/// A peer and the network to it. Every probe on a way of `works` is answered after its round trip.
struct World {
    ways: Ways,
    now: Mono,
    works: Vec<(Way, u64)>,
    /// When paths were asked for.
    wanted: Vec<Mono>,
    probed: Vec<Way>,
    renewed: Vec<Mono>,
    answers: Vec<(Mono, Way, u32, Mono)>,
}

impl World {
    fn new(ports: &[u16], relayed: bool, works: &[(Way, u64)]) -> Self {
        let mut ways = Ways::default();
        ways.configure(ports.iter().map(|port| at(*port)).collect(), relayed);
        let (wanted, probed, answers) = (Vec::new(), Vec::new(), Vec::new());
        let renewed = Vec::new();
        Self { ways, now: ms(0), works: works.to_vec(), wanted, probed, renewed, answers }
    }

    fn act(&mut self, acts: impl IntoIterator<Item = Act>) {
        for act in acts {
            match act {
                Act::Want => self.wanted.push(self.now),
                Act::Renew => self.renewed.push(self.now),
                Act::Probe(way, sequence) => {
                    self.probed.push(way);
                    if let Some((_, round_trip)) = self.works.iter().find(|(works, _)| *works == way) {
                        self.answers.push((ms(self.now.0 / MS + round_trip), way, sequence, self.now));
                    }
                }
            }
        }
    }

    /// Data goes out every 10 ms until then, timers run, answers come.
    fn until(&mut self, end: u64) -> Sending {
        while self.now < ms(end) {
            self.now = ms(self.now.0 / MS + 10);
            let now = self.now;
            self.answers.sort_by_key(|(when, ..)| std::cmp::Reverse(*when));
            while let Some((_, way, sequence, sent)) = self.answers.pop_if(|(when, ..)| *when <= now) {
                self.ways.answered(way, sequence, sent, now);
            }
            let want = self.ways.data(now);
            self.act(want);
            for round in 0.. {
                if self.ways.due(now).is_none_or(|due| due > now) {
                    break;
                }
                assert!(round < 50, "never satisfied");
                let acts = self.ways.timeout(now);
                self.act(acts);
            }
        }
        self.ways.sending(self.now)
    }

    fn breaks(&mut self, way: Way) {
        self.works.retain(|(works, _)| *works != way);
        self.answers.retain(|(_, works, ..)| *works != way);
    }

    fn up(&mut self, end: u64, slot: PathSlot) {
        self.ways.path_up(PathEnd(end), slot, self.now);
    }
}

/// A peer that is reached directly, with a primary and a backup beside.
fn direct() -> World {
    let mut world = World::new(&[1], true, &[(udp(1), 20), (path(1), 60), (path(2), 80)]);
    world.ways.authenticated(udp(1), true, ms(0));
    assert_eq!(world.until(1_000), Sending::On(udp(1)));
    world
}

#[test]
fn a_packet_without_any_way_asks_for_paths_and_waits_for_one() {
    let mut world = World::new(&[], true, &[(path(1), 60)]);
    assert_eq!(world.until(500), Sending::Later);
    assert_eq!(world.wanted.len(), 1);
    world.up(1, PathSlot::Primary);
    assert_eq!(world.until(600), Sending::On(path(1)), "before a probe was answered: there is no other");
    assert_eq!(world.until(5_000), Sending::On(path(1)));
    assert_eq!(world.wanted.len(), 1);
    assert_eq!(world.ways.in_use(), Some(path(1)));
}

#[test]
fn if_no_path_comes_an_address_is_tried_or_the_packet_is_refused() {
    for (ports, then) in [(&[1][..], Sending::On(udp(1))), (&[], Sending::Nowhere)] {
        let mut world = World::new(ports, true, &[]);
        assert_eq!(world.until(2_900), Sending::Later);
        assert_eq!(world.until(3_200), then);
        world.until(10_000);
        assert!((9..=11).contains(&world.wanted.len()), "asked every second: {:?}", world.wanted);
    }
    assert_eq!(World::new(&[1], false, &[]).until(100), Sending::On(udp(1)), "as without relays");
    assert_eq!(World::new(&[], false, &[]).until(100), Sending::Nowhere);
}

#[test]
fn a_dead_direct_way_is_left_within_half_a_second_for_a_path_that_stands() {
    let mut world = direct();
    world.up(1, PathSlot::Primary);
    world.up(2, PathSlot::Backup);
    world.until(2_000);
    world.breaks(udp(1));
    assert_eq!(world.until(2_250), Sending::On(udp(1)));
    assert_eq!(world.until(2_700), Sending::On(path(1)));
}

#[test]
fn paths_are_asked_for_while_the_direct_way_is_only_suspect() {
    let mut world = direct();
    world.until(2_000);
    assert_eq!(world.wanted, []);
    world.breaks(udp(1));
    world.until(2_700);
    let first = world.wanted[0];
    assert!(first >= ms(2_150) && first <= ms(2_450), "{first:?}");
    assert_eq!(world.ways.sending(world.now), Sending::Later, "what is sent now waits for the path");
}

#[test]
fn the_traffic_comes_back_after_five_clean_seconds_and_at_most_every_thirty() {
    let mut world = direct();
    world.up(1, PathSlot::Primary);
    world.breaks(udp(1));
    assert_eq!(world.until(3_000), Sending::On(path(1)));
    world.works.push((udp(1), 20));
    assert_eq!(world.until(7_500), Sending::On(path(1)), "a round of probes every 5 s, then 5 s on trial");
    assert_eq!(world.until(14_000), Sending::On(udp(1)));
    let back = world.now;
    world.breaks(udp(1));
    assert_eq!(world.until(15_000), Sending::On(path(1)));
    world.works.push((udp(1), 20));
    assert_eq!(world.until(back.0 / MS + 25_000), Sending::On(path(1)), "not yet again");
    assert_eq!(world.until(back.0 / MS + 40_000), Sending::On(udp(1)));
}

#[test]
fn new_packets_wait_so_that_they_overtake_none_on_the_slower_way() {
    let mut world = World::new(&[1], true, &[(udp(1), 20), (path(1), 60)]);
    world.up(1, PathSlot::Primary);
    assert_eq!(world.until(1_000), Sending::On(path(1)));
    let moved = loop {
        world.until(world.now.0 / MS + 10);
        if world.ways.in_use() == Some(udp(1)) {
            break world.now;
        }
        assert!(world.now < ms(20_000), "never");
    };
    assert_eq!(world.ways.sending(moved), Sending::Later);
    assert!(world.ways.is_holding());
    let held = |after: u64| world.ways.sending(ms(moved.0 / MS + after));
    assert_eq!((held(10), held(20)), (Sending::Later, Sending::On(udp(1))), "half of 60 - 20 ms");
}

#[test]
fn an_authenticated_packet_moves_nothing_while_another_way_works() {
    let mut world = direct();
    world.up(1, PathSlot::Primary);
    world.ways.authenticated(path(1), false, world.now);
    world.ways.authenticated(udp(9), false, world.now);
    assert_eq!(world.until(2_000), Sending::On(udp(1)));
    // The address in use dies: the one that was learned answers, and the traffic goes there.
    world.breaks(udp(1));
    world.works.push((udp(9), 20));
    assert_eq!(world.until(3_000), Sending::On(udp(9)));

    let mut relayed = World::new(&[1], true, &[(path(1), 60)]);
    relayed.up(1, PathSlot::Answering);
    relayed.until(1_000);
    relayed.ways.authenticated(udp(1), false, relayed.now);
    relayed.ways.authenticated(udp(1), true, relayed.now);
    assert_eq!(relayed.until(9_000), Sending::On(path(1)), "no probe was answered there");
}

#[test]
fn a_path_that_ends_or_falls_silent_gives_way_to_the_backup() {
    let mut world = World::new(&[], true, &[(path(1), 60), (path(2), 80)]);
    world.up(2, PathSlot::Backup);
    world.until(500);
    world.up(1, PathSlot::Primary);
    assert_eq!(world.until(1_000), Sending::On(path(2)), "it works: there is no reason to leave it");
    let want = world.ways.path_down(PathEnd(2), world.now);
    assert_eq!((want, world.ways.sending(world.now)), (None, Sending::On(path(1))));
    world.up(3, PathSlot::Backup);
    world.works.push((path(3), 90));
    world.until(2_000);
    world.breaks(path(1));
    assert_eq!(world.until(4_000), Sending::On(path(3)), "silent");
    assert_eq!(world.wanted, []);
    let want = world.ways.path_down(PathEnd(3), world.now);
    assert_eq!(want, Some(Act::Want), "only the silent one is left");
    world.works.push((path(1), 60));
    assert_eq!(world.until(7_000), Sending::On(path(1)));
}

#[test]
fn a_newer_path_of_the_same_slot_takes_over_at_once() {
    let mut world = World::new(&[], true, &[(path(1), 60), (path(2), 60)]);
    world.up(1, PathSlot::Primary);
    world.until(1_000);
    world.up(2, PathSlot::Primary);
    assert_eq!(world.ways.sending(world.now), Sending::On(path(2)));
    world.ways.path_down(PathEnd(1), world.now);
    assert_eq!(world.until(4_000), Sending::On(path(2)));
}

#[test]
fn a_peer_that_answers_no_probes_keeps_its_direct_way_and_is_followed() {
    for relayed in [false, true] {
        let mut world = World::new(&[1], relayed, &[]);
        world.ways.authenticated(udp(1), true, ms(0));
        for end in [5_000, 60_000] {
            assert_eq!(world.until(end), Sending::On(udp(1)), "relayed: {relayed}");
        }
        assert!(world.probed.len() <= 8, "asked once: {}", world.probed.len());
        world.ways.authenticated(udp(7), false, world.now);
        assert_eq!(world.until(61_000), Sending::On(udp(7)));
        world.ways.judge_again(world.now);
        world.until(120_000);
        assert!(world.probed.len() <= 20, "and once more with each session: {}", world.probed.len());
    }
}

#[test]
fn a_direct_way_that_loses_full_packets_is_left_as_soon_as_there_is_a_path() {
    let mut world = World::new(&[1], true, &[(path(1), 60)]);
    world.ways.authenticated(udp(1), true, ms(0));
    world.until(3_000);
    world.up(1, PathSlot::Primary);
    while world.now < ms(5_000) {
        // Small frames come all the time.
        world.ways.authenticated(udp(1), false, world.now);
        world.until(world.now.0 / MS + 50);
    }
    assert_eq!(world.ways.sending(world.now), Sending::On(path(1)));
}

#[test]
fn a_direct_way_without_any_other_is_never_left() {
    let mut world = World::new(&[1, 2], false, &[(udp(1), 20)]);
    world.ways.authenticated(udp(1), true, ms(0));
    world.until(1_000);
    world.breaks(udp(1));
    assert_eq!(world.until(60_000), Sending::On(udp(1)), "handshakes try the others");
    world.ways.authenticated(udp(2), true, world.now);
    assert_eq!(world.until(61_000), Sending::On(udp(2)));
}

#[test]
fn a_peer_that_falls_silent_on_a_way_is_asked_for_a_new_session_soon_and_not_all_the_time() {
    let mut world = World::new(&[1], false, &[(udp(1), 20)]);
    world.ways.authenticated(udp(1), true, ms(0));
    world.until(2_000);
    world.breaks(udp(1));
    assert_eq!(world.until(3_000), Sending::On(udp(1)));
    assert_eq!(world.renewed.len(), 1);
    for second in 3..18 {
        // A handshake has ended, and the peer answers no probes any more.
        world.ways.judge_again(world.now);
        world.until(1_000 * second + 900);
    }
    assert_eq!(world.renewed.len(), 2, "{:?}", world.renewed);
    let mut world = World::new(&[1], false, &[]);
    world.ways.authenticated(udp(1), true, ms(0));
    world.until(5_000);
    assert_eq!(world.renewed, [], "it never answered one");
}

#[test]
fn what_nobody_uses_is_not_probed() {
    let mut world = direct();
    let probed = world.probed.len();
    world.now = ms(100_000);
    assert_eq!(world.ways.due(world.now), None);
    world.until(100_050);
    assert_eq!(world.probed.len(), probed, "the first packet after a pause begins a new judgement");
    world.until(100_400);
    assert!(world.probed.len() > probed);
    assert_eq!(world.ways.in_use(), Some(udp(1)));
}

#[test]
fn an_answer_counts_once_and_on_its_own_way_only() {
    let mut world = World::new(&[1], true, &[]);
    world.up(1, PathSlot::Primary);
    let probe = |act: &Act| match act {
        Act::Probe(way, sequence) => Some((*way, *sequence)),
        Act::Want | Act::Renew => None,
    };
    world.ways.data(ms(0));
    let acts = world.ways.timeout(ms(0));
    let (_, sequence) = acts.iter().filter_map(probe).find(|(way, _)| *way == udp(1)).unwrap();
    world.ways.answered(path(1), sequence, ms(0), ms(10));
    world.ways.answered(udp(1), sequence, ms(7), ms(10));
    assert!(!matches!(world.ways.direct, Direct::Trial(_)), "another way, another time");
    world.ways.answered(udp(1), sequence, ms(0), ms(10));
    assert!(matches!(world.ways.direct, Direct::Trial(_)));
}
