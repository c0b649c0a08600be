//! Clusters.

use rap_types::{ClusterId, Reason};
use rap_wire::v1;
use serde_json::json;

use super::cluster_view::{authority, document, id, pairs, state};
use super::{adoption, policy, rotate_ca};
use crate::args::{Cluster as Command, ClusterCreate, Global};
use crate::client::{Connection, ask};
use crate::commands::authority::imported_seed;
use crate::duration::milliseconds;
use crate::output::{Answer, all_hold, id_text};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    match command {
        Command::Create(new) => {
            let cluster = ask!(connection.admin.cluster_create(order(new)?));
            let hint = format!("rapctl token create --cluster {0} --out {0}.token", cluster.name);
            shown(&cluster, None).next(hint).print(global)
        }
        Command::Show { name } => {
            let cluster = connection.cluster(name).await?;
            let shown = ask!(connection.admin.cluster_show(v1::ClusterRef { cluster: cluster.clone() }));
            // A cluster that is not served has none that could be read.
            let policy = match shown.refused.is_empty() {
                true => Some(ask!(connection.membership.policy_show(v1::ClusterRef { cluster }))),
                false => None,
            };
            self::shown(&shown, policy.as_ref()).print(global)
        }
        Command::EnsureAuthority { name, reason, dry_run } => {
            let cluster = connection.cluster(name).await?;
            adoption::run(global, &mut connection, cluster, reason, dry_run).await
        }
        Command::Policy(wanted) => policy::run(global, &mut connection, wanted).await,
        Command::RotateDek { name, reason } => {
            let cluster = connection.cluster(name).await?;
            let request = v1::DataKeyRotateRequest { cluster, reason };
            rotated(&ask!(connection.authority.data_key_rotate(request))).print(global)
        }
        Command::Ca { name } => {
            let cluster = connection.cluster(name).await?;
            let request = v1::ClusterRef { cluster };
            rotate_ca::shown(&ask!(connection.authority.cluster_ca_show(request))).print(global)
        }
        Command::RotateCa { name, advance, abort, reason } => {
            let cluster = connection.cluster(name).await?;
            rotate_ca::run(global, &mut connection, cluster, (advance, abort), reason).await
        }
        Command::List => {
            let clusters = ask!(connection.admin.cluster_list(v1::ClusterListRequest {})).clusters;
            let rows = clusters.iter().map(|cluster| {
                [
                    cluster.name.clone(),
                    id(cluster),
                    cluster.ipv4_pool.clone(),
                    format!("{}.{}", cluster.incarnation, cluster.version),
                    authority(cluster),
                    state(cluster),
                ]
            });
            Answer::list("rap.clusters.v1", "clusters", &clusters, document)
                .table(["NAME", "ID", "IPV4 POOL", "VERSION", "AUTHORITY", "STATE"], 0, rows)
                .print(global)?;
            let tampered = clusters.iter().filter(|one| one.refused == Reason::RowTampered.code());
            all_hold(tampered.map(id))
        }
    }
}

fn order(new: ClusterCreate) -> anyhow::Result<v1::ClusterCreateRequest> {
    Ok(v1::ClusterCreateRequest {
        name: new.name,
        ipv4_pool: new.ipv4_pool,
        fresh_for_ms: new.fresh_for.map_or(0, milliseconds),
        degraded_for_ms: new.degraded_for.map_or(0, milliseconds),
        refresh_every_ms: new.refresh_every.map_or(0, milliseconds),
        leaf_lifetime_ms: new.leaf_lifetime.map_or(0, milliseconds),
        imported_authority_seed: imported_seed(new.import_key.as_deref(), &new.protect)?,
    })
}

fn rotated(answer: &v1::DataKeyRotateAnswer) -> Answer {
    let cluster = id_text(ClusterId::from_slice(&answer.cluster_id));
    let body = json!({
        "cluster_id": cluster, "version": answer.version, "replaced": answer.replaced,
        "resumed": answer.resumed, "secrets": answer.secrets, "rows": answer.rows,
    });
    let begun = if answer.resumed { "by an earlier call" } else { "by this call" };
    Answer::new("rap.data-key.v1", body).properties([
        ("data key", format!("version {}", answer.version)),
        ("removed", format!("version {}", answer.replaced)),
        ("begun", begun.to_owned()),
        ("secrets sealed anew", answer.secrets.to_string()),
        ("rows verified", answer.rows.to_string()),
    ])
}

fn shown(cluster: &v1::Cluster, policy: Option<&v1::MembershipPolicy>) -> Answer {
    let (mut body, mut rows) = (document(cluster), pairs(cluster));
    if let Some(policy) = policy {
        body["policy"] = policy::document(policy);
        rows.extend(policy::degraded_rows(policy));
    }
    Answer::new("rap.cluster.v1", body).properties(rows)
}
