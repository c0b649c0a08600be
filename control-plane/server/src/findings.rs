//! Alarms that are also audited: something was found in the database that must not be there.
//!
//! Owns how often one finding is told: every time to the counter, at most once a minute to the log and
//! the audit log. Refuses to own what is done about it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rap_authority::ids;
use rap_store::{RowName, audit_insert};
use rap_types::{Mono, Reason, RequestId};

use crate::control::Control;
use crate::grpc::{Failure, audit};

/// When each finding was told last.
#[derive(Debug, Default)]
pub struct Findings(Mutex<BTreeMap<(Reason, String), Mono>>);

impl Findings {
    /// True if this finding is to be told now; then it is not for a minute.
    fn is_news(&self, reason: Reason, object: &str, now: Mono) -> bool {
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

/// Counts a finding about `object`; logs and audits it unless it was told a moment ago.
pub async fn alarm_about(control: &Control, reason: Reason, object: &str, what: &str) {
    let now = control.clock.now();
    if !control.findings.is_news(reason, object, now.mono) {
        control.metrics.alarmed(reason);
        return;
    }
    control.alarm(reason, &format!("{object}: {what}"));
    let call = RequestId::from_parts(ids::millis(now.wall), ids::random(&mut rand::rng()));
    let text = format!("{reason}: {what}");
    let entry = audit("system", "alarm.raise", object.to_owned(), None, None, &text, call);
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        audit_insert(connection, &control.pen, &entry).await.map(drop).map_err(Failure::from)
    });
    if let Err(failure) = done {
        tracing::error!(reason = %failure.reason, "an alarm could not be audited: {}", failure.message);
    }
}

/// An alarm for each row that a list found not to be as it was written.
pub async fn alarm_about_rows(control: &Control, tampered: &[RowName]) {
    for row in tampered {
        let object = format!("{}/{}", row.table, row.key);
        alarm_about(control, Reason::RowTampered, &object, "not as this installation wrote it").await;
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
