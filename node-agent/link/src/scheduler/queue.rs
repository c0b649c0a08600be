//! The frames of one queue, oldest first.
//!
//! Owns the bounds and what happens at a bound. Does not choose between queues.

use std::collections::VecDeque;

use crate::codec::Encoded;
use crate::scheduler::contract::{Contract, WhenFull};

/// Waiting frames, with the rest of the budget and of the share.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    contract: Contract,
    waiting: VecDeque<Encoded>,
    bytes: usize,
    /// Bytes left of the window's budget.
    pub(crate) budget: usize,
    /// Bytes left of this turn of the round robin; negative after a frame that was longer.
    pub(crate) credit: isize,
}

/// The queue is full and drops nothing.
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

    /// Accepts a frame and returns how many older frames were dropped for it.
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

    /// Accepts a frame without regard to the bounds.
    pub(crate) fn append(&mut self, frame: Encoded) {
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

    /// Credits one turn of the round robin. Unused credit is not kept; a debt is.
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
