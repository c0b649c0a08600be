//! The frames of one queue, oldest first.
//!
//! Owns the bounds and the answer of a full queue. Does not choose between queues.

use std::collections::VecDeque;

use crate::codec::Encoded;
use crate::scheduler::contract::{Contract, WhenFull};

/// Frames that wait, with what the queue may still send of its budget and of its share.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    contract: Contract,
    waiting: VecDeque<Encoded>,
    bytes: usize,
    /// Bytes left of the window's budget.
    pub(crate) budget: usize,
    /// Bytes that the queue may send in this turn of the round; below 0 while a long frame is paid off.
    pub(crate) credit: isize,
}

/// The queue is full and refuses to drop what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Queue {
    pub(crate) const fn new(contract: Contract) -> Self {
        Self { contract, waiting: VecDeque::new(), bytes: 0, budget: contract.budget, credit: 0 }
    }

    /// True if a frame of `length` bytes would be accepted now.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        match self.contract.when_full {
            WhenFull::Refuse => self.fits(length),
            WhenFull::DropOldest => length <= self.contract.bytes,
        }
    }

    /// Accepts a frame and returns how many older ones were dropped for it.
    pub(crate) fn push(&mut self, frame: Encoded) -> Result<u64, Full> {
        let length = frame.wire_len();
        if !self.has_room(length) {
            return Err(Full);
        }
        let mut dropped = 0;
        while !self.fits(length) && self.pop().is_some() {
            dropped += 1;
        }
        self.append(frame);
        Ok(dropped)
    }

    /// Accepts a frame whatever waits.
    pub(crate) fn append(&mut self, frame: Encoded) {
        self.bytes += frame.wire_len();
        self.waiting.push_back(frame);
    }

    pub(crate) fn pop(&mut self) -> Option<Encoded> {
        let frame = self.waiting.pop_front()?;
        self.bytes -= frame.wire_len();
        if self.waiting.is_empty() {
            // A burst must not pin its memory for the life of an idle link.
            self.waiting.shrink_to(IDLE_CAPACITY);
        }
        Some(frame)
    }

    /// Length of the oldest frame; `None` if nothing waits.
    pub(crate) fn next_len(&self) -> Option<usize> {
        self.waiting.front().map(Encoded::wire_len)
    }

    /// Drops everything and returns how many frames that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let dropped = self.waiting.len() as u64;
        self.waiting = VecDeque::new();
        self.bytes = 0;
        dropped
    }

    pub(crate) fn renew_budget(&mut self) {
        self.budget = self.contract.budget;
    }

    /// Credits one turn of the round. Nothing is saved up; a debt stays until it is paid.
    pub(crate) fn take_turn(&mut self) {
        let quantum = self.contract.quantum.cast_signed();
        let most = if self.waiting.is_empty() { 0 } else { quantum };
        self.credit = (self.credit + quantum).min(most);
    }

    fn fits(&self, length: usize) -> bool {
        self.bytes + length <= self.contract.bytes && self.waiting.len() < self.contract.frames
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }
}

const IDLE_CAPACITY: usize = 16;
