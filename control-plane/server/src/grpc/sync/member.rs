//! The node behind a stream.

use std::sync::Arc;

use rap_store::{cluster_read, node_read};
use rap_types::{Reason, Version};

use crate::auth::call::Call;
use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;

/// A node that may have a stream.
#[derive(Debug)]
pub struct Member {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) leaf: rap_runtime::tls::ProvenNode,
    /// Configuration sequence at which it was seen to be a member.
    pub(crate) seen_at: Version,
}

/// Checks that the node behind the certificate is a member with this key generation now.
pub(crate) async fn admit(replica: &Replica, call: &Call) -> Result<Member, Failure> {
    let unknown = || Failure::new(Reason::NodeUnknown, "no such node in this cluster");
    let leaf = call.node().ok_or_else(|| Failure::new(Reason::ChannelWrong, "no node certificate"))?;
    let cluster = replica.serving.clusters.by_id(leaf.identity.cluster).ok_or_else(unknown)?;
    let known = cluster.revocations.known();
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let revocations = replica.serving.revocations(&mut transaction, &cluster, &known).await?.chain;
    let row = node_read(&mut transaction, &cluster.rows, leaf.identity.node).await?.ok_or_else(unknown)?;
    let seen_at = cluster_read(&mut transaction, &cluster.rows).await?.ok_or_else(unknown)?.config_seq;
    if row.node.cluster != cluster.id {
        return Err(unknown());
    }
    replica.serving.require_member(&row, &revocations)?;
    if row.key_generation != leaf.identity.key_generation {
        return Err(Failure::new(Reason::NodeRevoked, "the certificate is of a replaced key generation"));
    }
    Ok(Member { cluster, leaf, seen_at: Version(seen_at) })
}
