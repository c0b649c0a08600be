//! The frame, the unit that a link carries. It is the same on every lane and every hop.
//!
//! Owns the parts of a frame and their numbers on the wire. The byte layout is in `codec`. `session`
//! decides whether a frame fits its state.

use bytes::Bytes;
use rap_types::ChannelClass;

/// Magic (high nibble) and frame version (low nibble).
pub const FRAME_VERSION: u8 = 0xA1;
/// Bytes of the header without the fencing pair.
pub const HEADER_LEN: usize = 20;
/// Bytes of the fencing pair.
pub const FENCING_LEN: usize = 16;
/// Largest payload of any frame.
pub const PAYLOAD_MAX: usize = 64 * 1024;
/// Largest hop budget: three relays and the destination.
pub const HOP_BUDGET_MAX: u8 = 4;

/// What the payload is. The number is that on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrameKind {
    /// `LinkHello`; class control.
    Hello = 1,
    /// `LinkBye`; class control.
    Bye = 2,
    /// `FabricProbe`; class control.
    Probe = 3,
    /// `FabricProbeAck`; class control.
    ProbeAck = 4,
    /// `SyntheticEcho` asked; any class.
    Echo = 5,
    /// `SyntheticEcho` returned; the class of the question.
    EchoReply = 6,
    /// Opaque bytes of a flow; any class; the only kind that may be fenced, labelled and relayed.
    Data = 16,
    /// `PathRequest`; class control.
    PathRequest = 17,
    /// `PathAnswer`; class control.
    PathAnswer = 18,
    /// `PathWithdraw`; class control.
    PathWithdraw = 19,
    /// `PathFault`; class control.
    PathFault = 20,
    /// `LaneRequest`; class control.
    LaneRequest = 23,
    /// `RelayRowMessage`; class control.
    RelayRow = 25,
}

impl FrameKind {
    /// Every kind, in wire order.
    pub const ALL: &'static [Self] = &[
        Self::Hello,
        Self::Bye,
        Self::Probe,
        Self::ProbeAck,
        Self::Echo,
        Self::EchoReply,
        Self::Data,
        Self::PathRequest,
        Self::PathAnswer,
        Self::PathWithdraw,
        Self::PathFault,
        Self::LaneRequest,
        Self::RelayRow,
    ];

    /// Number on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    pub(crate) const fn control_only(self) -> bool {
        match self {
            Self::Echo | Self::EchoReply | Self::Data => false,
            Self::Hello
            | Self::Bye
            | Self::Probe
            | Self::ProbeAck
            | Self::PathRequest
            | Self::PathAnswer
            | Self::PathWithdraw
            | Self::PathFault
            | Self::LaneRequest
            | Self::RelayRow => true,
        }
    }
}

/// Number of a class on the wire: 1 input to 7 telemetry.
pub const fn class_code(class: ChannelClass) -> u8 {
    match class {
        ChannelClass::Input => 1,
        ChannelClass::Control => 2,
        ChannelClass::Render => 3,
        ChannelClass::Clipboard => 4,
        ChannelClass::File => 5,
        ChannelClass::Vpn => 6,
        ChannelClass::Telemetry => 7,
    }
}

/// What the 64-bit id of the header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameId {
    /// A stream of this link; 0 is the link itself.
    Stream(u64),
    /// A label that the next node looks up.
    Label(u64),
}

/// Lease fencing token carried by a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fencing {
    /// Incarnation of the cluster under which the lease was granted.
    pub incarnation: u64,
    /// Epoch of the lease.
    pub epoch: u64,
}

/// One frame, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Channel class.
    pub class: ChannelClass,
    /// What the payload is.
    pub kind: FrameKind,
    /// Number of nodes that the frame may still pass; 0 for frames of the link itself.
    pub hop_budget: u8,
    /// Stream or label.
    pub id: FrameId,
    /// Fencing token. Absent: the frame is under no lease.
    pub fencing: Option<Fencing>,
    /// At most [`PAYLOAD_MAX`] bytes. Clones of the frame share them.
    pub payload: Bytes,
}

impl Frame {
    /// A frame of the link itself: stream 0, no hops, no fencing.
    pub fn local(class: ChannelClass, kind: FrameKind, payload: impl Into<Bytes>) -> Self {
        Self { class, kind, hop_budget: 0, id: FrameId::Stream(0), fencing: None, payload: payload.into() }
    }

    /// A labelled frame of data for the next hop of a path.
    pub fn labelled(class: ChannelClass, label: u64, hop_budget: u8, payload: impl Into<Bytes>) -> Self {
        let (kind, id, payload) = (FrameKind::Data, FrameId::Label(label), payload.into());
        Self { class, kind, hop_budget, id, fencing: None, payload }
    }

    /// Length on the wire in bytes.
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + if self.fencing.is_some() { FENCING_LEN } else { 0 } + self.payload.len()
    }
}
