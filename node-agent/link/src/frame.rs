//! The frame: a fixed header and a length-prefixed payload, the same on every lane and every hop.
//!
//! Owns the byte layout and refuses whatever this version does not know. Does not look into payloads
//! and does not decide whether a frame fits the session's state.
//!
//! ```text
//! 0        1      2     3      4           5..8      8..12        12..20
//! version  class  kind  flags  hop budget  zero      length u32   label or stream id u64
//! then, with flag FENCED:  20..28 incarnation u64   28..36 epoch u64
//! then `length` bytes of payload; all integers big-endian
//! ```

use rap_types::{ChannelClass, Reason};

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

const FLAG_FENCED: u8 = 0b0000_0001;
const FLAG_LABELLED: u8 = 0b0000_0010;
const FLAGS_KNOWN: u8 = FLAG_FENCED | FLAG_LABELLED;

/// What the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameKind {
    /// `LinkHello`; class control.
    Hello,
    /// `LinkBye`; class control.
    Bye,
    /// `FabricProbe`; class control.
    Probe,
    /// `FabricProbeAck`; class control.
    ProbeAck,
    /// `SyntheticEcho` asked; any class.
    Echo,
    /// `SyntheticEcho` returned; the class of the question.
    EchoReply,
    /// Opaque bytes of a flow; any class; the only kind that may be fenced, labelled and relayed.
    Data,
}

impl FrameKind {
    /// Every kind, in wire order.
    pub const ALL: &'static [Self] =
        &[Self::Hello, Self::Bye, Self::Probe, Self::ProbeAck, Self::Echo, Self::EchoReply, Self::Data];

    /// Number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Bye => 2,
            Self::Probe => 3,
            Self::ProbeAck => 4,
            Self::Echo => 5,
            Self::EchoReply => 6,
            Self::Data => 16,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    const fn control_only(self) -> bool {
        matches!(self, Self::Hello | Self::Bye | Self::Probe | Self::ProbeAck)
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
    /// Database life under which the lease was granted.
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
    /// Nodes the frame may still pass; 0 for frames of the link itself.
    pub hop_budget: u8,
    /// Stream or label.
    pub id: FrameId,
    /// Fencing token, for frames of an owned thing.
    pub fencing: Option<Fencing>,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of the link itself: stream 0, no hops, no fencing.
    pub const fn local(class: ChannelClass, kind: FrameKind, payload: Vec<u8>) -> Self {
        Self { class, kind, hop_budget: 0, id: FrameId::Stream(0), fencing: None, payload }
    }

    /// Bytes this frame has on the wire.
    pub fn wire_len(&self) -> usize {
        HEADER_LEN + if self.fencing.is_some() { FENCING_LEN } else { 0 } + self.payload.len()
    }

    /// Appends the wire form to `out`; leaves `out` alone when the frame breaks a rule of the format.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let (labelled, id) = match self.id {
            FrameId::Stream(id) => (0, id),
            FrameId::Label(id) => (FLAG_LABELLED, id),
        };
        let fenced = if self.fencing.is_some() { FLAG_FENCED } else { 0 };
        let header = Header {
            class: self.class,
            kind: self.kind,
            flags: labelled | fenced,
            hop_budget: self.hop_budget,
            length,
            id,
        };
        header.check()?;
        out.reserve(self.wire_len());
        out.extend_from_slice(&[
            FRAME_VERSION,
            class_code(self.class),
            self.kind.code(),
            header.flags,
            self.hop_budget,
            0,
            0,
            0,
        ]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&id.to_be_bytes());
        if let Some(fencing) = self.fencing {
            out.extend_from_slice(&fencing.incarnation.to_be_bytes());
            out.extend_from_slice(&fencing.epoch.to_be_bytes());
        }
        out.extend_from_slice(&self.payload);
        Ok(())
    }
}

