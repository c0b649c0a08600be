//! What is said at most once in a while, with how often it happened in between.
//!
//! Owns the count. Refuses to own the text and the clock.

use std::time::Duration;

use rap_types::Mono;

/// One thing that may happen often.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    said: Option<Mono>,
    unsaid: u64,
}

impl Seldom {
    /// Says it at most once in `every`.
    pub const fn new(every: Duration) -> Self {
        Self { every, said: None, unsaid: 0 }
    }

    /// It happened. `Some` if it is to be said now: how often it happened since it was said last, this time included.
    pub fn happened(&mut self, now: Mono) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|at| now.since(at) < self.every) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_fifty_times_a_second_is_said_once_a_second_with_its_number() {
        let mut seldom = Seldom::new(Duration::from_secs(1));
        let said: Vec<_> = (0..150).filter_map(|turn| seldom.happened(Mono(turn * 20_000_000))).collect();
        assert_eq!(said, [1, 50, 50]);
    }
}
