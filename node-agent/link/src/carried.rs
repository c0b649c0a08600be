//! What a connection carries for others: which frames its lane takes, and until when a lane without data stands.
//!
//! Owns the rule which class goes over which lane. Knows no queue.

use std::time::Duration;

use rap_types::{Mono, Reason};

use crate::facts::{Direction, Lane};
use crate::frame::{Frame, FrameId, FrameKind};
use crate::hello::Agreed;

/// The rules of one established connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    direction: Direction,
    lane: Lane,
    agreed: Agreed,
}

impl Carried {
    pub(crate) const fn new(direction: Direction, lane: Lane, agreed: Agreed) -> Self {
        Self { direction, lane, agreed }
    }

    /// Whether the peer may send this frame here. Frames of the link itself are not meant.
    pub(crate) fn arrives(&self, frame: &Frame) -> Result<(), Reason> {
        self.takes(frame, Direction::Inbound)
    }

    /// Whether this side may send this frame here.
    pub(crate) fn leaves(&self, frame: &Frame) -> Result<(), Reason> {
        self.takes(frame, Direction::Outbound)
    }

    /// `going`: outbound for a frame of this side.
    fn takes(&self, frame: &Frame, going: Direction) -> Result<(), Reason> {
        let lane = match (frame.kind, frame.id) {
            (FrameKind::Data, FrameId::Label(_)) => Lane::of_class(frame.class),
            (FrameKind::PathRequest | FrameKind::PathAnswer, _)
            | (FrameKind::PathWithdraw | FrameKind::PathFault, _) => Lane::A,
            (FrameKind::RelayRow, _) if self.agreed.rows => Lane::A,
            // The side that was dialled asks, because it cannot dial.
            (FrameKind::LaneRequest, _) if self.agreed.lanes && self.direction != going => Lane::A,
            _ => return Err(Reason::LinkState),
        };
        let lane = if self.agreed.lanes { lane } else { Lane::A };
        match () {
            () if !self.agreed.fabric => Err(Reason::LinkState),
            () if lane != self.lane => Err(Reason::LinkLane),
            () => Ok(()),
        }
    }

    /// True for the connection whose peer is watched while data passes: on others bulk is before a probe.
    pub(crate) fn is_watched(&self) -> bool {
        self.lane == Lane::A && self.agreed.fabric
    }

    /// True if the peer dialled.
    pub(crate) fn was_dialled(&self) -> bool {
        self.direction == Direction::Inbound
    }

    /// When the lane ends if data passed last at `since`; never for lane A.
    pub(crate) fn idle_end(&self, since: Mono, idle: Duration) -> Option<Mono> {
        (self.agreed.lanes && self.lane != Lane::A).then(|| since.plus(idle))
    }
}

#[cfg(test)]
mod tests {
    use rap_types::ChannelClass;

    use super::*;
    use crate::message::lane_request;

    const LANES: [Lane; 3] = [Lane::A, Lane::B, Lane::C];

    fn agreed(fabric: bool, lanes: bool) -> Agreed {
        Agreed { fabric, lanes, rows: fabric }
    }

    #[test]
    fn each_class_has_one_lane_and_the_others_refuse_it() {
        for class in ChannelClass::ALL {
            let data = Frame::labelled(*class, 7, 2, vec![1]);
            for lane in LANES {
                let rules = Carried::new(Direction::Outbound, lane, agreed(true, true));
                let right = lane == Lane::of_class(*class);
                let expected = if right { Ok(()) } else { Err(Reason::LinkLane) };
                assert_eq!(
                    (rules.arrives(&data), rules.leaves(&data)),
                    (expected, expected),
                    "{class} {lane:?}"
                );
                let old = Carried::new(Direction::Outbound, lane, agreed(true, false));
                let expected = if lane == Lane::A { Ok(()) } else { Err(Reason::LinkLane) };
                assert_eq!((old.arrives(&data), old.leaves(&data)), (expected, expected), "{class} {lane:?}");
                let older = Carried::new(Direction::Outbound, lane, agreed(false, false));
                assert_eq!(older.arrives(&data), Err(Reason::LinkState));
            }
        }
    }

    #[test]
    fn messages_of_paths_go_over_lane_a_alone() {
        for kind in
            [FrameKind::PathRequest, FrameKind::PathAnswer, FrameKind::PathWithdraw, FrameKind::PathFault]
        {
            let message = Frame::local(ChannelClass::Control, kind, vec![]);
            for lane in LANES {
                let rules = Carried::new(Direction::Inbound, lane, agreed(true, true));
                let expected = if lane == Lane::A { Ok(()) } else { Err(Reason::LinkLane) };
                assert_eq!((rules.arrives(&message), rules.leaves(&message)), (expected, expected));
            }
        }
    }

    #[test]
    fn only_the_dialled_side_asks_for_a_lane_and_only_if_both_know_lanes() {
        let request = lane_request(Lane::C);
        let refused = Err(Reason::LinkState);
        let dialler = Carried::new(Direction::Outbound, Lane::A, agreed(true, true));
        assert_eq!((dialler.arrives(&request), dialler.leaves(&request)), (Ok(()), refused));
        let dialled = Carried::new(Direction::Inbound, Lane::A, agreed(true, true));
        assert_eq!((dialled.arrives(&request), dialled.leaves(&request)), (refused, Ok(())));
        let old = Carried::new(Direction::Inbound, Lane::A, agreed(true, false));
        assert_eq!(old.leaves(&request), refused);
        let other = Carried::new(Direction::Inbound, Lane::C, agreed(true, true));
        assert_eq!(other.leaves(&request), Err(Reason::LinkLane));
    }

    #[test]
    fn lane_a_stands_without_data_and_the_others_do_not() {
        let idle = Duration::from_secs(60);
        let end = |lane, lanes| {
            Carried::new(Direction::Outbound, lane, agreed(true, lanes)).idle_end(Mono(5), idle)
        };
        assert_eq!(end(Lane::A, true), None);
        assert_eq!(
            (end(Lane::B, true), end(Lane::C, true)),
            (Some(Mono(5).plus(idle)), Some(Mono(5).plus(idle)))
        );
        assert_eq!(end(Lane::C, false), None);
    }

    #[test]
    fn rows_of_relays_go_over_lane_a_and_only_if_both_know_them() {
        let row = Frame::local(ChannelClass::Control, FrameKind::RelayRow, vec![]);
        let rules = |lane, rows| {
            Carried::new(Direction::Inbound, lane, Agreed { rows, ..agreed(true, true) }).arrives(&row)
        };
        assert_eq!(rules(Lane::A, true), Ok(()));
        assert_eq!(rules(Lane::C, true), Err(Reason::LinkLane));
        assert_eq!(rules(Lane::A, false), Err(Reason::LinkState));
    }
}
