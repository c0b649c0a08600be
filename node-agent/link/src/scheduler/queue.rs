//! The frames of one queue: those of each path in their order, paths in turns.
//!
//! Owns the bounds and what happens at a bound. Does not choose between queues.
//!
//! Frames without a label are one flow. A flow that waits has its turn after at most 44 rounds of the others: a frame
//! leaves a debt of at most 64 KiB, and each round pays [`TURN`] of it.

use std::collections::{BTreeMap, VecDeque};

use rap_types::Mono;

use crate::codec::Encoded;
use crate::scheduler::contract::{Contract, WhenFull};
use crate::scheduler::flow::Flow;

/// Waiting frames, with the rest of the budget and of the share.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    contract: Contract,
    /// By label; 0: none. Only flows with frames.
    flows: BTreeMap<u64, Flow>,
    /// The flows in the order of their turns. The first has credit.
    turns: VecDeque<u64>,
    bytes: usize,
    frames: usize,
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
        Self {
            contract,
            flows: BTreeMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            frames: 0,
            budget: contract.budget,
            credit: 0,
        }
    }

    /// True if a frame of `length` bytes without a label would be accepted now.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.takes(0, length)
    }

    /// Accepts a frame and returns how many older frames were dropped for it.
    pub(crate) fn push(&mut self, frame: Encoded) -> Result<u64, Full> {
        let (label, length) = (frame.label(), frame.wire_len());
        if !self.takes(label, length) {
            return Err(Full);
        }
        let mut dropped = 0;
        while !self.fits_flow(label, length) && self.pop_of(label).is_some() {
            dropped += 1;
        }
        while !self.fits(length) && self.longest().and_then(|longest| self.pop_of(longest)).is_some() {
            dropped += 1;
        }
        self.append(frame);
        Ok(dropped)
    }

    /// Accepts a frame without regard to the bounds.
    pub(crate) fn append(&mut self, frame: Encoded) {
        let label = frame.label();
        self.bytes += frame.wire_len();
        self.frames += 1;
        let flow = self.flows.entry(label).or_default();
        if flow.len() == 0 {
            flow.credit = TURN;
            self.turns.push_back(label);
        }
        flow.push(frame);
    }

    /// Takes the next frame.
    pub(crate) fn pop(&mut self) -> Option<Encoded> {
        let label = *self.turns.front()?;
        let frame = self.pop_of(label)?;
        if let Some(flow) = self.flows.get_mut(&label) {
            flow.credit -= frame.wire_len().cast_signed();
        }
        self.next_turn();
        Some(frame)
    }

    /// Drops frames of the path whose turn it is that waited too long, and returns how many.
    pub(crate) fn shed(&mut self, now: Mono) -> u64 {
        let mut dropped = 0;
        while let Some(label) = self.turns.front().copied()
            && label != NO_LABEL
            && self.flows.get_mut(&label).is_some_and(|flow| flow.is_late(now))
            && self.pop_of(label).is_some()
        {
            dropped += 1;
        }
        dropped
    }

    /// Drops the newest frame of the path with the most. False: nothing waits.
    pub(crate) fn drop_newest(&mut self) -> bool {
        self.longest().and_then(|longest| self.take_of(longest, Flow::pop_newest)).is_some()
    }

    /// Bytes that wait.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Length of the next frame; `None` if nothing waits.
    pub(crate) fn next_len(&self) -> Option<usize> {
        self.flows.get(self.turns.front()?)?.next_len()
    }

    /// Drops everything and returns how many frames that was.
    pub(crate) fn clear(&mut self) -> u64 {
        let dropped = self.frames as u64;
        (self.flows, self.turns) = (BTreeMap::new(), VecDeque::new());
        (self.bytes, self.frames) = (0, 0);
        dropped
    }

    pub(crate) fn renew_budget(&mut self) {
        self.budget = self.contract.budget;
    }

    /// Credits one turn of the round robin. Unused credit is not kept; a debt is.
    pub(crate) fn take_turn(&mut self) {
        let quantum = self.contract.quantum.cast_signed();
        let most = if self.frames == 0 { 0 } else { quantum };
        self.credit = (self.credit + quantum).min(most);
    }

    /// Takes the oldest frame of a flow.
    fn pop_of(&mut self, label: u64) -> Option<Encoded> {
        self.take_of(label, Flow::pop)
    }

    /// Takes a frame of a flow. A flow without frames is forgotten, with its turn.
    fn take_of(&mut self, label: u64, take: impl FnOnce(&mut Flow) -> Option<Encoded>) -> Option<Encoded> {
        let flow = self.flows.get_mut(&label)?;
        let frame = take(flow)?;
        self.bytes -= frame.wire_len();
        self.frames -= 1;
        if flow.len() == 0 {
            if label == NO_LABEL {
                // Most queues have this flow alone: its memory is kept.
                flow.credit = 0;
            } else {
                self.flows.remove(&label);
            }
            self.turns.retain(|waiting| *waiting != label);
            self.next_turn();
        }
        Some(frame)
    }

    /// Passes the turn on until it is at a flow with credit.
    fn next_turn(&mut self) {
        while let Some(label) = self.turns.front().copied()
            && let Some(flow) = self.flows.get_mut(&label)
            && flow.credit <= 0
        {
            flow.credit += TURN;
            self.turns.rotate_left(1);
        }
    }

    fn takes(&self, label: u64, length: usize) -> bool {
        match self.contract.when_full {
            WhenFull::Refuse => self.fits_flow(label, length) && self.fits(length),
            WhenFull::DropOldest => length <= self.contract.bytes,
        }
    }

    fn fits_flow(&self, label: u64, length: usize) -> bool {
        let (bytes, frames) = self.flows.get(&label).map_or((0, 0), |flow| (flow.bytes, flow.len()));
        bytes + length <= self.contract.bytes && frames < self.contract.frames
    }

    fn fits(&self, length: usize) -> bool {
        let flows = self.contract.flows;
        self.bytes + length <= self.contract.bytes * flows && self.frames < self.contract.frames * flows
    }

    fn longest(&self) -> Option<u64> {
        self.flows.iter().max_by_key(|(_, flow)| flow.bytes).map(|(label, _)| *label)
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.frames, self.bytes)
    }
}

/// Bytes of one turn of a flow.
const TURN: isize = 1500;
const NO_LABEL: u64 = 0;
