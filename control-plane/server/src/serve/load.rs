//! Loads clusters from their rows and serves them.
//!
//! Owns the comparison of authority records and data keys with this replica's floors before a cluster is
//! served. Refuses to own what a cluster is (`serve/cluster`).

use std::sync::Arc;

use rap_authority::{Floor, FloorOf};
use rap_contract::AuthorityChain;
use rap_store::{PgConnection, cluster_names};
use rap_types::{ClusterId, KeyId, Reason};

use crate::failure::Failure;
use crate::keys::data_keys::why_no_keys;
use crate::serve::cluster::{BREAKS_ONE, Cluster};
use crate::serve::handle::Serving;

impl Serving {
    /// Loads every cluster that is not served yet.
    pub async fn load_clusters(&self) -> Result<(), Failure> {
        let mut transaction = self.database.store.system().begin_snapshot().await?;
        let stored = cluster_names(&mut transaction).await?;
        self.clusters.keep_broken(&stored);
        for (id, name) in stored {
            if self.clusters.by_id(id).is_none() {
                self.load_stored(&mut transaction, id, &name).await?;
            }
        }
        Ok(())
    }

    /// Loads a stored cluster that is not served, or remembers why it cannot be.
    pub async fn load_stored(
        &self,
        connection: &mut PgConnection,
        id: ClusterId,
        name: &str,
    ) -> Result<(), Failure> {
        let loaded = Cluster::load(
            connection,
            &self.keys.installation.facts,
            &self.keys.keyring(&self.database.floors),
            id,
        )
        .await;
        let loaded = match loaded {
            Ok(None) => Err(why_no_keys(connection, id).await?),
            loaded => loaded,
        };
        match loaded {
            Ok(Some(cluster)) => match self.put_cluster(connection, cluster).await {
                // The alarm was raised where the floor was compared.
                Err(failure) if BREAKS_ONE.contains(&failure.reason) => {
                    self.clusters.put_broken(id, name, failure.reason);
                }
                served => drop(served?),
            },
            Ok(None) => {}
            // Anybody can write such a row: it is shown, and gives nothing.
            Err(failure) if failure.reason == Reason::ClusterNoAuthority => {
                if self.clusters.put_broken(id, name, failure.reason) {
                    tracing::warn!(cluster = %id, reason = %failure.reason, "a row has no keys");
                }
            }
            // The others are served; this one waits for its operator.
            Err(failure) if BREAKS_ONE.contains(&failure.reason) => {
                if self.clusters.put_broken(id, name, failure.reason) {
                    self.watch
                        .alarm(failure.reason, &format!("cluster {id} is not served: {}", failure.message));
                }
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Reads a cluster, and serves it as its rows say now.
    pub async fn load_cluster(&self, id: ClusterId) -> Result<Option<Arc<Cluster>>, Failure> {
        self.load_cluster_from(&mut *self.database.store.system().begin_snapshot().await?, id).await
    }

    /// As [`Self::load_cluster`], as one transaction sees the rows.
    pub async fn load_cluster_from(
        &self,
        connection: &mut PgConnection,
        id: ClusterId,
    ) -> Result<Option<Arc<Cluster>>, Failure> {
        let (facts, keyring) = (&self.keys.installation.facts, self.keys.keyring(&self.database.floors));
        let Some(cluster) = Cluster::load(connection, facts, &keyring, id).await? else { return Ok(None) };
        self.put_cluster(connection, cluster).await.map(Some)
    }

    /// The cluster with this id, also if another replica made it a moment ago.
    pub async fn cluster(&self, id: ClusterId) -> Result<Option<Arc<Cluster>>, Failure> {
        match self.clusters.by_id(id) {
            Some(cluster) => Ok(Some(cluster)),
            None => self.load_cluster(id).await,
        }
    }

    /// The cluster with this name or id, likewise.
    ///
    /// # Errors
    /// `resource.not_found`.
    pub async fn cluster_named(&self, text: &str) -> Result<Arc<Cluster>, Failure> {
        if let Ok(cluster) = self.clusters.named(text) {
            return Ok(cluster);
        }
        self.load_clusters().await?;
        self.clusters.named(text)
    }

    /// The cluster whose authority has this key id, likewise.
    pub async fn cluster_of_authority(&self, key: KeyId) -> Result<Option<Arc<Cluster>>, Failure> {
        if let Some(cluster) = self.clusters.of_authority(key) {
            return Ok(Some(cluster));
        }
        self.load_clusters().await?;
        Ok(self.clusters.of_authority(key))
    }

    async fn put_cluster(
        &self,
        connection: &mut PgConnection,
        mut cluster: Cluster,
    ) -> Result<Arc<Cluster>, Failure> {
        self.keep_authority_floor(cluster.id, &cluster.chain).await?;
        // Remembers which data keys were retired, so that one that is put back counts for nothing.
        self.raise_floor(FloorOf::DataKey(cluster.id), cluster.data_key_floor).await?;
        let before = self.clusters.by_id(cluster.id);
        if let Some(before) = &before {
            // What was verified under the keys before stays known.
            cluster.revocations = before.revocations.clone();
        }
        // What cannot be read or is below the floor is an alarm; its publisher then signs nothing new.
        let known = cluster.revocations.known();
        let known = self.revocations(connection, &cluster, &known).await.unwrap_or(known);
        cluster.announce(&self.keys.installation.facts, &self.trust, known.chain.revoked());
        let cluster = self.clusters.put(cluster);
        if before.is_some_and(|before| before.cas.certificates() != cluster.cas.certificates()) {
            // The version that says so may be out already. A stream that stands on a CA that ended ends with it.
            cluster.feed.look_again();
        }
        Ok(cluster)
    }

    /// Refuses a chain of authority records that lacks what this replica has seen, and remembers it.
    async fn keep_authority_floor(&self, id: ClusterId, chain: &AuthorityChain) -> Result<(), Failure> {
        let of = FloorOf::Authority(id);
        if let Some(floor) = self.database.floors.current().unwrap_or_default().of(of) {
            let reason = match chain.digest_at(floor.sequence) {
                None => Some(Reason::FloorRollback),
                Some(digest) if digest != floor.digest => Some(Reason::FloorEquivocation),
                Some(_) => None,
            };
            if let Some(reason) = reason {
                self.watch
                    .alarm(reason, &format!("authority records of cluster {id} are not those seen before"));
                return Err(Failure::new(reason, "authority records"));
            }
        }
        self.raise_floor(of, Floor { sequence: chain.sequence(), digest: chain.digest() }).await
    }
}
