//! Raises alarms: something was found that must not be there, and an operator has to look.
//!
//! Owns the count, the log line and the audit row of an alarm. Refuses to own what is done about it.

use rap_authority::ids;
use rap_store::{RowName, audit_insert};
use rap_types::{Reason, RequestId};

use crate::database::audit_row::audit_row;
use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;

impl Replica {
    /// Counts and logs an alarm: something was found that must not be, and an operator has to look.
    pub fn alarm(&self, reason: Reason, what: &str) {
        self.metrics.alarmed(reason);
        tracing::error!(alarm = true, %reason, "{what}");
    }
}

/// Counts a finding about `object`; logs and audits it unless it was told a moment ago.
pub async fn alarm_about(control: &Replica, reason: Reason, object: &str, what: &str) {
    let now = control.clock.now();
    if !control.findings.is_news(reason, object, now.mono) {
        control.metrics.alarmed(reason);
        return;
    }
    control.alarm(reason, &format!("{object}: {what}"));
    let call = RequestId::from_parts(ids::millis(now.wall), ids::random(&mut rand::rng()));
    let text = format!("{reason}: {what}");
    let entry = audit_row("system", "alarm.raise", object.to_owned(), None, None, &text, call);
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        audit_insert(connection, &control.pen, &entry).await.map(drop).map_err(Failure::from)
    });
    if let Err(failure) = done {
        tracing::error!(reason = %failure.reason, "an alarm could not be audited: {}", failure.message);
    }
}

/// An alarm for each row that a list found not to be as it was written.
pub async fn alarm_about_rows(control: &Replica, tampered: &[RowName]) {
    for row in tampered {
        let object = format!("{}/{}", row.table, row.key);
        alarm_about(control, Reason::RowTampered, &object, "not as this installation wrote it").await;
    }
}

pub(crate) fn alarm_of_cluster(control: &Replica, cluster: &Cluster, reason: Reason, text: &str) {
    control.metrics.alarmed(reason);
    tracing::error!(alarm = true, %reason, cluster = %cluster.id, "{text}");
}
