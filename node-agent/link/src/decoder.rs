//! Frames out of a byte stream that arrives in arbitrary pieces.
//!
//! Owns the bytes of one frame that is not complete. Refuses a bad header before any of its payload is
//! buffered, and refuses everything after the first error.

use bytes::Bytes;

use crate::codec::{FrameError, Header};
use crate::frame::{FENCING_LEN, Frame, HEADER_LEN, PAYLOAD_MAX};

/// Most bytes the decoder holds: one largest frame.
pub const BUFFER_MAX: usize = HEADER_LEN + FENCING_LEN + PAYLOAD_MAX;

/// Incremental decoder of one direction of one connection.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    head: Vec<u8>,
    rest: Vec<u8>,
    failed: Option<FrameError>,
}

impl Decoder {
    /// An empty decoder.
    pub const fn new() -> Self {
        Self { head: Vec::new(), rest: Vec::new(), failed: None }
    }

    /// Takes bytes from the front of `input` and returns the next frame, or `None` when all of `input`
    /// was taken and more is needed. Errors are final: the same one is returned ever after.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance(input).inspect_err(|error| *self = Self { failed: Some(*error), ..Self::new() })
    }

    /// Bytes held of a frame that is not complete.
    pub fn buffered(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        fill(&mut self.head, HEADER_LEN, input);
        let Some(header) = self.head.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::parse(header)?;
        fill(&mut self.rest, header.rest_len(), input);
        if self.rest.len() < header.rest_len() {
            return Ok(None);
        }
        self.head.clear();
        // The frame takes the buffer: what it holds on to is its own length and nothing of other frames.
        let mut rest = std::mem::take(&mut self.rest);
        rest.shrink_to_fit();
        Ok(Some(header.complete(Bytes::from(rest))))
    }
}

fn fill(buffer: &mut Vec<u8>, total: usize, input: &mut &[u8]) {
    let take = total.saturating_sub(buffer.len()).min(input.len());
    let (head, tail) = input.split_at(take);
    buffer.extend_from_slice(head);
    *input = tail;
}
