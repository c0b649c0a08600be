//! Decodes frames from a byte stream that arrives in arbitrary pieces.
//!
//! Owns the bytes of one incomplete frame. Checks a header before it buffers any payload. Refuses
//! everything after the first error.

use bytes::Bytes;

use crate::codec::{FrameError, Header};
use crate::frame::{FENCING_LEN, Frame, HEADER_LEN, PAYLOAD_MAX};

/// Most bytes the decoder holds: one largest frame.
pub const BUFFER_MAX: usize = HEADER_LEN + FENCING_LEN + PAYLOAD_MAX;

/// Memory taken for a frame before its bytes came: enough for the data of paths.
const RESERVED: usize = 17 * 1024;

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

    /// Takes bytes from the front of `input` and returns the next frame. `None`: all of `input` was taken
    /// and more is needed.
    ///
    /// # Errors
    /// The bytes are not a frame. Every later call returns the same error.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.advance(input).inspect_err(|error| *self = Self { failed: Some(*error), ..Self::new() })
    }

    /// Bytes held of an incomplete frame, at most [`BUFFER_MAX`].
    pub fn buffered(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        fill(&mut self.head, HEADER_LEN, input);
        let Some(header) = self.head.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::parse(header)?;
        if self.rest.is_empty() {
            self.rest.reserve_exact(header.rest_len().min(RESERVED));
        }
        fill(&mut self.rest, header.rest_len(), input);
        if self.rest.len() < header.rest_len() {
            return Ok(None);
        }
        self.head.clear();
        // The payload takes over the buffer, so that it keeps no memory of other frames alive.
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
