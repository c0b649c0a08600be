//! Raises alarms: something was found that must not be there, and an operator has to look.
//!
//! Owns the count, the log line and the audit row of an alarm. Refuses to own what is done about it.

use rap_authority::ids;
use rap_store::{RowName, audit_insert};
use rap_types::{ClusterId, Reason, RequestId};

use crate::database::audit_row::audit_row;
use crate::failure::Failure;
use crate::watch::handle::Watch;

impl Watch {
    /// Counts and logs an alarm: something was found that must not be, and an operator has to look.
    pub fn alarm(&self, reason: Reason, what: &str) {
        self.metrics.alarmed(reason);
        tracing::error!(alarm = true, %reason, "{what}");
    }
}

/// Counts a finding about `object`; logs and audits it unless it was told a moment ago.
pub async fn alarm_about(watch: &Watch, reason: Reason, object: &str, what: &str) {
    let now = watch.clock.now();
    if !watch.findings.is_news(reason, object, now.mono) {
        watch.metrics.alarmed(reason);
        return;
    }
    watch.alarm(reason, &format!("{object}: {what}"));
    let call = RequestId::from_parts(ids::millis(now.wall), ids::random(&mut rand::rng()));
    let text = format!("{reason}: {what}");
    let entry = audit_row("system", "alarm.raise", object.to_owned(), None, None, &text, call);
    let done: Result<(), Failure> = rap_store::transact!(watch.database.store.system(), |connection| {
        audit_insert(connection, &watch.keys.pen, &entry).await.map(drop).map_err(Failure::from)
    });
    if let Err(failure) = done {
        tracing::error!(reason = %failure.reason, "an alarm could not be audited: {}", failure.message);
    }
}

/// An alarm for each row that a list found not to be as it was written.
pub async fn alarm_about_rows(watch: &Watch, tampered: &[RowName]) {
    for row in tampered {
        let object = format!("{}/{}", row.table, row.key);
        alarm_about(watch, Reason::RowTampered, &object, "not as this installation wrote it").await;
    }
}

pub(crate) fn alarm_of_cluster(watch: &Watch, cluster: ClusterId, reason: Reason, text: &str) {
    watch.metrics.alarmed(reason);
    tracing::error!(alarm = true, %reason, %cluster, "{text}");
}
