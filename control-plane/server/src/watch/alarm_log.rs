//! When each alarm was written to the log and the audit log.
//!
//! Owns how often one finding is told: at most once a minute. Refuses to own who raises it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rap_types::{Mono, Reason};

/// When each finding was told last.
#[derive(Debug, Default)]
pub struct Findings(Mutex<BTreeMap<(Reason, String), Mono>>);

impl Findings {
    /// True if this finding is to be told now; then it is not for a minute.
    pub(crate) fn is_news(&self, reason: Reason, object: &str, now: Mono) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.since(*at) < AGAIN);
        let finding = (reason, object.to_owned());
        let alike = told.keys().filter(|(told, _)| *told == reason).count();
        if told.contains_key(&finding) || alike >= FINDINGS {
            return false;
        }
        told.insert(finding, now);
        true
    }
}

const AGAIN: Duration = Duration::from_secs(60);

/// Of one reason: whoever plants rows crowds out nothing that is found for another one.
const FINDINGS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_finding_is_told_once_a_minute_and_their_number_is_bounded() {
        let findings = Findings::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        assert!(findings.is_news(Reason::RowTampered, "operators/ann", at(0)));
        assert!(!findings.is_news(Reason::RowTampered, "operators/ann", at(59)));
        assert!(findings.is_news(Reason::RowTampered, "operators/bob", at(59)));
        assert!(findings.is_news(Reason::FloorRollback, "operators/ann", at(59)));
        assert!(findings.is_news(Reason::RowTampered, "operators/ann", at(60)));
        let news =
            (0..2 * FINDINGS).filter(|n| findings.is_news(Reason::RowTampered, &n.to_string(), at(61)));
        assert!(news.count() < FINDINGS);
        assert!(findings.is_news(Reason::FloorEquivocation, "operators/ann", at(61)));
    }
}
