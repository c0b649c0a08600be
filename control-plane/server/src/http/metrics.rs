//! The numbers of this process: what was refused, what raised an alarm, what is published, who is connected.
//!
//! Owns the families and their values. The text form and the endpoint are the runtime's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rap_runtime::TaskGroup;
use rap_runtime::metrics::{Exposition, Family, Kind};
use rap_types::Reason;
use tokio::net::TcpListener;

use crate::control::Control;

/// Counters of this process.
#[derive(Debug, Default)]
pub struct Metrics {
    rejected: Counts,
    alarms: Counts,
    heads: AtomicU64,
    updates: AtomicU64,
    checkpoints: AtomicU64,
    contacts_failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<Reason, u64>>);

impl Counts {
    fn add(&self, reason: Reason) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    fn of(&self, reason: Reason) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&reason).copied().unwrap_or(0)
    }

    fn samples(&self) -> Vec<([&'static str; 1], f64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(reason, count)| ([reason.code()], *count as f64)).collect()
    }
}

impl Metrics {
    /// A connection, a call, a stream or a snapshot was refused.
    pub fn rejected(&self, reason: Reason) {
        self.rejected.add(reason);
    }

    /// Something happened that a person must look at. The caller logs it with `alarm = true`.
    pub fn alarmed(&self, reason: Reason) {
        self.alarms.add(reason);
    }

    /// How many alarms of this reason there were.
    pub fn alarms(&self, reason: Reason) -> u64 {
        self.alarms.of(reason)
    }

    /// A head was signed and stored.
    pub fn head_signed(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
    }

    /// A checkpoint of the audit log was signed and stored.
    pub fn checkpoint_signed(&self) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    /// What is known of nodes' contacts could not be written.
    pub fn contacts_failed(&self) {
        self.contacts_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A snapshot update was sent to a node.
    pub fn update_sent(&self) {
        self.updates.fetch_add(1, Ordering::Relaxed);
    }

    fn text(&self, control: &Control, database_up: bool) -> String {
        let mut exposition = Exposition::new();
        exposition.write(&INFO, [([env!("CARGO_PKG_VERSION")], 1.0)]);
        exposition.write(&REJECTED, self.rejected.samples());
        exposition.write(&ALARMS, self.alarms.samples());
        exposition.write_one(&DATABASE_UP, f64::from(u8::from(database_up)));
        exposition.write_one(&HEADS_SIGNED, self.heads.load(Ordering::Relaxed) as f64);
        exposition.write_one(&UPDATES_SENT, self.updates.load(Ordering::Relaxed) as f64);
        exposition.write_one(&CHECKPOINTS_SIGNED, self.checkpoints.load(Ordering::Relaxed) as f64);
        exposition.write_one(&CONTACTS_FAILED, self.contacts_failed.load(Ordering::Relaxed) as f64);
        let failing = control.contacts.failing_for(control.clock.now().mono);
        exposition.write_one(&CONTACTS_FAILING, failing.as_secs_f64());
        let audit = control.audit.status();
        exposition.write_one(&AUDIT_ENTRIES, audit.size as f64);
        exposition.write_one(&AUDIT_UNCOVERED, audit.size.saturating_sub(audit.checkpoint_size) as f64);
        exposition.write_one(&AUDIT_UNSEQUENCED, audit.unsequenced as f64);
        exposition.write_one(&AUDIT_STOPPED, f64::from(u8::from(audit.state != "ok")));
        let clusters: Vec<(String, [f64; 5])> = control
            .clusters
            .all()
            .iter()
            .map(|cluster| (cluster.id.to_string(), numbers(control, cluster)))
            .collect();
        for (place, family) in OF_CLUSTERS.iter().enumerate() {
            exposition.write(family, clusters.iter().map(|(id, numbers)| ([id], numbers[place])));
        }
        exposition.into_text()
    }
}

/// In the order of [`OF_CLUSTERS`].
fn numbers(control: &Control, cluster: &crate::clusters::Cluster) -> [f64; 5] {
    let newest = cluster.feed.newest();
    let order = newest.as_ref().map(|published| published.order).unwrap_or_default();
    let issued = newest.map(|published| published.issued_at);
    let age = issued.map_or(0.0, |at| control.clock.now().wall.since(at).as_secs_f64());
    let acknowledged = control.sessions.acknowledged(cluster.id);
    let converged = acknowledged.values().copied().min().unwrap_or(0);
    [order.incarnation.0 as f64, order.version.0 as f64, age, converged as f64, acknowledged.len() as f64]
}

/// Serves them until the group is cancelled.
///
/// # Errors
/// None.
pub async fn serve_metrics(control: Arc<Control>, listener: TcpListener) -> std::io::Result<()> {
    let tasks: TaskGroup = control.tasks.clone();
    let asked = control.clone();
    let render = move || {
        let control = control.clone();
        async move {
            let up = ready(&control).await.is_ok();
            control.metrics.text(&control, up)
        }
    };
    let ready = move || {
        let control = asked.clone();
        async move { ready(&control).await }
    };
    rap_rpc::serve_metrics(listener, tasks, render, ready).await
}

/// Without its database a control plane can neither decide nor sign.
async fn ready(control: &Control) -> Result<(), Reason> {
    match tokio::time::timeout(DATABASE_DEADLINE, control.store.system().check()).await {
        Ok(answered) => answered.map_err(|error| error.reason()),
        Err(_) => Err(Reason::StoreUnavailable),
    }
}

const DATABASE_DEADLINE: Duration = Duration::from_secs(1);

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, unit: "1", labels, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, unit: "1", labels: &[], help }
}

