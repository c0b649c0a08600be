//! The clusters this process serves, with their keys unsealed.
//!
//! Owns one entry per cluster for the life of the process. Refuses to trust a stored key that the
//! cluster's records do not end in.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ipnet::Ipv4Net;
use rap_authority::{ClusterTiming, InstallationFacts, NewCluster, SealingKey, reopen_cluster};
use rap_contract::{AuthorityChain, PublicKey, Signer};
use rap_planner::MapKey;
use rap_runtime::tls::{ClusterTrust, TrustStore};
use rap_store::{
    AuthorityRow, ClusterCaRow, ClusterRow, DekRow, KeyState, NewClusterRow, PgConnection, authorities_list,
    authority_insert, cluster_ca_active, cluster_ca_insert, cluster_insert, dek_insert, deks_list,
};
use rap_types::{ClusterId, KeyId, NodeId, Reason, Wall};
use tokio::sync::Notify;

use crate::certificates::Authority;
use crate::custody::{KEY_VERSION, Sealed};
use crate::grpc::Failure;
use crate::revocations::Revocations;
use crate::sync::Feed;

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its authority key.
    pub authority: Signer,
    /// Its verified authority records.
    pub chain: AuthorityChain,
    /// Its certificate authority.
    pub ca: Authority,
    /// Key of its Merkle map.
    pub map_key: MapKey,
    /// Its timing.
    pub timing: ClusterTiming,
    /// Its IPv4 pool.
    pub ipv4_pool: Ipv4Net,
    /// When it was made.
    pub created_at: Wall,
    /// Its newest signed version.
    pub feed: Feed,
    /// Rings when its rows may have changed.
    pub wake: Notify,
    /// Its chain of revocations, as far as this process verified it.
    pub revocations: Revocations,
}

/// All clusters, by id.
#[derive(Debug, Default)]
pub struct Clusters(RwLock<BTreeMap<ClusterId, Arc<Cluster>>>);

impl Clusters {
    /// Adds a cluster unless it is there; true if it was added.
    pub fn insert(&self, cluster: &Arc<Cluster>) -> bool {
        let mut clusters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let added = !clusters.contains_key(&cluster.id);
        clusters.entry(cluster.id).or_insert_with(|| cluster.clone());
        added
    }

    /// The cluster with this id.
    pub fn by_id(&self, id: ClusterId) -> Option<Arc<Cluster>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The cluster with this name or id.
    ///
    /// # Errors
    /// `resource.not_found`.
    pub fn named(&self, text: &str) -> Result<Arc<Cluster>, Failure> {
        let id = text.parse::<ClusterId>().ok();
        let clusters = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = clusters.values().find(|cluster| Some(cluster.id) == id || cluster.name == text);
        found.cloned().ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such cluster"))
    }

    /// The cluster whose authority has this key id.
    pub fn of_authority(&self, key: KeyId) -> Option<Arc<Cluster>> {
        let clusters = self.0.read().unwrap_or_else(PoisonError::into_inner);
        clusters.values().find(|cluster| cluster.authority.id() == key).cloned()
    }

