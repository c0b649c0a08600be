//! Which peer is to be looked at when.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rap_types::Mono;
use tokio::sync::Notify;

/// Times and peers, by their indexes. A peer may stand here more than once; it knows which time counts.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    entries: Mutex<BTreeSet<(Mono, u32)>>,
    sooner: Notify,
}

impl Agenda {
    /// Adds a time.
    pub(crate) fn add(&self, due: Mono, index: u32) {
        let first = {
            let mut entries = self.lock();
            entries.insert((due, index));
            entries.first() == Some(&(due, index))
        };
        if first {
            self.sooner.notify_one();
        }
    }

    /// The earliest time.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.lock().first().map(|(due, _)| *due)
    }

    /// Takes the earliest entry whose time has come.
    pub(crate) fn take(&self, now: Mono) -> Option<(Mono, u32)> {
        let mut entries = self.lock();
        let due = entries.first().is_some_and(|(due, _)| *due <= now);
        if due { entries.pop_first() } else { None }
    }

    /// Waits until an entry came that is earlier than all before.
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Mono, u32)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_the_order_of_their_times_and_not_before() {
        let agenda = Agenda::default();
        agenda.add(Mono(7), 1);
        agenda.add(Mono(5), 2);
        assert_eq!((agenda.next(), agenda.take(Mono(4))), (Some(Mono(5)), None));
        assert_eq!(agenda.take(Mono(9)), Some((Mono(5), 2)));
        assert_eq!(agenda.take(Mono(9)), Some((Mono(7), 1)));
        assert_eq!((agenda.next(), agenda.take(Mono(9))), (None, None));
    }
}
