//! The queues of a link and the contract of each.
//!
//! Owns the numbers: bounds, answer when full, budget, share. Holds no frames.

use rap_types::ChannelClass;

use crate::frame::{Frame, FrameKind};

/// Which queue a frame waits in, highest priority first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QueueId {
    /// Hello, bye, probe, probe ack and lane request: frames of the link itself.
    Own,
    Input,
    Control,
    Clipboard,
    Render,
    File,
    Vpn,
    Telemetry,
}

/// What a full queue does with one more frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Refuse the frame and tell its sender. For classes that must not lose frames.
    Refuse,
    /// Drop the oldest frames of the path, or of the path with the most if there are too many in all. For classes whose newest frame is the most useful one.
    DropOldest,
}

/// Contract of a queue. Lengths are bytes on the wire, headers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contract {
    /// Most bytes that wait of one path, or without one.
    pub(crate) bytes: usize,
    /// Most frames that wait of one path, or without one.
    pub(crate) frames: usize,
    /// So many times that much may wait in all.
    pub(crate) flows: usize,
    pub(crate) when_full: WhenFull,
    /// Bytes per window that are sent before all lower queues; 0 = none.
    pub(crate) budget: usize,
    /// Bytes per turn of the round robin, in which all queues share what the budgets leave.
    pub(crate) quantum: usize,
}

impl QueueId {
    /// Every queue, highest priority first.
    pub(crate) const ALL: [Self; 8] = [
        Self::Own,
        Self::Input,
        Self::Control,
        Self::Clipboard,
        Self::Render,
        Self::File,
        Self::Vpn,
        Self::Telemetry,
    ];

    /// The queue of a frame.
    pub(crate) const fn of(frame: &Frame) -> Self {
        match frame.kind {
            FrameKind::Hello
            | FrameKind::Bye
            | FrameKind::Probe
            | FrameKind::ProbeAck
            | FrameKind::LaneRequest => Self::Own,
            FrameKind::Echo
            | FrameKind::EchoReply
            | FrameKind::Data
            | FrameKind::PathRequest
            | FrameKind::PathAnswer
            | FrameKind::PathWithdraw
            | FrameKind::PathFault
            | FrameKind::RelayRow => Self::of_class(frame.class),
        }
    }

    /// The queue of a channel class.
    pub(crate) const fn of_class(class: ChannelClass) -> Self {
        match class {
            ChannelClass::Input => Self::Input,
            ChannelClass::Control => Self::Control,
            ChannelClass::Clipboard => Self::Clipboard,
            ChannelClass::Render => Self::Render,
            ChannelClass::File => Self::File,
            ChannelClass::Vpn => Self::Vpn,
            ChannelClass::Telemetry => Self::Telemetry,
        }
    }

    /// Contract of the queue.
    pub(crate) const fn contract(self) -> Contract {
        use WhenFull::{DropOldest, Refuse};
        let (bytes, frames, when_full, budget, share) = match self {
            Self::Own => (48 * KIB, 256, Refuse, 64 * KIB, 4),
            Self::Input => (16 * KIB, 256, Refuse, 64 * KIB, 4),
            // Two ends that keep to the limits have 64 questions of 1 KiB open each, and as many answers.
            Self::Control => (160 * KIB, 1024, Refuse, 128 * KIB, 4),
            Self::Clipboard => (64 * KIB, 256, Refuse, 0, 4),
            // Room for two frames of the largest length.
            Self::Render => (129 * KIB, 2, DropOldest, 0, 4),
            Self::File => (256 * KIB, 1024, Refuse, 0, 2),
            Self::Vpn => (256 * KIB, 1024, DropOldest, 0, 1),
            Self::Telemetry => (16 * KIB, 64, DropOldest, 0, 1),
        };
        let flows = match self {
            Self::Vpn => 4,
            Self::Own
            | Self::Input
            | Self::Control
            | Self::Clipboard
            | Self::Render
            | Self::File
            | Self::Telemetry => 1,
        };
        Contract { bytes, frames, flows, when_full, budget, quantum: share * QUANTUM }
    }
}

const KIB: usize = 1024;
const QUANTUM: usize = 1500;
