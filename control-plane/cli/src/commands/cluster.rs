//! Clusters.

use std::time::Duration;

use rap_rpc::Refusal;
use rap_types::{ClusterId, KeyId, Reason};
use rap_wire::v1;
use serde_json::{Value, json};

use super::{adoption, membership};
use crate::args::{Cluster as Command, Global};
use crate::client::Connection;
use crate::commands::authority::PURPOSE;
use crate::duration::show_duration;
use crate::key_store;
use crate::output::{Answer, all_hold, properties, time};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    match command {
        Command::Create {
            name,
            ipv4_pool,
            fresh_for,
            refresh_every,
            degraded_for,
            leaf_lifetime,
            import_key,
            protect,
        } => {
            let imported_authority_seed = match import_key {
                Some(path) => key_store::open_for(&path, PURPOSE, &protect)?.seed().to_vec(),
                None => Vec::new(),
            };
            let request = connection.request(v1::ClusterCreateRequest {
                name,
                ipv4_pool,
                fresh_for_ms: milliseconds(fresh_for),
                degraded_for_ms: milliseconds(degraded_for),
                refresh_every_ms: milliseconds(refresh_every),
                leaf_lifetime_ms: milliseconds(leaf_lifetime),
                imported_authority_seed,
            })?;
            let cluster = connection.admin.cluster_create(request).await.map_err(Refusal::from)?.into_inner();
            let hint = format!("rapctl token create --cluster {} --out {}.token", cluster.name, cluster.name);
            shown(&cluster, None).next(hint).print(global)
        }
        Command::Show { cluster } => {
            let request = connection.request(v1::ClusterRef { cluster: cluster.clone() })?;
            let shown = connection.admin.cluster_show(request).await.map_err(Refusal::from)?.into_inner();
            let request = connection.request(v1::ClusterRef { cluster })?;
            // A cluster that is not served has none that could be read.
            let policy = if shown.refused.is_empty() {
                Some(connection.membership.policy_show(request).await.map_err(Refusal::from)?.into_inner())
            } else {
                None
            };
            self::shown(&shown, policy.as_ref()).print(global)
        }
        Command::EnsureAuthority { cluster, reason, dry_run } => {
            adoption::run(global, &mut connection, cluster, reason, dry_run).await
        }
        Command::Policy {
            cluster,
            ephemeral_after,
            wireguard_key_max_age,
            identity_key_max_age,
            keep_ids,
            degraded,
            restore_missing,
        } => {
            let wanted = membership::Wanted {
                ephemeral_after,
                wireguard_key_max_age,
                identity_key_max_age,
                keep_ids,
                degraded,
                restore_missing,
            };
            membership::policy(global, &mut connection, cluster, wanted).await
        }
        Command::RotateDek { cluster, reason } => {
            let request = connection.request(v1::DataKeyRotateRequest { cluster, reason })?;
            let answer = connection.authority.data_key_rotate(request).await.map_err(Refusal::from)?;
            rotated(&answer.into_inner()).print(global)
        }
        Command::List => {
            let request = connection.request(v1::ClusterListRequest {})?;
            let clusters =
                connection.admin.cluster_list(request).await.map_err(Refusal::from)?.into_inner().clusters;
            let rows = clusters
                .iter()
                .map(|cluster| {
                    vec![
                        cluster.name.clone(),
                        id(cluster),
                        cluster.ipv4_pool.clone(),
                        format!("{}.{}", cluster.incarnation, cluster.version),
                        authority(cluster),
                        state(cluster),
                    ]
                })
                .collect();
            let documents: Vec<Value> = clusters.iter().map(document).collect();
            Answer::new("rap.clusters.v1", json!({ "clusters": documents }))
                .table(&["NAME", "ID", "IPV4 POOL", "VERSION", "AUTHORITY", "STATE"], 0, rows)
                .print(global)?;
            let tampered = clusters.iter().filter(|one| one.refused == Reason::RowTampered.code());
            all_hold(tampered.map(id))
        }
    }
}

