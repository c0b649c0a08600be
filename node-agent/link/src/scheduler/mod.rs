//! Which frame of a link is sent next.
//!
//! Owns one bounded queue per channel class, one for frames of the link itself, and the choice between
//! them. Refuses to own frames that were handed out: the shell asks when its socket takes more, so that
//! the choice is made as late as possible.
//!
//! # Why this is sound
//! - *Control is not blocked by bulk.* A queue with budget left is served before every lower queue, so a
//!   frame of the link itself, of input or of control waits for frames that were handed out before it and
//!   for higher queues, never for bulk.
//! - *Bulk does not starve.* A window ends after its time has passed **and** the round robin has visited
//!   every queue. Only a new window renews the budgets. Between two turns of a waiting queue the budgets
//!   therefore pass at most their sum (256 KiB) and one frame each, at any speed of the link.
//! - *Shares hold for any frame length.* In each turn a waiting queue gets its quantum as credit and sends
//!   while its credit is positive. A frame that is longer than the credit leaves a debt. Later turns pay
//!   it, also while the queue is empty.
//! - *The choice terminates.* The round robin visits every queue, and each visit raises the credit of a
//!   waiting queue. A debt is at most one frame, so a waiting queue has credit after at most 44 turns.
//! - *No frame is lost without a count.* A frame is refused, or sent once in the order of its queue, or
//!   part of the number that [`Scheduler::push`], [`Scheduler::push_last`] or [`Scheduler::clear`] returns.
//! - *Memory is bounded* by the contracts of the queues, and by 1 MiB of all frames together.
//! - *A path that sends too much learns it early*: its oldest frames are dropped by CoDel when its turn comes.

mod codel;
mod contract;
mod flow;
mod queue;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rap_types::Mono;

use crate::codec::Encoded;

pub(crate) use contract::QueueId;
pub(crate) use queue::Full;
use queue::Queue;

/// All frames of one direction of one connection that wait to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Scheduler {
    /// By priority, as [`QueueId::ALL`].
    queues: [Queue; QueueId::ALL.len()],
    /// Before this instant budgets are not renewed.
    window_end: Mono,
    /// The round robin passed its first queue since the window began.
    came_round: bool,
    /// Position of the round robin.
    turn: usize,
}

/// Which of its two accounts a frame is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charge {
    Budget,
    Credit,
}

impl Scheduler {
    pub(crate) fn new() -> Self {
        let queues = QueueId::ALL.map(|id| Queue::new(id.contract()));
        Self { queues, window_end: Mono(0), came_round: true, turn: 0 }
    }

    /// True if a frame of `length` bytes on the wire would be accepted now.
    pub(crate) fn has_room(&self, id: QueueId, length: usize) -> bool {
        self.queues[id as usize].has_room(length)
    }

    /// Accepts a frame and returns how many frames were dropped for it: older ones of its queue, and above the total
    /// the newest ones that may be dropped.
    pub(crate) fn push(&mut self, id: QueueId, frame: Encoded) -> Result<u64, Full> {
        let mut dropped = self.queues[id as usize].push(frame)?;
        while self.bytes() > TOTAL && DROPPABLE.iter().any(|id| self.queues[*id as usize].drop_newest()) {
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Drops frames of paths that waited too long, as far as it is their turn, and returns how many.
    pub(crate) fn shed(&mut self, now: Mono) -> u64 {
        self.queues[QueueId::Vpn as usize].shed(now)
    }

    fn bytes(&self) -> usize {
        self.queues.iter().map(Queue::bytes).sum()
    }

    /// Accepts the hello, which is never refused.
    pub(crate) fn push_first(&mut self, frame: Encoded) {
        self.queues[QueueId::Own as usize].append(frame);
    }

    /// Accepts the goodbye, which is never refused. Drops the frames of all classes, because nothing may
    /// follow a goodbye, and returns how many these were.
    pub(crate) fn push_last(&mut self, frame: Encoded) -> u64 {
        let (own, classes) = self.queues.split_at_mut(1);
        let dropped = classes.iter_mut().map(Queue::clear).sum();
        own[0].append(frame);
        dropped
    }

    /// Drops everything and returns how many frames that were.
    pub(crate) fn clear(&mut self) -> u64 {
        self.queues.iter_mut().map(Queue::clear).sum()
    }

    /// Hands out the next frame. `None`: nothing waits, or `taken` bytes of `budget` are used and the frame
    /// does not fit into the rest. The first frame of a batch (`taken` is 0) always fits.
    pub(crate) fn pop(&mut self, taken: usize, budget: usize, now: Mono) -> Option<Encoded> {
        let (index, charge) = self.choose(now)?;
        let queue = &mut self.queues[index];
        let length = queue.next_len()?;
        if taken > 0 && taken.saturating_add(length) > budget {
            return None;
        }
        match charge {
            Charge::Budget => queue.budget = queue.budget.saturating_sub(length),
            Charge::Credit => queue.credit -= length.cast_signed(),
        }
        queue.pop()
    }

    fn choose(&mut self, now: Mono) -> Option<(usize, Charge)> {
        let waiting = |queue: &Queue| queue.next_len().is_some();
        let first = self.queues.iter().position(waiting)?;
        let only_budgeted = || self.queues[BUDGETED..].iter().all(|queue| !waiting(queue));
        if now >= self.window_end && (self.came_round || only_budgeted()) {
            self.window_end = now.plus(WINDOW);
            self.came_round = false;
            self.queues.iter_mut().for_each(Queue::renew_budget);
        }
        let in_budget = |queue: &Queue| waiting(queue) && queue.budget > 0;
        if let Some(index) = self.queues[first..].iter().position(in_budget) {
            return Some((first + index, Charge::Budget));
        }
        while !(waiting(&self.queues[self.turn]) && self.queues[self.turn].credit > 0) {
            self.turn = (self.turn + 1) % self.queues.len();
            self.came_round |= self.turn == 0;
            self.queues[self.turn].take_turn();
        }
        Some((self.turn, Charge::Credit))
    }
}

/// How long a budget lasts at least.
const WINDOW: Duration = Duration::from_millis(100);
/// Bytes that wait in all.
const TOTAL: usize = 1024 * 1024;
/// Queues that give up their newest frames above the total, the first ones first.
const DROPPABLE: [QueueId; 3] = [QueueId::Telemetry, QueueId::Vpn, QueueId::Render];
/// Queues before this one have a budget.
const BUDGETED: usize = QueueId::Clipboard as usize;
