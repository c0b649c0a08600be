//! Raises alarms: something was found that must not be there, and an operator has to look.
//!
//! Owns the count, the log line and the audit row of an alarm. Refuses to own what is done about it.

use rap_store::{RowName, identity_doubt};
use rap_types::reason::RpcStatus;
use rap_types::{ClusterId, NodeId, Reason};

use crate::database::change::{Acting, Change};
use crate::database::handle::transact;
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
pub(crate) async fn alarm_about(watch: &Watch, reason: Reason, object: &str, what: &str) {
    let now = watch.clock.now();
    if !watch.findings.is_news(reason, object, now.mono) {
        watch.metrics.alarmed(reason);
        return;
    }
    watch.alarm(reason, &format!("{object}: {what}"));
    let acting = Acting::alone("system", watch.keys.pen.clone(), now.wall);
    let change = Change::of("alarm.raise", object).because(format!("{reason}: {what}"));
    let done =
        transact!(watch.database.store, |connection| Ok(change.clone().record(connection, &acting).await?));
    if let Err(failure) = done {
        tracing::error!(reason = %failure.reason, "an alarm could not be audited: {}", failure.message);
    }
}

/// Writes the refusal of an operator's act to the audit log, unless there were many of this code lately.
pub(crate) async fn tell_refusal(watch: &Watch, acting: &Acting, method: &str, failure: &Failure) {
    if NO_REFUSALS.contains(&failure.reason.row().rpc) {
        return;
    }
    let Some(left_out) = watch.refusals.note(&acting.actor, failure.reason, watch.clock.now().mono) else {
        return;
    };
    let others = if left_out > 0 { format!(" ({left_out} others were not written)") } else { String::new() };
    let change =
        Change::of("act.refuse", method).because(format!("{}: {}{others}", failure.reason, failure.message));
    let done =
        transact!(watch.database.store, |connection| Ok(change.clone().record(connection, acting).await?));
    if let Err(failure) = done {
        tracing::warn!(reason = %failure.reason, "a refusal could not be audited: {}", failure.message);
    }
}

/// What ends so was not judged.
const NO_REFUSALS: &[RpcStatus] = &[
    RpcStatus::Unavailable,
    RpcStatus::Aborted,
    RpcStatus::DeadlineExceeded,
    RpcStatus::Internal,
    RpcStatus::Unimplemented,
];

/// An alarm for each row that a list found not to be as it was written.
pub(crate) async fn alarm_about_rows(watch: &Watch, tampered: &[RowName]) {
    for row in tampered {
        let object = format!("{}/{}", row.table, row.key);
        alarm_about(watch, Reason::RowTampered, &object, "not as this installation wrote it").await;
    }
}

/// Records a doubt about the identity of a node under this key generation. An alarm, unless a replica recorded the same
/// within the last hour.
pub(crate) async fn alarm_about_identity(
    watch: &Watch,
    (node, key_generation): (NodeId, u64),
    reason: Reason,
    what: &str,
) {
    let recorded = transact!(watch.database.store, |connection| {
        Ok(identity_doubt(connection, node, key_generation, reason.code()).await?)
    });
    match recorded {
        Ok(false) => {}
        Ok(true) => alarm_about(watch, reason, &format!("node/{node}"), what).await,
        Err(failure) => watch.alarm(reason, &format!("node/{node}: not recorded: {}", failure.message)),
    }
}

pub(crate) fn alarm_of_cluster(watch: &Watch, cluster: ClusterId, reason: Reason, text: &str) {
    watch.metrics.alarmed(reason);
    tracing::error!(alarm = true, %reason, %cluster, "{text}");
}