const fn of_cluster(name: &'static str, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, unit, labels: &["cluster"], help }
}

const INFO: Family = Family {
    name: "rap_control_info",
    kind: Kind::Gauge,
    unit: "1",
    labels: &["version"],
    help: "Always 1; the label names the version.",
};
const REJECTED: Family = counter("rap_control_rejected_total", &["reason"], "Refusals by reason code.");
const ALARMS: Family = counter("rap_control_alarms_total", &["reason"], "Alarms by reason code.");
const DATABASE_UP: Family = Family {
    name: "rap_control_database_up",
    kind: Kind::Gauge,
    unit: "1",
    labels: &[],
    help: "1 if the database answers within a second.",
};
const HEADS_SIGNED: Family =
    counter("rap_control_heads_signed_total", &[], "Cluster heads signed and stored by this replica.");
const UPDATES_SENT: Family =
    counter("rap_control_updates_sent_total", &[], "Snapshot updates sent to nodes.");
const CHECKPOINTS_SIGNED: Family = counter(
    "rap_control_audit_checkpoints_total",
    &[],
    "Audit checkpoints signed and stored by this replica.",
);
const CONTACTS_FAILED: Family = counter(
    "rap_control_contact_writes_failed_total",
    &[],
    "Times that contacts of nodes could not be written; they wait.",
);
const CONTACTS_FAILING: Family = Family {
    name: "rap_control_contacts_failing_seconds",
    kind: Kind::Gauge,
    unit: "seconds",
    labels: &[],
    help: "For how long no contact could be written; 0 while they can.",
};
const AUDIT_ENTRIES: Family = gauge("rap_control_audit_entries", "Audit entries with a place in the tree.");
const AUDIT_UNCOVERED: Family =
    gauge("rap_control_audit_uncovered", "Audit entries with a place that no checkpoint covers yet.");
const AUDIT_UNSEQUENCED: Family =
    gauge("rap_control_audit_unsequenced", "Committed audit entries without a place yet.");
const AUDIT_STOPPED: Family =
    gauge("rap_control_audit_stopped", "1 while nothing is signed because something was found.");
const OF_CLUSTERS: [Family; 5] = [
    of_cluster("rap_control_cluster_incarnation", "1", "Incarnation being served."),
    of_cluster("rap_control_cluster_version", "1", "Version being served."),
    of_cluster(
        "rap_control_cluster_head_age_seconds",
        "seconds",
        "Time since the head being served was signed.",
    ),
    of_cluster("rap_control_cluster_converged_version", "1", "Lowest version a connected node holds."),
    of_cluster("rap_control_nodes_connected", "1", "Nodes with a stream to this replica."),
];

/// Everything that the endpoint exposes.
pub const FAMILIES: [Family; 18] = [
    INFO,
    REJECTED,
    ALARMS,
    DATABASE_UP,
    HEADS_SIGNED,
    UPDATES_SENT,
    CHECKPOINTS_SIGNED,
    CONTACTS_FAILED,
    CONTACTS_FAILING,
    AUDIT_ENTRIES,
    AUDIT_UNCOVERED,
    AUDIT_UNSEQUENCED,
    AUDIT_STOPPED,
    OF_CLUSTERS[0],
    OF_CLUSTERS[1],
    OF_CLUSTERS[2],
    OF_CLUSTERS[3],
    OF_CLUSTERS[4],
];
