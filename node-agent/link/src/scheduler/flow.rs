//! The frames of one path, or of none, within a queue.

use std::collections::VecDeque;

use rap_types::Mono;

use crate::codec::Encoded;
use crate::scheduler::codel::Codel;

/// Waiting frames with one label, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow {
    waiting: VecDeque<Encoded>,
    pub(crate) bytes: usize,
    /// Bytes left of its turn; negative after a frame that was longer.
    pub(crate) credit: isize,
    codel: Codel,
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

    /// Takes the newest frame.
    pub(crate) fn pop_newest(&mut self) -> Option<Encoded> {
        let frame = self.waiting.pop_back()?;
        self.bytes -= frame.wire_len();
        Some(frame)
    }

    /// Whether the oldest frame has waited too long.
    pub(crate) fn is_late(&mut self, now: Mono) -> bool {
        let last = self.waiting.len() == 1;
        self.waiting.front().is_some_and(|oldest| self.codel.drops(now.since(oldest.since), last, now))
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
