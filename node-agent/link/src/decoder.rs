//! Frames out of a byte stream that arrives in arbitrary pieces.
//!
//! Owns one buffer that never exceeds one frame of the largest size plus one read. Refuses a bad
//! header before any of its payload is buffered, and refuses everything after the first error.

use crate::frame::{FENCING_LEN, Frame, FrameError, HEADER_LEN, Header, PAYLOAD_MAX};

/// Most bytes the decoder holds: one largest frame.
pub const BUFFER_MAX: usize = HEADER_LEN + FENCING_LEN + PAYLOAD_MAX;

/// Incremental decoder of one direction of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    failed: Option<FrameError>,
}

impl Decoder {
    /// An empty decoder.
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), failed: None }
    }

    /// Takes bytes from the front of `input` and returns the next frame, or `None` when all of `input`
    /// was taken and more is needed. Errors are final: the same one is returned ever after.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance(input).inspect_err(|error| {
            self.failed = Some(*error);
            self.buffer = Vec::new();
        })
    }

    /// Bytes held of a frame that is not complete.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        self.fill(HEADER_LEN, input);
        let Some(header) = self.buffer.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::parse(header)?;
        let total = HEADER_LEN + header.rest_len();
        self.fill(total, input);
        if self.buffer.len() < total {
            return Ok(None);
        }
        let frame = header.complete(&self.buffer[HEADER_LEN..]);
        self.buffer.clear();
        // A burst of large frames must not pin its memory for the life of an idle link.
        self.buffer.shrink_to(IDLE_CAPACITY);
        Ok(Some(frame))
    }

    fn fill(&mut self, total: usize, input: &mut &[u8]) {
        let take = total.saturating_sub(self.buffer.len()).min(input.len());
        let (head, tail) = input.split_at(take);
        self.buffer.extend_from_slice(head);
        *input = tail;
    }
}

const IDLE_CAPACITY: usize = 4096;
