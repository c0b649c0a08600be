//! Probes, echoes, silence, and what is measured.

mod support;

use std::time::Duration;

use prost::Message as _;
use rap_link::{Answer, ECHO_MAX, FrameKind, Input, Measured, Output, SessionState, Timing};
use rap_types::{Now, Reason};
use rap_wire::v1;
use support::*;

#[test]
fn probes_are_measured_and_a_missed_one_counts_as_lost() {
    let (mut a, mut b) = pair();
    assert_eq!(a.measured(), None);
    for (token, millis) in [(1, 30), (2, 50), (3, 10)] {
        a.handle(Input::ProbeAsked { token }, START).unwrap();
        b.receive(&bytes(&mut a), START);
        a.receive(&bytes(&mut b), after(Duration::from_millis(millis)));
    }
    let median = Some(Duration::from_millis(30));
    assert_eq!(a.measured(), Some(Measured { round_trip: median, loss_ppm: 0, samples: 1 }), "first told");
    a.handle(Input::ProbeAsked { token: 4 }, START).unwrap();
    run_until(&mut a, after(Timing::default().answer));
    assert_eq!(a.measured(), Some(Measured { round_trip: median, loss_ppm: 250_000, samples: 4 }));
    a.handle(Input::Broken(Reason::LinkClosed), START).unwrap();
    assert_eq!(a.measured(), None);
}

#[test]
fn probe_measures_the_round_trip_on_the_askers_clock() {
    let (mut a, mut b) = pair();
    a.handle(Input::ProbeAsked { token: 42 }, START).unwrap();
    b.receive(&bytes(&mut a), START);
    a.receive(&bytes(&mut b), after(Duration::from_millis(30)));
    let answer = Answer::RoundTrip(Duration::from_millis(30));
    assert_eq!(outputs(&mut a), [Output::ProbeAnswered { token: 42, answer }]);
    assert_eq!(a.rtt(), Some(Duration::from_millis(30)));
}

#[test]
fn echo_returns_up_to_1_kib_and_refuses_more() {
    let (mut a, mut b) = pair();
    a.handle(echo(1, vec![3; ECHO_MAX]), START).unwrap();
    exchange(&mut a, &mut b, START);
    assert_eq!(
        outputs(&mut a),
        [Output::EchoAnswered { token: 1, answer: Answer::RoundTrip(Duration::ZERO) }]
    );
    a.handle(echo(2, vec![3; ECHO_MAX + 1]), START).unwrap();
    let answer = Answer::Failed(Reason::LinkFrameTooLarge);
    assert_eq!(outputs(&mut a), [Output::EchoAnswered { token: 2, answer }]);
    assert!(bytes(&mut a).is_empty());
    let oversize = v1::SyntheticEcho { seq: 1, payload: vec![0; ECHO_MAX + 1] };
    b.receive(&wire(FrameKind::Echo, oversize.encode_to_vec()), START);
    assert_eq!(b.reason(), Some(Reason::LinkFrameTooLarge));
}

#[test]
fn an_altered_echo_is_not_a_success() {
    let (mut a, _b) = pair();
    a.handle(echo(1, b"sent".to_vec()), START).unwrap();
    let altered = v1::SyntheticEcho { seq: 1, payload: b"Sent".to_vec() };
    a.receive(&wire(FrameKind::EchoReply, altered.encode_to_vec()), START);
    let answer = Answer::Failed(Reason::LinkFrameMalformed);
    assert_eq!(outputs(&mut a), [Output::EchoAnswered { token: 1, answer }]);
}

#[test]
fn unasked_answers_change_nothing() {
    let (mut a, _b) = pair();
    a.handle(echo(1, vec![]), START).unwrap();
    let ack = v1::FabricProbeAck { seq: 1, sender_mono_ns: 0 };
    a.receive(&wire(FrameKind::ProbeAck, ack.encode_to_vec()), START);
    let reply = v1::SyntheticEcho { seq: 77, payload: vec![] };
    a.receive(&wire(FrameKind::EchoReply, reply.encode_to_vec()), START);
    assert_eq!(outputs(&mut a), []);
    assert_eq!((a.state(), a.rtt()), (SessionState::Established, None));
}

#[test]
fn a_question_without_answer_fails_at_its_deadline() {
    let (mut a, _b) = pair();
    a.handle(Input::ProbeAsked { token: 9 }, START).unwrap();
    run_until(&mut a, after(Timing::default().answer));
    let answer = Answer::Failed(Reason::ProbeTimeout);
    assert_eq!(outputs(&mut a), [Output::ProbeAnswered { token: 9, answer }]);
}

#[test]
fn questions_are_bounded_and_fail_when_the_link_closes() {
    let (mut a, _b) = pair();
    let limit = Timing::default().open_questions as u64;
    for token in 0..=limit {
        a.handle(Input::ProbeAsked { token }, START).unwrap();
    }
    let answer = Answer::Failed(Reason::RateLimited);
    assert_eq!(outputs(&mut a), [Output::ProbeAnswered { token: limit, answer }]);
    a.handle(Input::Broken(Reason::LinkClosed), START).unwrap();
    let answered = outputs(&mut a);
    assert_eq!(answered.len() as u64, limit + 1);
    assert_eq!(answered.last(), Some(&Output::Closed(Reason::LinkClosed)));
}

