//! How often a refused act of an operator is written to the audit log: ten times a minute for one operator and code, then
//! once with the number of the others.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rap_types::{Mono, Reason};

/// The refusals of the last minute.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<(String, Reason), Minute>>);

#[derive(Debug)]
struct Minute {
    began: Mono,
    written: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether a refusal is written; the number is of those before it that were not.
    pub(crate) fn note(&self, actor: &str, reason: Reason, now: Mono) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, minute| now.since(minute.began) < MINUTE || minute.left_out > 0);
        if all.len() >= OPERATORS && !all.contains_key(&(actor.to_owned(), reason)) {
            return None;
        }
        let fresh = || Minute { began: now, written: 0, left_out: 0 };
        let minute = all.entry((actor.to_owned(), reason)).or_insert_with(fresh);
        let mut left_out = 0;
        if now.since(minute.began) >= MINUTE {
            left_out = minute.left_out;
            *minute = fresh();
        }
        if minute.written >= MOST {
            minute.left_out += 1;
            return None;
        }
        minute.written += 1;
        Some(left_out)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

const MOST: u32 = 10;

/// Operators and codes at one time.
const OPERATORS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_minute_are_written_and_the_next_one_says_how_many_were_not() {
        let refusals = Refusals::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let noted = (0..25).filter(|_| refusals.note("ann", Reason::GrantMissing, at(1)).is_some()).count();
        assert_eq!(noted, 10);
        assert_eq!(refusals.note("ann", Reason::RequestInvalid, at(1)), Some(0));
        assert_eq!(refusals.note("bob", Reason::GrantMissing, at(1)), Some(0));
        assert_eq!(refusals.note("ann", Reason::GrantMissing, at(60)), None);
        assert_eq!(refusals.note("ann", Reason::GrantMissing, at(61)), Some(16));
        assert_eq!(refusals.note("ann", Reason::GrantMissing, at(62)), Some(0));
    }
}
