//! Which frame of a link is sent next.
//!
//! Owns one bounded queue per channel class, one for the link's own frames, and the choice between
//! them. Refuses to own bytes of a frame that was handed out: the shell asks when its socket takes
//! more, so the choice is made as late as possible.
//!
//! # Why this is sound
//! - *Control is not blocked by bulk.* A queue with budget left is served before every lower queue, so a
//!   frame of the link itself, of input or of control waits for what was handed out before it and for
//!   higher queues, never for bulk.
//! - *Bulk does not starve.* A window ends only after its time **and** after the round came full circle
//!   once. Budgets are renewed by a new window alone. So between two turns of a waiting queue the
//!   budgets let at most their sum (256 KiB) and one frame each pass, at any speed of the link.
//! - *Shares hold for any frame length.* In each turn a waiting queue is credited its quantum and sends
//!   while its credit is positive; a frame longer than the credit leaves a debt that later turns pay,
//!   also while the queue is empty.
//! - *The choice ends.* The round visits every queue; each visit raises the credit of a waiting queue
//!   and a debt is at most one frame, so some waiting queue becomes positive after at most 44 turns.
//! - *Nothing is lost silently.* A frame is refused at the door, or sent once in the order of its queue,
//!   or counted as dropped by the caller of [`Scheduler::push`], [`Scheduler::push_last`] or
//!   [`Scheduler::clear`].
//! - *Memory is bounded* by the contracts of the queues: less than 1 MiB of frames.

mod contract;
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
    /// The round passed its beginning since the window began.
    came_round: bool,
    /// The queue whose turn of the round it is.
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

    /// Accepts a frame and returns how many older ones of its queue were dropped for it.
    pub(crate) fn push(&mut self, id: QueueId, frame: Encoded) -> Result<u64, Full> {
        self.queues[id as usize].push(frame)
    }

    /// Accepts the first frame of a direction, which is never refused.
    pub(crate) fn push_first(&mut self, frame: Encoded) {
        self.queues[QueueId::Own as usize].append(frame);
    }

    /// Accepts the last frame of a direction, which is never refused, and returns how many frames were
    /// dropped: those of all classes, since nothing follows a goodbye and it waits for none of them.
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

    /// Hands out the next frame if it is the first of a batch (`taken` is 0) or fits into what `budget`
    /// leaves after the `taken` bytes before it.
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
/// Queues before this one have a budget.
const BUDGETED: usize = QueueId::Clipboard as usize;
