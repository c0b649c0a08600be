//! The frames of one path, or of none, within a queue.

use std::collections::VecDeque;

use crate::codec::Encoded;

/// Waiting frames with one label, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow {
    waiting: VecDeque<Encoded>,
    pub(crate) bytes: usize,
    /// Bytes left of its turn; negative after a frame that was longer.
    pub(crate) credit: isize,
}

impl Flow {
    pub(crate) fn push(&mut self, frame: Encoded) {
        self.bytes += frame.wire_len();
        self.waiting.push_back(frame);
    }

    pub(crate) fn pop(&mut self) -> Option<Encoded> {
        let frame = self.waiting.pop_front()?;
        self.bytes -= frame.wire_len();
        if self.waiting.is_empty() {
            // Releases the memory of a burst.
            self.waiting.shrink_to(IDLE_CAPACITY);
        }
        Some(frame)
    }

    /// Length of the oldest frame.
    pub(crate) fn next_len(&self) -> Option<usize> {
        self.waiting.front().map(Encoded::wire_len)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

const IDLE_CAPACITY: usize = 16;
