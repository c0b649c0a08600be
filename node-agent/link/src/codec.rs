//! The byte layout of a frame.
//!
//! Owns encoding and the checks of a header. Refuses everything that this version does not know. Does not
//! read payloads.
//!
//! ```text
//! 0        1      2     3      4           5..8      8..12        12..20
//! version  class  kind  flags  hop budget  zero      length u32   label or stream id u64
//! then, with flag FENCED:  20..28 incarnation u64   28..36 epoch u64
//! then `length` bytes of payload; all integers big-endian
//! ```

use bytes::Bytes;
use rap_types::{ChannelClass, Mono, Reason};

use crate::frame::{
    FENCING_LEN, FRAME_VERSION, Fencing, Frame, FrameId, FrameKind, HEADER_LEN, HOP_BUDGET_MAX, PAYLOAD_MAX,
    class_code,
};

/// A frame ready for the wire: its header, and the payload that it shares with the [`Frame`].
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    head: [u8; HEADER_LEN + FENCING_LEN],
    head_len: usize,
    /// 0: none.
    label: u64,
    payload: Bytes,
    /// When it began to wait.
    pub(crate) since: Mono,
}

impl Encoded {
    /// Bytes on the wire.
    pub(crate) fn wire_len(&self) -> usize {
        self.head_len + self.payload.len()
    }

    /// The same frame, waiting since `now`.
    pub(crate) fn waiting_since(self, now: Mono) -> Self {
        Self { since: now, ..self }
    }

    /// Label of the frame; 0: none.
    pub(crate) fn label(&self) -> u64 {
        self.label
    }

    /// Appends the wire form to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.wire_len());
        out.extend_from_slice(&self.head[..self.head_len]);
        out.extend_from_slice(&self.payload);
    }
}

impl Frame {
    /// Appends the wire form to `out`. On an error `out` is unchanged.
    ///
    /// # Errors
    /// The frame breaks a rule of the format.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.encoded().map(|encoded| encoded.write(out))
    }

    /// The wire form, with the payload shared.
    pub(crate) fn encoded(&self) -> Result<Encoded, FrameError> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let (labelled, id) = match self.id {
            FrameId::Stream(id) => (0, id),
            FrameId::Label(id) => (FLAG_LABELLED, id),
        };
        let fenced = if self.fencing.is_some() { FLAG_FENCED } else { 0 };
        let (class, kind, hop_budget) = (self.class, self.kind, self.hop_budget);
        let flags = labelled | fenced;
        Header { class, kind, flags, hop_budget, length, id }.check()?;
        let mut head = [0; HEADER_LEN + FENCING_LEN];
        head[..5].copy_from_slice(&[FRAME_VERSION, class_code(class), kind.code(), flags, hop_budget]);
        head[8..12].copy_from_slice(&length.to_be_bytes());
        head[12..HEADER_LEN].copy_from_slice(&id.to_be_bytes());
        let mut head_len = HEADER_LEN;
        if let Some(Fencing { incarnation, epoch }) = self.fencing {
            head[20..28].copy_from_slice(&incarnation.to_be_bytes());
            head[28..36].copy_from_slice(&epoch.to_be_bytes());
            head_len += FENCING_LEN;
        }
        let label = if labelled == 0 { 0 } else { id };
        Ok(Encoded { head, head_len, label, payload: self.payload.clone(), since: Mono(0) })
    }
}

/// Why bytes are not a frame of this version. The stream cannot be resynchronised after such an error.
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
    /// Stable reason code.
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
    pub(crate) fn complete(&self, mut rest: Bytes) -> Frame {
        let pair = rest.split_to(self.fencing_len());
        let fencing = pair.split_first_chunk::<8>().and_then(|(incarnation, epoch)| {
            Some(Fencing {
                incarnation: u64::from_be_bytes(*incarnation),
                epoch: u64::from_be_bytes(*epoch.first_chunk()?),
            })
        });
        let id =
            if self.flags & FLAG_LABELLED != 0 { FrameId::Label(self.id) } else { FrameId::Stream(self.id) };
        Frame { class: self.class, kind: self.kind, hop_budget: self.hop_budget, id, fencing, payload: rest }
    }
}

const FLAG_FENCED: u8 = 0b0000_0001;
const FLAG_LABELLED: u8 = 0b0000_0010;
const FLAGS_KNOWN: u8 = FLAG_FENCED | FLAG_LABELLED;
