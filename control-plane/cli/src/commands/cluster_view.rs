//! A cluster as it is shown: table rows and JSON.

use std::time::Duration;

use rap_types::{ClusterId, KeyId};
use rap_wire::v1;
use serde_json::{Value, json};

use crate::duration::show_duration;
use crate::output::{id_text, time};

/// Table form of a cluster.
pub(super) fn pairs(cluster: &v1::Cluster) -> Vec<(&'static str, String)> {
    let words = match cluster.authority_key.as_slice() {
        [] => "-".to_owned(),
        key => KeyId::of(key).words(),
    };
    let duration = |milliseconds| show_duration(Duration::from_millis(milliseconds));
    vec![
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
        ("ca rotation", ca_rotation(cluster)),
        ("created", time(cluster.created_at_ms)),
    ]
}

/// Stage of the rotation of the CA and how many nodes follow it; `-` without one.
pub(super) fn ca_rotation(cluster: &v1::Cluster) -> String {
    cluster.ca_rotation.as_ref().map_or_else(
        || "-".to_owned(),
        |rotation| format!("{}: {} of {} nodes", rotation.stage, rotation.confirmed, rotation.members),
    )
}

/// `served`, or the reason why not.
pub(super) fn state(cluster: &v1::Cluster) -> String {
    if cluster.refused.is_empty() { "served" } else { &cluster.refused }.to_owned()
}

/// JSON form of a cluster.
pub(super) fn document(cluster: &v1::Cluster) -> Value {
    let authority = KeyId::of(&cluster.authority_key);
    let authority = json!({
        "fingerprint": authority, "words": authority.words(), "public_key": hex::encode(&cluster.authority_key),
    });
    let rotation = cluster.ca_rotation.as_ref().map(|rotation| {
        json!({ "stage": rotation.stage, "members": rotation.members, "confirmed": rotation.confirmed })
    });
    json!({
        "name": cluster.name, "cluster_id": id(cluster),
        "authority": if cluster.authority_key.is_empty() { Value::Null } else { authority },
        "refused": cluster.refused, "ca_rotation": rotation,
        "ipv4_pool": cluster.ipv4_pool, "ipv6_prefix": cluster.ipv6_prefix,
        "incarnation": cluster.incarnation, "version": cluster.version,
        "fresh_for_ms": cluster.fresh_for_ms, "refresh_every_ms": cluster.refresh_every_ms,
        "degraded_for_ms": cluster.degraded_for_ms, "leaf_lifetime_ms": cluster.leaf_lifetime_ms,
        "created_at_ms": cluster.created_at_ms,
    })
}

/// Fingerprint of the authority; `none` before there is one.
pub(super) fn authority(cluster: &v1::Cluster) -> String {
    match cluster.authority_key.as_slice() {
        [] => "none".to_owned(),
        key => KeyId::of(key).to_string(),
    }
}

pub(super) fn id(cluster: &v1::Cluster) -> String {
    id_text(ClusterId::from_slice(&cluster.cluster_id))
}