    /// Every cluster.
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Cluster {
    /// Reads, unseals and verifies a stored cluster.
    pub async fn load(
        connection: &mut PgConnection,
        installation: &InstallationFacts,
        kek: &SealingKey,
        row: &ClusterRow,
    ) -> Result<Self, Failure> {
        let id = row.cluster.cluster;
        if row.cluster.dev != installation.dev {
            return Err(Failure::new(Reason::RowTampered, "cluster mode"));
        }
        let deks = deks_list(connection, id).await?;
        let dek =
            deks.last().ok_or_else(|| Failure::new(Reason::SecretUnseal, "the cluster has no data key"))?;
        let dek = Sealed::DataKey(id).open32(kek, installation.id, &dek.wrapped_dek)?;
        let dek = SealingKey::from_slice(dek.as_slice())
            .ok_or_else(|| Failure::new(Reason::SecretUnseal, "the cluster's data key is zero"))?;

        let records = authorities_list(connection, id).await?;
        let active = records
            .iter()
            .find(|record| record.state == KeyState::Active)
            .ok_or_else(|| Failure::new(Reason::RowTampered, "the cluster has no active authority"))?;
        let sealed = Sealed::ClusterAuthority(id, active.sequence);
        let authority =
            Signer::from_seed(&*sealed.open32(&dek, installation.id, &active.sealed_private_key)?);
        let envelopes: Vec<Vec<u8>> = records.iter().map(|record| record.record.clone()).collect();
        let chain = reopen_cluster(
            installation.id,
            &installation.authority,
            installation.dev,
            id,
            &envelopes,
            &PublicKey::from_slice(&active.public_key)?,
        )?;
        if authority.public() != chain.active() {
            return Err(Failure::new(Reason::RowTampered, "cluster authority key"));
        }
        let ca = cluster_ca_active(connection, id)
            .await?
            .ok_or_else(|| Failure::new(Reason::RowTampered, "the cluster has no certificate authority"))?;
        let ca_key = Sealed::ClusterCa(id, ca.generation).open(&dek, installation.id, &ca.sealed_key)?;
        let map_key = Sealed::MapKey(id).open32(&dek, installation.id, &row.cluster.sealed_map_key)?;
        Ok(Self {
            id,
            name: row.cluster.name.clone(),
            authority,
            chain,
            ca: Authority::open(&ca.cert_der, &ca_key)?,
            map_key: MapKey::from_bytes(*map_key),
            timing: timing(&row.cluster),
            ipv4_pool: row.cluster.ipv4_pool,
            created_at: row.created_at,
            feed: Feed::default(),
            wake: Notify::new(),
            revocations: Revocations::default(),
        })
    }

    /// Makes its nodes acceptable on node connections, except revoked ones.
    pub fn announce(
        &self,
        installation: &InstallationFacts,
        trust: &TrustStore,
        revoked: BTreeMap<NodeId, u64>,
    ) {
        let trusted = ClusterTrust {
            installation: installation.id,
            authorities: vec![self.ca.certificate().clone()],
            revoked,
        };
        trust.replace(self.id, trusted);
    }

    /// How a refreshed head is spread over the nodes, so that none goes stale waiting for it.
    pub fn head_window(&self, within: Duration) -> Duration {
        within.min((self.timing.fresh_for / 2).saturating_sub(self.timing.refresh_every))
    }
}

/// Writes the rows of a new cluster: itself, its data key, authority and certificate authority.
pub async fn insert_cluster(
    connection: &mut PgConnection,
    installation: &InstallationFacts,
    kek: &SealingKey,
    new: &NewCluster,
    name: &str,
    timing: &ClusterTiming,
    ca: &Authority,
) -> Result<(), Failure> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let dek = &new.data_key;
    let row = NewClusterRow {
        cluster: new.id,
        name: name.to_owned(),
        incarnation: new.incarnation,
        ipv4_pool: new.ipv4_pool,
        dev: installation.dev,
        fresh_for_ms: millis(timing.fresh_for),
        refresh_every_ms: millis(timing.refresh_every),
        degraded_for_ms: millis(timing.degraded_for),
        leaf_lifetime_ms: millis(timing.leaf_lifetime),
        sealed_map_key: Sealed::MapKey(new.id).seal(dek, installation.id, new.map_key.as_slice()),
    };
    cluster_insert(connection, &row).await?;
    let wrapped_dek = Sealed::DataKey(new.id).seal(kek, installation.id, dek.expose());
    dek_insert(connection, &DekRow { cluster: new.id, key_version: KEY_VERSION.into(), wrapped_dek }).await?;
    let authority = AuthorityRow {
        cluster: new.id,
        sequence: 1,
        record: new.record.clone(),
        public_key: *new.authority.public().as_bytes(),
        sealed_private_key: Sealed::ClusterAuthority(new.id, 1).seal(
            dek,
            installation.id,
            new.authority.seed().as_slice(),
        ),
        state: KeyState::Active,
    };
    authority_insert(connection, &authority).await?;
    let ca = ClusterCaRow {
        cluster: new.id,
        generation: 1,
        cert_der: ca.certificate().to_vec(),
        sealed_key: Sealed::ClusterCa(new.id, 1).seal(dek, installation.id, &ca.private_key()),
        state: KeyState::Active,
    };
    Ok(cluster_ca_insert(connection, &ca).await?)
}

fn timing(row: &NewClusterRow) -> ClusterTiming {
    ClusterTiming {
        fresh_for: Duration::from_millis(row.fresh_for_ms),
        degraded_for: Duration::from_millis(row.degraded_for_ms),
        refresh_every: Duration::from_millis(row.refresh_every_ms),
        leaf_lifetime: Duration::from_millis(row.leaf_lifetime_ms),
    }
}
