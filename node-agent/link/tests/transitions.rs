//! The table of legal transitions, complete: every state with every input.

mod support;

use proptest::prelude::*;
use rap_link::{
    Frame, FrameKind, Input, InputKind, Lane, Output, Permit, Session, SessionState, Side, Timing,
};
use rap_types::{ChannelClass, Mono, Now, Reason};
use support::*;

use SessionState::{Authorising, Closed, Dialing, Draining, Established, Handshaking, Suspect};

/// One line: what each state becomes. `None` = refused, state unchanged.
type Line = [Option<SessionState>; 7];

const STATES: [SessionState; 7] = [Dialing, Handshaking, Authorising, Established, Suspect, Draining, Closed];

fn step(session: Session, input: Input, now: Now) -> Session {
    session.handle(input, now, &mut Vec::new()).unwrap_or_else(|(session, _)| session)
}

fn in_state(state: SessionState) -> Session {
    let side = Side::Dialer { expected: LARGE, session_id: SESSION, lane: Lane::A };
    let dialing = Session::new(local(SMALL), side, Timing::default(), START);
    let handshaking = || step(dialing.clone(), Input::Opened, START);
    let authorising =
        || step(handshaking(), Input::Authenticated { peer: identity(LARGE), permit: LONG }, START);
    let established = || step(authorising(), Input::Received(hello()), START);
    let session = match state {
        Dialing => dialing.clone(),
        Handshaking => handshaking(),
        Authorising => authorising(),
        Established => established(),
        Suspect => {
            let mut session = established();
            while session.state() != Suspect {
                let due = session.due().unwrap();
                session = step(session, Input::TimerFired, Now { mono: due, wall: START.wall });
            }
            session
        }
        Draining => step(established(), Input::DrainAsked(Reason::LinkDrained), START),
        Closed => step(established(), Input::Broken(Reason::LinkClosed), START),
    };
    assert_eq!(session.state(), state);
    session
}

/// The hello that the peer of [`in_state`] sends.
fn hello() -> Frame {
    let mut peer = acceptor();
    let mut ours = dialer();
    ours.handle(Input::Opened, START).unwrap();
    ours.handle(Input::Authenticated { peer: identity(LARGE), permit: LONG }, START).unwrap();
    peer.handle(Input::Authenticated { peer: identity(SMALL), permit: LONG }, START).unwrap();
    peer.receive(&bytes(&mut ours), START);
    let wire = bytes(&mut peer);
    rap_link::Decoder::new().decode(&mut wire.as_slice()).unwrap().unwrap()
}

fn frame(kind: FrameKind) -> Input {
    Input::Received(Frame::local(ChannelClass::Control, kind, vec![]))
}

fn labelled() -> Frame {
    Frame::labelled(ChannelClass::Vpn, 7, 2, vec![1, 2, 3])
}