fn rotated(answer: &v1::DataKeyRotateAnswer) -> Answer {
    let cluster = ClusterId::from_slice(&answer.cluster_id).map(|id| id.to_string()).unwrap_or_default();
    let body = json!({
        "cluster_id": cluster, "version": answer.version, "replaced": answer.replaced,
        "resumed": answer.resumed, "secrets": answer.secrets, "rows": answer.rows,
    });
    let begun = if answer.resumed { "by an earlier call" } else { "by this call" };
    Answer::new("rap.data-key.v1", body).table(
        &["PROPERTY", "VALUE"],
        0,
        properties(&[
            ("data key", format!("version {}", answer.version)),
            ("removed", format!("version {}", answer.replaced)),
            ("begun", begun.to_owned()),
            ("secrets sealed anew", answer.secrets.to_string()),
            ("rows verified", answer.rows.to_string()),
        ]),
    )
}

fn shown(cluster: &v1::Cluster, policy: Option<&v1::MembershipPolicy>) -> Answer {
    let (mut body, mut rows) = (document(cluster), pairs(cluster));
    if let Some(policy) = policy {
        body["policy"] = membership::document(policy);
        rows.extend(properties(&membership::degraded_rows(policy)));
    }
    Answer::new("rap.cluster.v1", body).table(&["PROPERTY", "VALUE"], 0, rows)
}

/// Table form of a cluster.
pub(super) fn pairs(cluster: &v1::Cluster) -> Vec<Vec<String>> {
    let words = match cluster.authority_key.as_slice() {
        [] => "-".to_owned(),
        key => KeyId::of(key).words(),
    };
    let duration = |milliseconds| show_duration(Duration::from_millis(milliseconds));
    properties(&[
        ("name", cluster.name.clone()),
        ("id", id(cluster)),
        ("state", state(cluster)),
        ("authority", authority(cluster)),
        ("words", words),
        ("ipv4 pool", cluster.ipv4_pool.clone()),
        ("ipv6 prefix", cluster.ipv6_prefix.clone()),
        ("version", format!("{}.{}", cluster.incarnation, cluster.version)),
        ("fresh for", duration(cluster.fresh_for_ms)),
        ("refresh every", duration(cluster.refresh_every_ms)),
        ("degraded for", duration(cluster.degraded_for_ms)),
        ("leaf lifetime", duration(cluster.leaf_lifetime_ms)),
        ("created", time(cluster.created_at_ms)),
    ])
}

/// `served`, or the reason why not.
fn state(cluster: &v1::Cluster) -> String {
    if cluster.refused.is_empty() { "served" } else { &cluster.refused }.to_owned()
}

/// JSON form of a cluster.
pub(crate) fn document(cluster: &v1::Cluster) -> Value {
    let authority = KeyId::of(&cluster.authority_key);
    let authority = json!({
        "fingerprint": authority, "words": authority.words(), "public_key": hex::encode(&cluster.authority_key),
    });
    json!({
        "name": cluster.name, "cluster_id": id(cluster),
        "authority": if cluster.authority_key.is_empty() { Value::Null } else { authority },
        "refused": cluster.refused,
        "ipv4_pool": cluster.ipv4_pool, "ipv6_prefix": cluster.ipv6_prefix,
        "incarnation": cluster.incarnation, "version": cluster.version,
        "fresh_for_ms": cluster.fresh_for_ms, "refresh_every_ms": cluster.refresh_every_ms,
        "degraded_for_ms": cluster.degraded_for_ms, "leaf_lifetime_ms": cluster.leaf_lifetime_ms,
        "created_at_ms": cluster.created_at_ms,
    })
}

/// Fingerprint of the authority; `none` before there is one.
fn authority(cluster: &v1::Cluster) -> String {
    match cluster.authority_key.as_slice() {
        [] => "none".to_owned(),
        key => KeyId::of(key).to_string(),
    }
}

fn id(cluster: &v1::Cluster) -> String {
    ClusterId::from_slice(&cluster.cluster_id).map(|id| id.to_string()).unwrap_or_default()
}

fn milliseconds(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
