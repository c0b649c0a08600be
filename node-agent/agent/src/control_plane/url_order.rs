//! Which control URL is dialled next.
//!
//! Owns the turn, and which URLs come last for a while. Refuses to dial and to know the time.

use tokio::time::Instant;

/// The order of a membership's control URLs.
#[derive(Debug)]
pub(super) struct UrlOrder {
    next: usize,
    /// Until when each comes last.
    last_until: Vec<Option<Instant>>,
}

impl UrlOrder {
    /// Starts with the first of `count` URLs; `count` is at least 1.
    pub(super) fn new(count: usize) -> Self {
        Self { next: 0, last_until: vec![None; count] }
    }

    /// The URL whose turn it is, or the first after it that does not come last.
    pub(super) fn choose(&self, now: Instant) -> usize {
        let in_turn = |step: usize| (self.next + step) % self.last_until.len();
        let is_last = |url: usize| self.last_until[url].is_some_and(|until| now < until);
        (0..self.last_until.len()).map(in_turn).find(|url| !is_last(*url)).unwrap_or(in_turn(0))
    }

    /// It is the turn of the URL after this one.
    pub(super) fn pass(&mut self, url: usize) {
        self.next = (url + 1) % self.last_until.len();
    }

    /// It is the turn of this URL.
    pub(super) fn turn_to(&mut self, url: usize) {
        self.next = url;
        self.last_until[url] = None;
    }

    /// This URL comes last until then.
    pub(super) fn put_last(&mut self, url: usize, until: Instant) {
        self.last_until[url] = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_url_that_comes_last_is_dialled_again_when_its_time_is_over_or_no_other_is_left() {
        let (mut order, now) = (UrlOrder::new(3), Instant::now());
        let minute = Duration::from_secs(60);
        assert_eq!(order.choose(now), 0);
        order.put_last(0, now + minute);
        assert_eq!(order.choose(now), 1);
        order.pass(1);
        order.pass(2);
        assert_eq!(order.choose(now), 1, "it is the turn of the first, which comes last");
        order.put_last(1, now + minute / 2);
        order.put_last(2, now + minute / 2);
        assert_eq!(order.choose(now), 0, "all come last: in turn");
        order.turn_to(2);
        assert_eq!(order.choose(now), 2);
        order.pass(0);
        assert_eq!(order.choose(now + minute / 2), 1);
        order.pass(2);
        assert_eq!(order.choose(now + minute), 0);
    }
}