fn table() -> Vec<(Input, Line)> {
    let same = STATES.map(Some);
    let closes: Line =
        [Some(Closed), Some(Closed), Some(Closed), Some(Closed), Some(Closed), Some(Closed), None];
    vec![
        (Input::Opened, [Some(Handshaking), None, None, None, None, None, None]),
        (
            Input::Authenticated { peer: identity(LARGE), permit: LONG },
            [None, Some(Authorising), None, None, None, None, None],
        ),
        (
            Input::Authenticated { peer: identity(LARGE), permit: Permit::Denied(Reason::LinkPeerUnknown) },
            [None, Some(Closed), None, None, None, None, None],
        ),
        (
            Input::Received(hello()),
            [None, None, Some(Established), Some(Closed), Some(Closed), Some(Draining), None],
        ),
        (
            frame(FrameKind::Probe),
            [None, None, Some(Closed), Some(Established), Some(Established), Some(Draining), None],
        ),
        (
            frame(FrameKind::Data),
            [None, None, Some(Closed), Some(Closed), Some(Closed), Some(Draining), None],
        ),
        (
            Input::Received(labelled()),
            [None, None, Some(Closed), Some(Established), Some(Established), Some(Draining), None],
        ),
        (frame(FrameKind::Bye), [None, None, Some(Closed), Some(Closed), Some(Closed), Some(Closed), None]),
        (Input::PermitChanged(LONG), [same[0], same[1], same[2], same[3], same[4], same[5], None]),
        (Input::PermitChanged(Permit::Denied(Reason::NodeRevoked)), closes),
        (
            Input::TimingChanged(Timing::default()),
            [same[0], same[1], same[2], same[3], same[4], same[5], None],
        ),
        (Input::ProbeAsked { token: 1 }, [None, None, None, Some(Established), Some(Suspect), None, None]),
        (echo(1, vec![]), [None, None, None, Some(Established), Some(Suspect), None, None]),
        (Input::SendAsked(labelled()), [None, None, None, Some(Established), Some(Suspect), None, None]),
        (
            Input::Noticed { carried: None, acked: Some(START.mono) },
            [same[0], same[1], same[2], same[3], same[4], same[5], None],
        ),
        (
            Input::DrainAsked(Reason::LinkDrained),
            [Some(Closed), Some(Closed), Some(Closed), Some(Draining), Some(Draining), Some(Draining), None],
        ),
        (Input::Broken(Reason::LinkClosed), closes),
        (Input::TimerFired, [same[0], same[1], same[2], same[3], same[4], same[5], None]),
    ]
}

#[test]
fn every_state_takes_every_input_as_the_table_says() {
    let mut kinds = std::collections::BTreeSet::new();
    for (input, line) in table() {
        kinds.insert(input.kind());
        for (state, expected) in STATES.into_iter().zip(line) {
            let before = in_state(state);
            match (before.clone().handle(input.clone(), START, &mut Vec::new()), expected) {
                (Ok(after), Some(expected)) => assert_eq!(after.state(), expected, "{state} {input:?}"),
                (Err((after, reject)), None) => {
                    assert_eq!(after, before, "{state} {input:?}");
                    assert_eq!((reject.state, reject.input), (state, input.kind()));
                    assert_eq!(reject.reason(), Reason::LinkState);
                }
                (outcome, expected) => panic!("{state} {input:?}: {outcome:?}, expected {expected:?}"),
            }
        }
    }
    let all = [
        InputKind::Opened,
        InputKind::Authenticated,
        InputKind::Received,
        InputKind::PermitChanged,
        InputKind::TimingChanged,
        InputKind::ProbeAsked,
        InputKind::EchoAsked,
        InputKind::SendAsked,
        InputKind::Noticed,
        InputKind::DrainAsked,
        InputKind::Broken,
        InputKind::TimerFired,
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn every_timer_at_its_end_closes() {
    for state in STATES.into_iter().filter(|state| *state != Closed) {
        let mut session = in_state(state);
        for _ in 0..100 {
            let Some(due) = session.due() else { break };
            session = step(session, Input::TimerFired, Now { mono: due, wall: START.wall });
        }
        assert_eq!(session.state(), Closed, "from {state}");
    }
}

proptest! {
    #[test]
    fn any_order_of_inputs_closes_at_most_once_and_nothing_follows(
        order in proptest::collection::vec((0usize..18, 0u64..4_000_000_000), 0..60),
    ) {
        let inputs = table();
        let mut session = in_state(Dialing);
        let mut mono = START.mono.0;
        let mut out = Vec::new();
        for (index, elapsed) in order {
            mono += elapsed;
            let now = Now { mono: Mono(mono), wall: START.wall };
            session = match session.handle(inputs[index].0.clone(), now, &mut out) {
                Ok(session) | Err((session, _)) => session,
            };
        }
        let closed = out.iter().position(|output| matches!(output, Output::Closed(_)));
        prop_assert_eq!(closed.is_some(), session.state() == Closed);
        if let Some(closed) = closed {
            prop_assert_eq!(closed + 1, out.len());
        }
    }
}
