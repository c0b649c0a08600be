//! What a link sends, in which order, and what becomes of frames that are never sent.

mod support;

use rap_link::{Answer, ECHO_MAX, Frame, FrameKind, Input, Link, Output, Permit, SessionState};
use rap_types::{ChannelClass, Reason};
use support::*;

const ECHO_FRAME: usize = 20 + ECHO_MAX + 8;

/// Frames of one ask.
fn ask(link: &mut Link, budget: usize) -> Vec<Frame> {
    let mut wire = Vec::new();
    link.poll_transmit(budget, START, &mut wire);
    frames(&wire)
}

fn frames(wire: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut rest) = (rap_link::Decoder::new(), wire);
    std::iter::from_fn(|| decoder.decode(&mut rest).unwrap()).collect()
}

/// A link that owes its peer answers of one class, more than their queue holds.
fn owing(class: ChannelClass) -> Link {
    let (mut asker, mut link) = pair();
    let payload = vec![7; ECHO_MAX];
    for token in 0..60 {
        asker.handle(Input::EchoAsked { token, class, payload: payload.clone().into() }, START).unwrap();
    }
    let questions = bytes(&mut asker);
    for _ in 0..8 {
        link.receive(&questions, START);
    }
    assert_eq!(link.state(), SessionState::Established, "a full queue ends no link");
    link
}

#[test]
fn one_ask_gives_what_fits_its_budget_and_at_least_one_frame() {
    let mut link = owing(ChannelClass::File);
    assert_eq!(ask(&mut link, 0).len(), 1);
    assert_eq!(ask(&mut link, 1).len(), 1);
    assert_eq!(ask(&mut link, 5 * ECHO_FRAME).len(), 5);
    let sent = link.counters().frames_sent;
    assert_eq!(sent, 1 + 7, "hello and answers are counted when they are handed out");
}

#[test]
fn what_a_full_reliable_queue_refuses_is_counted_and_the_rest_is_sent_in_order() {
    let mut link = owing(ChannelClass::File);
    let refused = link.counters().rejected.get(&Reason::LinkQueueFull).copied().unwrap();
    let sent = ask(&mut link, usize::MAX);
    assert_eq!(sent.len() as u64 + refused, 8 * 60);
    assert!(sent.iter().all(|frame| frame.class == ChannelClass::File && frame.kind == FrameKind::EchoReply));
    assert!(link.counters().dropped.is_empty());
}

#[test]
fn what_a_full_droppable_queue_displaces_is_counted_and_the_newest_is_sent() {
    // The asker's own queue lets two of its questions through each time.
    let mut link = owing(ChannelClass::Render);
    assert_eq!(link.counters().dropped.get(&Reason::LinkQueueFull), Some(&(8 * 2 - 2)));
    let (mut asker, _) = pair();
    for token in 0..60 {
        asker.handle(echo(token, vec![7; ECHO_MAX]), START).unwrap();
    }
    let newest: Vec<_> = frames(&bytes(&mut asker)).split_off(58);
    let sent = ask(&mut link, usize::MAX);
    assert_eq!(
        sent.iter().map(|frame| &frame.payload).collect::<Vec<_>>(),
        newest.iter().map(|frame| &frame.payload).collect::<Vec<_>>()
    );
    assert!(link.counters().rejected.is_empty());
}

#[test]
fn a_question_whose_queue_is_full_fails_at_once_and_other_classes_go_on() {
    let mut link = owing(ChannelClass::File);
    outputs(&mut link);
    let of = |class| Input::EchoAsked { token: 5, class, payload: vec![1].into() };
    link.handle(of(ChannelClass::File), START).unwrap();
    let answer = Answer::Failed(Reason::LinkQueueFull);
    assert_eq!(outputs(&mut link), [Output::EchoAnswered { token: 5, answer }]);
    link.handle(of(ChannelClass::Clipboard), START).unwrap();
    link.handle(Input::ProbeAsked { token: 6 }, START).unwrap();
    link.handle(of(ChannelClass::Control), START).unwrap();
    assert_eq!(outputs(&mut link), []);
    let next: Vec<_> =
        (0..2).flat_map(|_| ask(&mut link, 1)).map(|frame| (frame.kind, frame.class)).collect();
    assert_eq!(next, [(FrameKind::Probe, ChannelClass::Control), (FrameKind::Echo, ChannelClass::Control),]);
}

#[test]
fn a_goodbye_is_next_and_last_and_what_it_overtakes_is_counted() {
    let mut link = owing(ChannelClass::File);
    let refused = link.counters().rejected.get(&Reason::LinkQueueFull).copied().unwrap();
    link.handle(Input::DrainAsked(Reason::LinkDrained), START).unwrap();
    let sent = ask(&mut link, usize::MAX);
    assert_eq!(sent.iter().map(|frame| frame.kind).collect::<Vec<_>>(), [FrameKind::Bye]);
    assert_eq!(link.counters().dropped.get(&Reason::LinkDrained), Some(&(8 * 60 - refused)));
}

#[test]
fn a_peer_that_lost_its_permission_gets_nothing_that_waits_not_even_a_goodbye() {
    let denied = Input::PermitChanged(Permit::Denied(Reason::NodeRevoked));
    let mut link = owing(ChannelClass::File);
    link.handle(denied.clone(), START).unwrap();
    assert!(bytes(&mut link).is_empty());
    assert!(link.counters().dropped.get(&Reason::NodeRevoked).is_some_and(|count| *count > 200));

    let mut leaving = owing(ChannelClass::File);
    leaving.handle(Input::DrainAsked(Reason::LinkDrained), START).unwrap();
    leaving.handle(denied, START).unwrap();
    assert!(bytes(&mut leaving).is_empty(), "its goodbye was still waiting");
    assert_eq!(leaving.counters().dropped.get(&Reason::NodeRevoked), Some(&1));
}

#[test]
fn nothing_is_sent_to_a_peer_that_said_goodbye() {
    let mut link = owing(ChannelClass::File);
    let bye = Frame::local(ChannelClass::Control, FrameKind::Bye, vec![]);
    link.handle(Input::Received(bye), START).unwrap();
    assert!(bytes(&mut link).is_empty());
    assert!(link.counters().dropped.get(&Reason::LinkClosed).is_some_and(|count| *count > 200));
}
