//! The node behind a stream.

use std::sync::Arc;

use rap_store::{IdentityRow, cluster_read, identity_read, node_read};
use rap_types::{Reason, Version};

use crate::auth::call::Call;
use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;
use crate::serve::identity_doubts::raise;

/// A node that may have a stream.
#[derive(Debug)]
pub struct Member {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) leaf: rap_runtime::tls::ProvenNode,
    /// Configuration sequence at which it was seen to be a member.
    pub(crate) seen_at: Version,
    /// Life of the cluster's database.
    incarnation: u64,
    /// As whom it was heard last under this key generation.
    identity: Option<IdentityRow>,
    /// Highest (incarnation, version) that it acknowledged under this key generation; zeros for none.
    held: (u64, u64),
}

impl Member {
    /// What is doubted about the node's identity.
    pub(crate) fn doubt(&self) -> Option<Reason> {
        Reason::from_code(&self.identity.as_ref()?.doubt)
    }

    /// True if the node holds less than it acknowledged under this key generation, and no restore of the control plane
    /// lies between.
    pub(crate) fn went_back(&self, floor: (u64, u64)) -> bool {
        self.held.0 == self.incarnation && floor < self.held
    }
}

/// Checks that the node behind the certificate is a member with this key generation now.
pub(crate) async fn admit(replica: &Replica, call: &Call) -> Result<Member, Failure> {
    let unknown = || Failure::new(Reason::NodeUnknown, "no such node in this cluster");
    let leaf = call.node().ok_or_else(|| Failure::new(Reason::ChannelWrong, "no node certificate"))?;
    let cluster = replica.serving.clusters.by_id(leaf.identity.cluster).ok_or_else(unknown)?;
    let known = cluster.revocations.known();
    // Before the database is read: what is written meanwhile is read there.
    let unwritten = replica.serving.contacts.held(leaf.identity.node, leaf.identity.key_generation);
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let revocations = replica.serving.revocations(&mut transaction, &cluster, &known).await?.chain;
    let row = node_read(&mut transaction, &cluster.rows, leaf.identity.node).await?.ok_or_else(unknown)?;
    let now = cluster_read(&mut transaction, &cluster.rows).await?.ok_or_else(unknown)?;
    let identity = identity_read(&mut transaction, leaf.identity.node).await?;
    if row.node.cluster != cluster.id {
        return Err(unknown());
    }
    replica.serving.require_member(&row, &revocations)?;
    if row.key_generation < leaf.identity.key_generation {
        // The cluster's CA signed it, so the node had it: the database is older than the rotation.
        let of = (leaf.identity.node, row.key_generation);
        drop(transaction);
        raise(&replica.serving, cluster.id, of, Reason::NodeKeyNewer).await;
        return Err(Failure::new(Reason::NodeKeyNewer, "the database is older than the node's key"));
    }
    if row.key_generation > leaf.identity.key_generation {
        return Err(Failure::new(Reason::NodeRevoked, "the certificate is of a replaced key generation"));
    }
    let identity = identity.filter(|known| known.key_generation == row.key_generation);
    let held = identity.as_ref().map_or((0, 0), IdentityRow::held).max(unwritten);
    let (seen_at, incarnation) = (Version(now.config_seq), now.cluster.incarnation);
    Ok(Member { cluster, leaf, seen_at, incarnation, identity, held })
}
