//! Puts what was just committed in force on this replica, and tells the others.

use rap_authority::{Floor, FloorOf};
use rap_contract::KnownRevocations;
use rap_store::doorbell_ring;
use rap_types::{ClusterId, Reason};

use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;

impl Serving {
    /// Tells this replica at once, and the others by the doorbell, that a cluster's rows changed.
    pub async fn changed(&self, cluster: &Cluster) {
        tracing::trace!(way = "the publisher is woken, and other replicas");
        cluster.wake.changed();
        if let Err(error) = doorbell_ring(self.database.store.system(), cluster.id).await {
            // The outbox is the truth: other replicas find the change at their next poll.
            tracing::warn!(%error, cluster = %cluster.id, "the doorbell did not ring");
        }
    }
}

impl Serving {
    /// Makes a verified, committed chain the one in force here: the floor is on disk and every
    /// certificate it revokes is refused when this returns.
    pub async fn learn_revocations(&self, cluster: &Cluster, next: KnownRevocations) -> Result<(), Failure> {
        if let Some(digest) = next.chain.digest() {
            let floor = Floor { sequence: next.chain.sequence(), digest };
            match self.database.floors.raise(FloorOf::Revocations(cluster.id), floor).await {
                // Another task learned a longer chain meanwhile.
                Err(failure) if failure.reason == Reason::FloorRollback => {}
                raised => raised?,
            }
        }
        cluster.revocations.learn(next);
        let revoked = cluster.revocations.known().chain.revoked();
        cluster.announce(&self.keys.installation.facts, &self.trust, revoked);
        tracing::trace!(way = "revocations are in force here");
        Ok(())
    }

    /// Reads what was just committed, puts it in force here, and tells the other replicas.
    pub async fn revoked(&self, cluster: &Cluster) -> Result<(), Failure> {
        let known = cluster.revocations.known();
        let mut transaction = self.database.store.system().begin().await?;
        let next = self.revocations(&mut transaction, cluster, &known).await?;
        drop(transaction);
        self.learn_revocations(cluster, next).await?;
        cluster.wake.urgent();
        self.changed(cluster).await;
        Ok(())
    }
}

/// This replica goes by the change now, the others by the doorbell.
pub(crate) async fn follow_keys(serving: &Serving, id: ClusterId) -> Result<(), Failure> {
    match serving.clusters.by_id(id) {
        Some(_) => serving.reload_cluster(id).await?,
        None => drop(serving.load_cluster(id).await?),
    }
    if let Some(cluster) = serving.clusters.by_id(id) {
        cluster.wake.urgent();
        serving.changed(&cluster).await;
    }
    Ok(())
}
