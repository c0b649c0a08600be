//! When a way to a peer is looked for again while none is admitted: after 1, 2, 4 .. 60 s.

use std::time::Duration;

use rap_types::Mono;

/// Whether a peer waits for a way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rendezvous {
    waiting: Option<(u32, Mono)>,
}

impl Rendezvous {
    /// A way is admitted, or none.
    pub(crate) fn reach(&mut self, admitted: bool, now: Mono) {
        if admitted {
            self.waiting = None;
        } else {
            self.waiting.get_or_insert((1, now.plus(FIRST)));
        }
    }

    pub(crate) const fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// When it is looked for.
    pub(crate) fn at(&self) -> Option<Mono> {
        self.waiting.map(|(_, at)| at)
    }

    /// True if it is looked for now; the next time is later.
    pub(crate) fn take(&mut self, now: Mono) -> bool {
        match &mut self.waiting {
            Some((asked, at)) if *at <= now => {
                *at = now.plus((FIRST * (1 << (*asked).min(6))).min(LAST));
                *asked += 1;
                true
            }
            Some(_) | None => false,
        }
    }
}

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_at_growing_intervals_up_to_a_minute_until_a_way_is_there() {
        let mut rendezvous = Rendezvous::default();
        let mut now = Mono(5_000_000_000);
        assert!(!rendezvous.take(now) && !rendezvous.waits());
        rendezvous.reach(false, now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let at = rendezvous.at().unwrap();
            waits.push(at.since(now).as_secs());
            rendezvous.reach(false, now);
            assert_eq!(rendezvous.at(), Some(at), "said again, it changes nothing");
            assert!(!rendezvous.take(Mono(at.0 - 1)));
            now = at;
            assert!(rendezvous.take(now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        rendezvous.reach(true, now);
        assert!(!rendezvous.waits() && rendezvous.at().is_none());
    }
}
