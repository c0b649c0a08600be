//! Overview.

use rap_types::{ClusterId, InstallationId, KeyId};
use rap_wire::v1;
use serde_json::{Value, json};

use super::cluster_view;
use crate::args::Global;
use crate::client::{Connection, ask};
use crate::output::{Answer, clean, complain, print, time};

pub(crate) async fn run(global: &Global) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let status = ask!(connection.admin.status(v1::StatusRequest {}));
    let installation = status.installation.clone().unwrap_or_default();
    let id = InstallationId::from_slice(&installation.installation_id).map(|id| id.to_string());
    let clusters: Vec<Value> = status
        .clusters
        .iter()
        .map(|entry| {
            json!({
                "cluster": cluster_view::document(&entry.cluster.clone().unwrap_or_default()),
                "nodes_active": entry.nodes_active, "nodes_connected": entry.nodes_connected,
                "requests_pending": entry.requests_pending, "converged_version": entry.converged_version,
            })
        })
        .collect();
    let alarms: Vec<Value> = status
        .alarms
        .iter()
        .map(|alarm| {
            let cluster = ClusterId::from_slice(&alarm.cluster_id).map(|id| id.to_string());
            json!({
                "cluster_id": cluster.ok(), "reason": alarm.reason, "what": alarm.what,
                "since_ms": alarm.since_ms,
            })
        })
        .collect();
    let audit = status.audit.clone().unwrap_or_default();
    let body = json!({
        "installation": {
            "installation_id": id.clone().unwrap_or_default(), "mode": installation.mode,
            "state": installation.state, "version": installation.version,
            "authority": KeyId::of(&installation.installation_authority_key),
        },
        "database": status.database, "server_time_ms": status.server_time_ms, "clusters": clusters,
        "alarms": alarms,
        "audit": {
            "state": audit.state, "reason": audit.reason, "what": audit.what, "generation": audit.generation,
            "size": audit.size, "checkpoint_size": audit.checkpoint_size, "unsequenced": audit.unsequenced,
            "sequencer": audit.sequencer,
        },
    });
    if !global.format().is_document() {
        print(&format!(
            "installation {} {} ({}), control plane {}, database {}, {}\naudit log {}\n\n",
            id.unwrap_or_default(),
            clean(&installation.state),
            clean(&installation.mode),
            clean(&installation.version),
            clean(&status.database),
            time(status.server_time_ms),
            audit_line(&audit)
        ))?;
        for alarm in &status.alarms {
            print(&format!(
                "ALARM {} since {}: {}\n",
                clean(&alarm.reason),
                time(alarm.since_ms),
                clean(&alarm.what)
            ))?;
        }
    }
    let rows = status.clusters.iter().map(|entry| {
        let cluster = entry.cluster.clone().unwrap_or_default();
        let ca_rotation = cluster_view::ca_rotation(&cluster);
        let converged = converged(&cluster, entry.converged_version);
        [
            cluster.name,
            format!("{}/{}", entry.nodes_connected, entry.nodes_active),
            entry.requests_pending.to_string(),
            format!("{}.{}", cluster.incarnation, cluster.version),
            converged,
            ca_rotation,
        ]
    });
    if installation.version != env!("CARGO_PKG_VERSION") && !global.quiet {
        let (own, other) = (env!("CARGO_PKG_VERSION"), clean(&installation.version));
        complain(&format!("warning: rapctl is {own}, the control plane {other}: use the same release"));
    }
    Answer::new("rap.installation-status.v1", body)
        .table(["CLUSTER", "CONNECTED", "PENDING", "VERSION", "CONVERGED", "CA ROTATION"], 0, rows)
        .print(global)
}

/// The newest version that every connected node holds, as VERSION is written; `-` if there is none.
fn converged(cluster: &v1::Cluster, version: u64) -> String {
    if version == 0 { "-".to_owned() } else { format!("{}.{version}", cluster.incarnation) }
}

fn audit_line(audit: &v1::AuditStatus) -> String {
    let counts = format!(
        "{} entries, {} under a signed checkpoint, {} without a place",
        audit.size, audit.checkpoint_size, audit.unsequenced
    );
    match audit.reason.as_str() {
        "" => format!("{}: {counts}", clean(&audit.state)),
        reason => format!(
            "STOPPED ({}): {}; {counts}; see: rapctl explain {}",
            clean(reason),
            clean(&audit.what),
            clean(reason)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_node_holds_is_written_as_the_version_is() {
        let cluster = v1::Cluster { incarnation: 1_796_095_127, version: 5, ..Default::default() };
        assert_eq!(converged(&cluster, 4), "1796095127.4");
        assert_eq!(converged(&cluster, 0), "-");
    }
}