/// Why bytes are not a frame of this version. After one of these the connection cannot be resynchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// First byte is not [`FRAME_VERSION`].
    #[error("unknown frame version {0:#04x}")]
    Version(u8),
    /// Class outside 1..=7.
    #[error("unknown channel class {0}")]
    Class(u8),
    /// Kind that this version does not know.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// Flag bits that this version does not know.
    #[error("unknown frame flags {0:#010b}")]
    Flags(u8),
    /// A reserved byte is not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// Payload length above the cap.
    #[error("payload of {0} bytes exceeds the cap")]
    TooLarge(u32),
    /// Hop budget above [`HOP_BUDGET_MAX`], zero on a labelled frame, or set on one that is not relayed.
    #[error("hop budget {0} does not fit the frame")]
    HopBudget(u8),
    /// Class, label or fencing that the kind may not carry.
    #[error("kind {0:?} may not carry this class, label or fencing")]
    Combination(FrameKind),
}

impl FrameError {
    /// The stable code.
    pub const fn reason(self) -> Reason {
        match self {
            Self::TooLarge(_) => Reason::LinkFrameTooLarge,
            Self::Version(_)
            | Self::Class(_)
            | Self::Kind(_)
            | Self::Flags(_)
            | Self::Reserved
            | Self::HopBudget(_)
            | Self::Combination(_) => Reason::LinkFrameMalformed,
        }
    }
}

/// The fixed part of a header, parsed and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    class: ChannelClass,
    kind: FrameKind,
    flags: u8,
    hop_budget: u8,
    length: u32,
    id: u64,
}

impl Header {
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [version, class, kind, flags, hop_budget, r0, r1, r2, l0, l1, l2, l3, id @ ..] = *bytes;
        if version != FRAME_VERSION {
            return Err(FrameError::Version(version));
        }
        let class = ChannelClass::ALL
            .iter()
            .copied()
            .find(|candidate| class_code(*candidate) == class)
            .ok_or(FrameError::Class(class))?;
        let kind = FrameKind::from_code(kind).ok_or(FrameError::Kind(kind))?;
        if [r0, r1, r2] != [0; 3] {
            return Err(FrameError::Reserved);
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let header = Self { class, kind, flags, hop_budget, length, id: u64::from_be_bytes(id) };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), FrameError> {
        if self.flags & !FLAGS_KNOWN != 0 {
            return Err(FrameError::Flags(self.flags));
        }
        if self.length as usize > PAYLOAD_MAX {
            return Err(FrameError::TooLarge(self.length));
        }
        let labelled = self.flags & FLAG_LABELLED != 0;
        if (self.kind != FrameKind::Data && (self.flags != 0 || self.id != 0))
            || (self.kind.control_only() && self.class != ChannelClass::Control)
        {
            return Err(FrameError::Combination(self.kind));
        }
        if labelled != (self.hop_budget != 0) || self.hop_budget > HOP_BUDGET_MAX {
            return Err(FrameError::HopBudget(self.hop_budget));
        }
        Ok(())
    }

    /// Bytes that follow the fixed header: the fencing pair, if any, and the payload.
    pub(crate) const fn rest_len(&self) -> usize {
        self.fencing_len() + self.length as usize
    }

    const fn fencing_len(&self) -> usize {
        if self.flags & FLAG_FENCED != 0 { FENCING_LEN } else { 0 }
    }

    /// Completes the frame from exactly [`Self::rest_len`] bytes.
    pub(crate) fn complete(&self, rest: &[u8]) -> Frame {
        let (pair, payload) = rest.split_at(self.fencing_len());
        let fencing = pair.split_first_chunk::<8>().and_then(|(incarnation, epoch)| {
            Some(Fencing {
                incarnation: u64::from_be_bytes(*incarnation),
                epoch: u64::from_be_bytes(*epoch.first_chunk()?),
            })
        });
        let id =
            if self.flags & FLAG_LABELLED != 0 { FrameId::Label(self.id) } else { FrameId::Stream(self.id) };
        Frame {
            class: self.class,
            kind: self.kind,
            hop_budget: self.hop_budget,
            id,
            fencing,
            payload: payload.to_vec(),
        }
    }
}
