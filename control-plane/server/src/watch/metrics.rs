//! The counters of this process, and the families of the metrics endpoint.
//!
//! Refuses to own how they are served (`http/endpoint`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rap_runtime::metrics::{Family, Kind};
use rap_types::Reason;

/// Counters of this process.
#[derive(Debug, Default)]
pub struct Metrics {
    pub(crate) rejected: Counts,
    pub(crate) alarms: Counts,
    pub(crate) heads: AtomicU64,
    pub(crate) updates: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) contacts_failed: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<Reason, u64>>);

impl Counts {
    fn add(&self, reason: Reason) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    fn of(&self, reason: Reason) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&reason).copied().unwrap_or(0)
    }

    pub(crate) fn samples(&self) -> Vec<([&'static str; 1], f64)> {
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
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, unit: "1", labels, help }
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, unit, labels: &[], help }
}

const fn of_cluster(name: &'static str, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, unit, labels: &["cluster"], help }
}

/// Declares the families of one sample, and lists them and those of clusters.
macro_rules! families {
    ($($name:ident = $family:expr;)+) => {
        $(pub(crate) const $name: Family = $family;)+

        /// Everything that the endpoint exposes.
        pub const FAMILIES: [Family; 18] =
            [$($name,)+ OF_CLUSTERS[0], OF_CLUSTERS[1], OF_CLUSTERS[2], OF_CLUSTERS[3], OF_CLUSTERS[4]];
    };
}

families! {
    INFO = Family {
        name: "rap_control_info",
        kind: Kind::Gauge,
        unit: "1",
        labels: &["version"],
        help: "Always 1; the label names the version.",
    };
    REJECTED = counter("rap_control_rejected_total", &["reason"], "Refusals by reason code.");
    ALARMS = counter("rap_control_alarms_total", &["reason"], "Alarms by reason code.");
    DATABASE_UP = gauge(
        "rap_control_database_up",
        "1",
        "1 if a new connection wrote to the database within the last 10 s.",
    );
    HEADS_SIGNED = counter(
        "rap_control_heads_signed_total",
        &[],
        "Cluster heads signed and stored by this replica.",
    );
    UPDATES_SENT = counter("rap_control_updates_sent_total", &[], "Snapshot updates sent to nodes.");
    CHECKPOINTS_SIGNED = counter(
        "rap_control_audit_checkpoints_total",
        &[],
        "Audit checkpoints signed and stored by this replica.",
    );
    CONTACTS_FAILED = counter(
        "rap_control_contact_writes_failed_total",
        &[],
        "Times that contacts of nodes could not be written; they wait.",
    );
    CONTACTS_FAILING = gauge(
        "rap_control_contacts_failing_seconds",
        "seconds",
        "For how long no contact could be written; 0 while they can.",
    );
    AUDIT_ENTRIES = gauge("rap_control_audit_entries", "1", "Audit entries with a place in the tree.");
    AUDIT_UNCOVERED = gauge(
        "rap_control_audit_uncovered",
        "1",
        "Audit entries with a place that no checkpoint covers yet.",
    );
    AUDIT_UNSEQUENCED = gauge(
        "rap_control_audit_unsequenced",
        "1",
        "Committed audit entries without a place yet.",
    );
    AUDIT_STOPPED = gauge(
        "rap_control_audit_stopped",
        "1",
        "1 while nothing is signed because something was found.",
    );
}

pub(crate) const OF_CLUSTERS: [Family; 5] = [
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