/// As after the first answers.
fn measured_pair() -> (rap_link::Link, rap_link::Link) {
    let (mut a, mut b) = pair();
    for token in 0..3 {
        a.handle(Input::ProbeAsked { token }, START).unwrap();
        exchange(&mut a, &mut b, START);
    }
    assert_eq!(outputs(&mut a).len(), 3);
    (a, b)
}

#[test]
fn a_new_connection_is_measured_soon_and_then_left_alone() {
    let (mut a, mut b) = pair();
    a.handle(Input::TimingChanged(Timing::default().with_probe_interval(seconds(10))), START).unwrap();
    let mut probed = Vec::new();
    for tenth in 0..=150 {
        let now = after(Duration::from_millis(tenth * 100));
        a.handle_timeout(now);
        let sent = bytes(&mut a);
        if !sent.is_empty() {
            probed.push(tenth * 100);
            b.receive(&sent, now);
            a.receive(&bytes(&mut b), now);
        }
    }
    assert_eq!(probed, [500, 1_000, 1_500, 11_500]);
}

#[test]
fn silence_is_probed_then_suspect_then_closed() {
    let (mut a, _b) = measured_pair();
    run_until(&mut a, after(seconds(5) - Duration::from_nanos(1)));
    assert!(bytes(&mut a).is_empty(), "no probe before 5 s");
    run_until(&mut a, after(seconds(5)));
    assert!(!bytes(&mut a).is_empty());
    run_until(&mut a, after(seconds(11) - Duration::from_nanos(1)));
    assert_eq!(a.state(), SessionState::Established, "two missed");
    run_until(&mut a, after(seconds(11)));
    assert_eq!(a.state(), SessionState::Suspect, "three missed");
    assert_eq!(a.since(), after(seconds(11)).mono);
    run_until(&mut a, after(seconds(17)));
    assert_eq!((a.state(), a.reason()), (SessionState::Closed, Some(Reason::LinkSilent)));
    assert_eq!(outputs(&mut a), [Output::Suspected, Output::Closed(Reason::LinkSilent)]);
    assert_eq!(a.poll_timeout(), None);
}

#[test]
fn a_shorter_probe_interval_counts_from_the_last_sign_of_life() {
    let (mut a, _b) = measured_pair();
    let often = Timing::default().with_probe_interval(seconds(1));
    assert_eq!((often.idle, often.probe_interval), (seconds(1), seconds(1)));
    let seldom = Timing::default().with_probe_interval(seconds(30));
    assert_eq!((seldom.idle, seldom.probe_interval), (seconds(30), Timing::default().probe_interval));
    a.handle(Input::TimingChanged(seldom), START).unwrap();
    run_until(&mut a, after(seconds(20)));
    assert!(bytes(&mut a).is_empty(), "no probe before 30 s");
    a.handle(Input::TimingChanged(often), after(seconds(20))).unwrap();
    assert_eq!(a.poll_timeout(), Some(after(seconds(1)).mono));
    a.handle_timeout(after(seconds(20)));
    assert!(!bytes(&mut a).is_empty(), "silent for 20 s, probed after 1 s");
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let (mut a, mut b) = measured_pair();
    run_until(&mut a, after(seconds(12)));
    assert_eq!(a.state(), SessionState::Suspect);
    let now = after(seconds(12));
    b.handle(echo(1, vec![]), now).unwrap();
    a.receive(&bytes(&mut b), now);
    assert_eq!(outputs(&mut a), [Output::Suspected, Output::Recovered]);
    bytes(&mut a);
    run_until(&mut a, now.plus(seconds(5) - Duration::from_nanos(1)));
    assert!(bytes(&mut a).is_empty(), "the silence is counted anew");
    run_until(&mut a, now.plus(seconds(5)));
    assert!(!bytes(&mut a).is_empty());
}

#[test]
fn an_answered_idle_link_stays_up_for_an_hour() {
    let (mut a, mut b) = pair();
    let end = after(seconds(3600));
    while let Some(due) = a.poll_timeout().min(b.poll_timeout()).filter(|due| *due <= end.mono) {
        let now = Now { mono: due, wall: START.wall };
        a.handle_timeout(now);
        b.handle_timeout(now);
        exchange(&mut a, &mut b, now);
    }
    assert_eq!((a.state(), b.state()), (SessionState::Established, SessionState::Established));
    assert!(a.counters().frames_sent > 300, "it was probed");
}

#[test]
fn a_late_timer_is_no_information_about_the_peer() {
    let (mut a, _b) = pair();
    run_until(&mut a, after(seconds(5)));
    for sleep in 1..10 {
        a.handle_timeout(after(seconds(5 + 60 * sleep)));
    }
    assert_eq!(a.state(), SessionState::Established);
}
