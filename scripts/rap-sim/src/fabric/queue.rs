//! What is to happen, in the order of time; of two things at one instant the one that was planned first.

use std::collections::BTreeMap;

use rap_types::Mono;

#[derive(Debug)]
pub struct Queue<T> {
    waiting: BTreeMap<(Mono, u64), T>,
    last: u64,
}

impl<T> Queue<T> {
    pub const fn new() -> Self {
        Self { waiting: BTreeMap::new(), last: 0 }
    }

    /// Plans it.
    pub fn push(&mut self, at: Mono, what: T) {
        self.last += 1;
        self.waiting.insert((at, self.last), what);
    }

    /// The next one, if it is due by `end`.
    pub fn pop(&mut self, end: Mono) -> Option<(Mono, T)> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= end)?;
        let ((at, _), what) = first.remove_entry();
        Some((at, what))
    }
}
