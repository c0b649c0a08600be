//! The peer of a link that carries data: found dead within half a second, and not one that is only slow.

mod support;

use std::time::Duration;

use rap_link::{Frame, Input, Link, Output, SessionState};
use rap_types::{ChannelClass, Mono, Now, Reason};
use support::*;

fn millis(count: u64) -> Now {
    after(Duration::from_millis(count))
}

fn data(class: ChannelClass) -> Input {
    Input::SendAsked(Frame::labelled(class, 7, 2, vec![1]))
}

/// Runs `link` alone, with the kernel of its peer acknowledging everything after 20 ms until `acks_until`. Returns when
/// it closed, ms after the start.
fn alone(link: &mut Link, acks_until: u64, end: u64) -> Option<u64> {
    let mut sent = 0;
    while let Some(due) = link.poll_timeout() {
        let now = due.since(START.mono).as_millis() as u64;
        if now > end {
            return None;
        }
        let acked = (acks_until > 0 && sent + 20 <= now).then(|| millis((sent + 20).min(acks_until)).mono);
        link.handle(Input::Noticed { carried: None, acked }, Now { mono: due, wall: START.wall }).unwrap();
        link.handle_timeout(Now { mono: due, wall: START.wall });
        if !bytes(link).is_empty() {
            sent = now;
        }
    }
    Some(link.since().since(START.mono).as_millis() as u64)
}

#[test]
fn a_busy_link_finds_a_peer_that_is_gone_in_half_a_second_and_an_idle_one_takes_its_time() {
    let (mut a, _b) = pair();
    a.handle(data(ChannelClass::Vpn), START).unwrap();
    let dead = alone(&mut a, 0, 60_000).unwrap();
    assert!((400..600).contains(&dead), "{dead}");
    assert_eq!(a.reason(), Some(Reason::LinkSilent));
    assert_eq!(outputs(&mut a), [Output::Suspected, Output::Closed(Reason::LinkSilent)]);

    let (mut idle, _b) = pair();
    assert_eq!(alone(&mut idle, 0, 60_000), Some(12_500), "asked after 0.5 s and six times");
    let (mut sampled, _b) = pair();
    sampled.handle(data(ChannelClass::Telemetry), START).unwrap();
    assert_eq!(alone(&mut sampled, 0, 60_000), Some(12_500), "telemetry hurries nobody");
}

#[test]
fn data_on_another_lane_makes_the_link_busy_and_ten_seconds_without_any_make_it_idle() {
    let (mut a, _b) = pair();
    a.handle(Input::Noticed { carried: Some(START.mono), acked: None }, START).unwrap();
    assert!(alone(&mut a, 0, 60_000).unwrap() < 600);

    let (mut a, mut b) = pair();
    a.handle(Input::Noticed { carried: Some(START.mono), acked: None }, START).unwrap();
    let mut probes = 0;
    while let Some(due) = [a.poll_timeout(), b.poll_timeout()].into_iter().flatten().min() {
        if due > millis(30_000).mono {
            break;
        }
        let now = Now { mono: due, wall: START.wall };
        let before = a.counters().frames_sent;
        a.handle_timeout(now);
        b.handle_timeout(now);
        exchange(&mut a, &mut b, now);
        probes += a.counters().frames_sent - before;
    }
    assert!((60..80).contains(&probes), "{probes} in 10 s, at one per 150 ms, then one per 5 s");
    assert_eq!((a.state(), b.state()), (SessionState::Established, SessionState::Established));
}

#[test]
fn a_stopped_process_is_found_after_two_seconds_and_a_slow_one_is_not() {
    let (mut stopped, _b) = pair();
    stopped.handle(data(ChannelClass::Vpn), START).unwrap();
    let dead = alone(&mut stopped, u64::MAX / 2, 60_000).unwrap();
    assert!((2_100..2_600).contains(&dead), "{dead}");

    let (mut slow, mut b) = pair();
    slow.handle(data(ChannelClass::Vpn), START).unwrap();
    b.receive(&bytes(&mut slow), START);
    assert_eq!(alone(&mut slow, u64::MAX / 2, 900), None);
    assert!(slow.is_watched());
    b.handle(echo(1, vec![]), millis(900)).unwrap();
    slow.receive(&bytes(&mut b), millis(900));
    assert_eq!((slow.state(), slow.is_watched()), (SessionState::Established, false));
}

#[test]
fn a_machine_that_slept_blames_nobody() {
    let (mut a, mut b) = pair();
    a.handle(data(ChannelClass::Vpn), START).unwrap();
    b.receive(&bytes(&mut a), START);
    let asked = Now { mono: a.poll_timeout().unwrap(), wall: START.wall };
    a.handle_timeout(asked);
    b.receive(&bytes(&mut a), asked);
    // The answer waits in the socket while this process does not run.
    let answer = bytes(&mut b);
    a.handle_timeout(millis(60_000));
    assert_eq!(a.state(), SessionState::Established);
    a.receive(&answer, millis(60_000));
    assert_eq!((a.state(), a.is_watched()), (SessionState::Established, false));
    assert!(a.poll_timeout() > Some(Mono(millis(60_000).mono.0)));
}

#[test]
fn a_watched_peer_is_asked_often_and_measured_once_a_second() {
    let (mut a, mut b) = pair();
    let mut samples = 0;
    for step in 0..3_000 {
        let now = millis(step);
        if step % 100 == 0 {
            a.handle(Input::Noticed { carried: Some(now.mono), acked: None }, now).unwrap();
        }
        a.handle_timeout(now);
        exchange(&mut a, &mut b, now);
        samples = samples.max(a.measured().map_or(0, |measured| measured.samples));
    }
    assert!(a.counters().frames_sent > 15);
    assert_eq!(samples, 1, "told once: the median did not change");
    (0..20).for_each(|token| a.handle(Input::ProbeAsked { token }, millis(3_000)).unwrap());
    b.receive(&bytes(&mut a), millis(3_000));
    a.receive(&bytes(&mut b), millis(3_050));
    let measured = a.measured().unwrap();
    assert_eq!(measured.round_trip, Some(Duration::from_millis(50)), "three of a watch do not outvote them");
}

#[test]
fn while_data_passes_one_side_asks_and_the_other_one_hears_it() {
    let (mut a, mut b) = pair();
    for link in [&mut a, &mut b] {
        link.handle(Input::Noticed { carried: Some(START.mono), acked: None }, START).unwrap();
    }
    let mut sent = [0, 0];
    while let Some(due) = [a.poll_timeout(), b.poll_timeout()].into_iter().flatten().min() {
        if due > millis(9_000).mono {
            break;
        }
        let now = Now { mono: due, wall: START.wall };
        a.handle_timeout(now);
        b.handle_timeout(now);
        let asked = [bytes(&mut a), bytes(&mut b)];
        (0..2).for_each(|side| sent[side] += usize::from(!asked[side].is_empty()));
        b.receive(&asked[0], now);
        a.receive(&asked[1], now);
        exchange(&mut a, &mut b, now);
    }
    assert!(sent[0] > 50 && sent[1] == 0, "{sent:?}");
}
