//! The metrics endpoint: the text of all families, and whether this replica is ready.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rap_runtime::TaskGroup;
use rap_runtime::metrics::Exposition;
use rap_types::Reason;
use tokio::net::TcpListener;

use crate::replica::Replica;
use crate::watch::metrics::{
    ALARMS, AUDIT_ENTRIES, AUDIT_STOPPED, AUDIT_UNCOVERED, AUDIT_UNSEQUENCED, CHECKPOINTS_SIGNED,
    CONTACTS_FAILED, CONTACTS_FAILING, DATABASE_UP, HEADS_SIGNED, INFO, Metrics, OF_CLUSTERS, REJECTED,
    UPDATES_SENT,
};

impl Metrics {
    fn text(&self, replica: &Replica, database_up: bool) -> String {
        let mut exposition = Exposition::new();
        exposition.write(&INFO, [([env!("CARGO_PKG_VERSION")], 1.0)]);
        exposition.write(&REJECTED, self.rejected.samples());
        exposition.write(&ALARMS, self.alarms.samples());
        exposition.write_one(&DATABASE_UP, f64::from(u8::from(database_up)));
        exposition.write_one(&HEADS_SIGNED, self.heads.load(Ordering::Relaxed) as f64);
        exposition.write_one(&UPDATES_SENT, self.updates.load(Ordering::Relaxed) as f64);
        exposition.write_one(&CHECKPOINTS_SIGNED, self.checkpoints.load(Ordering::Relaxed) as f64);
        exposition.write_one(&CONTACTS_FAILED, self.contacts_failed.load(Ordering::Relaxed) as f64);
        let failing = replica.serving.contacts.failing_for(replica.watch.clock.now().mono);
        exposition.write_one(&CONTACTS_FAILING, failing.as_secs_f64());
        let audit = replica.audit.status();
        exposition.write_one(&AUDIT_ENTRIES, audit.size as f64);
        exposition.write_one(&AUDIT_UNCOVERED, audit.size.saturating_sub(audit.checkpoint_size) as f64);
        exposition.write_one(&AUDIT_UNSEQUENCED, audit.unsequenced as f64);
        exposition.write_one(&AUDIT_STOPPED, f64::from(u8::from(audit.state != "ok")));
        let clusters: Vec<(String, [f64; 5])> = replica
            .serving
            .clusters
            .all()
            .iter()
            .map(|cluster| (cluster.id.to_string(), numbers(replica, cluster)))
            .collect();
        for (place, family) in OF_CLUSTERS.iter().enumerate() {
            exposition.write(family, clusters.iter().map(|(id, numbers)| ([id], numbers[place])));
        }
        exposition.into_text()
    }
}

/// In the order of [`OF_CLUSTERS`](crate::watch::metrics::OF_CLUSTERS).
fn numbers(replica: &Replica, cluster: &crate::serve::cluster::Cluster) -> [f64; 5] {
    let newest = cluster.feed.newest();
    let order = newest.as_ref().map(|published| published.order).unwrap_or_default();
    let issued = newest.map(|published| published.issued_at);
    let age = issued.map_or(0.0, |at| replica.watch.clock.now().wall.since(at).as_secs_f64());
    let acknowledged = replica.serving.sessions.acknowledged(cluster.id);
    let converged = acknowledged.values().copied().min().unwrap_or(0);
    [order.incarnation.0 as f64, order.version.0 as f64, age, converged as f64, acknowledged.len() as f64]
}

/// Serves them until the group is cancelled.
///
/// # Errors
/// None.
pub async fn serve_metrics(replica: Arc<Replica>, listener: TcpListener) -> std::io::Result<()> {
    let tasks: TaskGroup = replica.tasks.clone();
    let asked = replica.clone();
    let render = move || {
        let replica = replica.clone();
        async move {
            let up = ready(&replica).is_ok();
            replica.watch.metrics.text(&replica, up)
        }
    };
    let ready = move || {
        let replica = asked.clone();
        async move { ready(&replica) }
    };
    rap_rpc::serve_metrics(listener, tasks, render, ready).await
}

/// Without a database that it can write to a control plane can neither decide nor sign.
fn ready(replica: &Replica) -> Result<(), Reason> {
    replica.watch.readiness.check(replica.watch.clock.now().mono)
}
