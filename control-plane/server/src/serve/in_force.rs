//! Puts what was just committed in force on this replica, and tells the others.

use rap_authority::{Floor, FloorOf};
use rap_contract::KnownRevocations;
use rap_store::{PgConnection, doorbell_ring};
use rap_types::{ClusterId, Reason};

use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;

impl Serving {
    /// Wakes the cluster's publisher here, and those of other replicas by the doorbell.
    ///
    /// # Errors
    /// `store.unavailable` if the doorbell does not ring. Other replicas then find the change in the outbox at their next poll.
    pub async fn publish(
        &self,
        connection: &mut PgConnection,
        id: ClusterId,
        urgent: bool,
    ) -> Result<(), Failure> {
        tracing::trace!(way = "the publisher is woken, and other replicas");
        match self.clusters.by_id(id) {
            Some(cluster) if urgent => cluster.wake.urgent(),
            Some(cluster) => cluster.wake.changed(),
            None => {}
        }
        Ok(doorbell_ring(connection, id).await?)
    }

    /// Makes a verified, committed chain the one in force here: every certificate it revokes is refused when this
    /// returns, and the floor is on disk.
    ///
    /// # Errors
    /// As [`Self::raise_floor`]. A chain of another history is not put in force; one whose floor the disk did not take is.
    pub async fn learn_revocations(&self, cluster: &Cluster, next: KnownRevocations) -> Result<(), Failure> {
        let kept = match next.chain.digest() {
            Some(digest) => {
                let floor = Floor { sequence: next.chain.sequence(), digest };
                self.raise_floor(FloorOf::Revocations(cluster.id), floor).await
            }
            None => Ok(()),
        };
        if kept.as_ref().is_err_and(|failure| failure.reason == Reason::FloorEquivocation) {
            return kept;
        }
        cluster.revocations.learn(next);
        let revoked = cluster.revocations.known().chain.revoked();
        cluster.announce(&self.keys.installation.facts, &self.trust, revoked);
        tracing::trace!(way = "revocations are in force here");
        kept
    }

    /// Raises a floor to what was signed.
    ///
    /// # Errors
    /// `floor.equivocation`; those of writing.
    pub async fn raise_floor(&self, of: FloorOf, at: Floor) -> Result<(), Failure> {
        match self.database.floors.raise(of, at).await {
            // Another task saw something newer meanwhile.
            Err(failure) if failure.reason == Reason::FloorRollback => Ok(()),
            raised => raised,
        }
    }
}
