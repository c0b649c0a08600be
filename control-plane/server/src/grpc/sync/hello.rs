//! The first message of a node: versions, features, and the newest head it verified.

use rap_contract::FEATURE_DEV;
use rap_store::cluster_read;
use rap_types::{Digest, HeadOrder, Incarnation, Reason, Version};
use rap_wire::v1;

use crate::acts::raise_incarnation::raise_incarnation;
use crate::failure::Failure;
use crate::grpc::sync::member::Member;
use crate::publish::head::open_head;
use crate::replica::Replica;

/// Version of the sync protocol this control plane speaks.
pub const PROTOCOL: u32 = 1;

/// As a hello says it.
pub fn order_of(order: HeadOrder) -> v1::HeadOrder {
    let HeadOrder { incarnation, version, refresh } = order;
    v1::HeadOrder { incarnation: incarnation.0, version: version.0, refresh: refresh.0 }
}

/// Checks a hello; returns the leaf the node holds, if it holds a snapshot.
pub async fn check(
    replica: &Replica,
    member: &Member,
    hello: &v1::NodeHello,
) -> Result<Option<Digest>, Failure> {
    if hello.protocol_min > PROTOCOL || hello.protocol_max < PROTOCOL {
        return Err(Failure::new(Reason::RequestInvalid, "no common version of the sync protocol"));
    }
    if replica.keys.installation.facts.dev && !hello.features.iter().any(|feature| feature == FEATURE_DEV) {
        return Err(Failure::new(Reason::AuthorityDevRefused, "the agent was not started in dev mode"));
    }
    let version = &hello.agent_version;
    if hello.features.len() > 64 || version.len() > 64 || version.chars().any(char::is_control) {
        return Err(Failure::new(Reason::RequestInvalid, "features or agent_version"));
    }
    if !hello.newest_head.is_empty() {
        compare(replica, member, &hello.newest_head).await?;
    }
    match hello.leaf_hash.as_slice() {
        [] => Ok(None),
        bytes => Ok(Some(Digest::from_slice(bytes)?)),
    }
}

/// A valid head of ours above our database means that the database went back in time: nothing more is
/// signed in this incarnation.
pub async fn compare(replica: &Replica, member: &Member, head: &[u8]) -> Result<(), Failure> {
    let Some(cluster) = replica.serving.clusters.by_id(member.cluster.id) else { return Ok(()) };
    let cluster = &*cluster;
    let Ok((_, facts)) = open_head(&replica.keys, cluster, head) else {
        tracing::warn!(node = %member.leaf.identity.node, "a node shows a head that does not verify");
        return Ok(());
    };
    let mut transaction = replica.database.store.system().begin().await?;
    let Some(row) = cluster_read(&mut transaction, &cluster.rows).await? else { return Ok(()) };
    drop(transaction);
    let stored = (Incarnation(row.cluster.incarnation), Version(row.config_seq));
    if facts.order.durable() > stored {
        replica.watch.metrics.alarmed(Reason::FloorRollback);
        tracing::error!(
            alarm = true, reason = %Reason::FloorRollback, cluster = %cluster.id, node = %member.leaf.identity.node, shown = %facts.order,
            "a node holds a signed head above the database: the database went back in time"
        );
        raise_incarnation(&replica.serving, cluster, facts.order.incarnation).await?;
    }
    Ok(())
}
