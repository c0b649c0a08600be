//! The clusters this process serves, with their keys unsealed.
//!
//! Owns one entry per cluster, replaced by a newer one when its keys change. Refuses to trust a stored
//! key that the cluster's records do not end in.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ipnet::Ipv4Net;
use rap_authority::{
    AuthorityLife, AuthorityState, ClusterTiming, DataKeys, Floor, InstallationFacts, NewCluster, RowKeys,
    reopen_cluster,
};
use rap_contract::{AuthorityChain, PublicKey, Signer};
use rap_planner::MapKey;
use rap_runtime::tls::{ClusterTrust, TrustStore};
use rap_store::{
    AuthorityRow, ClusterCaRow, ClusterRow, KeyState, NewClusterRow, PgConnection, authorities_list,
    authority_insert, authority_prepared_read, bare_cluster_read, cluster_ca_active, cluster_ca_insert,
    cluster_insert, cluster_names, cluster_read, dek_insert, keys_stamp,
};
use rap_types::{ClusterId, KeyId, NodeId, Reason, Wall};
use tokio::sync::Notify;

use crate::certificates::Authority;
use crate::custody::Sealed;
use crate::data_keys::Keyring;
use crate::grpc::Failure;
use crate::grpc::membership::first_policies;
use crate::revocations::Revocations;
use crate::sync::Feed;

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Keys of its rows' MACs.
    pub rows: RowKeys,
    /// Its authority key.
    pub authority: Signer,
    /// Its verified authority records.
    pub chain: AuthorityChain,
    /// Where each of its authority keys is in its life.
    pub life: AuthorityLife,
    /// Replaced keys that still answer to the join tokens they signed.
    pub earlier: Vec<Signer>,
    /// Changes whenever a key does: what a poll compares.
    pub keys: u64,
    /// Below it no data key counts.
    pub data_key_floor: Floor,
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
    pub wake: Arc<Notify>,
    /// Its chain of revocations, as far as this process verified it.
    pub revocations: Arc<Revocations>,
}

/// All clusters, by id. An entry is the newest one: nobody keeps it across rounds.
#[derive(Debug, Default)]
pub struct Clusters {
    served: RwLock<BTreeMap<ClusterId, Arc<Cluster>>>,
    broken: RwLock<BTreeMap<ClusterId, (String, Reason)>>,
}

impl Clusters {
    /// Adds a cluster, or replaces its entry unless that one knows more authority records. What is
    /// published and who waits for it carries over. True if it was added.
    pub fn put(&self, mut cluster: Cluster) -> (Arc<Cluster>, bool) {
        self.broken.write().unwrap_or_else(PoisonError::into_inner).remove(&cluster.id);
        let mut clusters = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let before = clusters.get(&cluster.id);
        if let Some(before) = before {
            if before.chain.sequence() > cluster.chain.sequence() {
                return (before.clone(), false);
            }
            (cluster.feed, cluster.wake) = (before.feed.clone(), before.wake.clone());
            cluster.revocations = before.revocations.clone();
        }
        let (added, cluster) = (before.is_none(), Arc::new(cluster));
        clusters.insert(cluster.id, cluster.clone());
        (cluster, added)
    }

    /// Remembers why a cluster cannot be served. True if that is news.
    pub fn put_broken(&self, id: ClusterId, name: &str, reason: Reason) -> bool {
        let mut broken = self.broken.write().unwrap_or_else(PoisonError::into_inner);
        broken.insert(id, (name.to_owned(), reason)).is_none_or(|(_, before)| before != reason)
    }

    /// Forgets those that are not among `stored` any more.
    pub fn keep_broken(&self, stored: &[(ClusterId, String)]) {
        let mut broken = self.broken.write().unwrap_or_else(PoisonError::into_inner);
        broken.retain(|id, _| stored.iter().any(|(stored, _)| stored == id));
    }

    /// Why each of the others cannot be served.
    pub fn broken(&self) -> BTreeMap<ClusterId, (String, Reason)> {
        self.broken.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the cluster with this id is not served.
    pub fn refusal(&self, id: ClusterId) -> Reason {
        self.broken().get(&id).map_or(Reason::ServerUnavailable, |(_, reason)| *reason)
    }

    /// The cluster with this id.
    pub fn by_id(&self, id: ClusterId) -> Option<Arc<Cluster>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The cluster with this name or id.
    ///
    /// # Errors
    /// `resource.not_found`; why it cannot be served.
    pub fn named(&self, text: &str) -> Result<Arc<Cluster>, Failure> {
        let clusters = self.served.read().unwrap_or_else(PoisonError::into_inner);
        let found = clusters.values().find(|cluster| is_meant(cluster.id, &cluster.name, text));
        if let Some(found) = found {
            return Ok(found.clone());
        }
        let broken = self.broken.read().unwrap_or_else(PoisonError::into_inner);
        let why = broken.iter().find(|(id, (name, _))| is_meant(**id, name, text));
        Err(match why {
            Some((_, (_, reason @ Reason::ClusterNoAuthority))) => {
                Failure::new(*reason, "the cluster has no authority yet: rapctl cluster ensure-authority")
            }
            Some((_, (_, reason))) => {
                Failure::new(*reason, "the cluster cannot be served: its keys do not open")
            }
            None => Failure::new(Reason::ResourceNotFound, "no such cluster"),
        })
    }

    /// The cluster for which this key speaks now or spoke before.
    pub fn of_authority(&self, key: KeyId) -> Option<Arc<Cluster>> {
        let clusters = self.served.read().unwrap_or_else(PoisonError::into_inner);
        clusters.values().find(|cluster| cluster.sequence_of(key).is_some()).cloned()
    }

    /// Every cluster.
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Whether a cluster is the one that an operator's text means. What reads as an id is one: no name passes
/// for the id of another cluster.
pub fn is_meant(id: ClusterId, name: &str, text: &str) -> bool {
    match text.parse::<ClusterId>() {
        Ok(meant) => meant == id,
        Err(_) => name == text,
    }
}

impl Cluster {
    /// Reads, unseals and verifies a stored cluster; `None` if there is no such cluster.
    pub async fn load(
        connection: &mut PgConnection,
        installation: &InstallationFacts,
        keyring: &Keyring,
        id: ClusterId,
    ) -> Result<Option<Self>, Failure> {
        let Some(keys) = keyring.find(connection, id).await? else { return Ok(None) };
        let rows = keyring.rows(id, &keys);
        let Some(row) = cluster_read(connection, &rows).await? else { return Ok(None) };
        if row.cluster.dev != installation.dev {
            return Err(Failure::new(Reason::RowTampered, "cluster mode"));
        }
        let StoredAuthority { chain, life, rows: links } =
            StoredAuthority::read(connection, installation, &rows).await?;
        let signer = |row: &AuthorityRow| -> Result<Signer, Failure> {
            let sealed = row.sealed_private_key.as_deref().unwrap_or_default();
            let place = Sealed::ClusterAuthority(id, row.sequence);
            let signer = Signer::from_seed(&*place.open32_by(&keys, installation.id, sealed)?);
            if signer.public().as_bytes() == &row.public_key {
                Ok(signer)
            } else {
                Err(Failure::new(Reason::RowTampered, "cluster authority key"))
            }
        };
        let (newest, earlier) = links
            .split_last()
            .ok_or_else(|| Failure::new(Reason::RowTampered, "the cluster has no authority"))?;
        let authority = signer(newest)?;
        let earlier = earlier.iter().filter(|row| row.state != KeyState::Revoked);
        let earlier = earlier.map(signer).collect::<Result<_, _>>()?;
        let ca = cluster_ca_active(connection, &rows)
            .await?
            .ok_or_else(|| Failure::new(Reason::RowTampered, "the cluster has no certificate authority"))?;
        let ca_key = Sealed::ClusterCa(id, ca.generation).open_by(&keys, installation.id, &ca.sealed_key)?;
        let map_key = Sealed::MapKey(id).open32_by(&keys, installation.id, &row.cluster.sealed_map_key)?;
        Ok(Some(Self {
            id,
            name: row.cluster.name.clone(),
            rows,
            authority,
            chain,
            life,
            earlier,
            keys: keys_stamp(connection, id).await?,
            data_key_floor: keys.floor(),
            ca: Authority::open(&ca.cert_der, &ca_key)?,
            map_key: MapKey::from_bytes(*map_key),
            timing: timing(&row.cluster),
            ipv4_pool: row.cluster.ipv4_pool,
            created_at: row.created_at,
            feed: Feed::default(),
            wake: Arc::default(),
            revocations: Arc::default(),
        }))
    }

    /// Place in the chain of the authority with this key id.
    pub fn sequence_of(&self, key: KeyId) -> Option<u64> {
        self.chain.keys_ever().position(|known| known.id() == key).map(|index| index as u64 + 1)
    }

    /// The authority that signed a join token, while its tokens count: it also signs the answers to them,
    /// because that is the key their holders know.
    ///
    /// # Errors
    /// `token.authority_revoked`, `key.unknown`.
    pub fn token_authority(&self, key: KeyId) -> Result<&Signer, Failure> {
        let unknown = || Failure::new(Reason::KeyUnknown, "no authority of this cluster signed the token");
        self.life.admits_tokens_of(self.sequence_of(key).ok_or_else(unknown)?)?;
        let mut signers = std::iter::once(&self.authority).chain(&self.earlier);
        signers.find(|signer| signer.id() == key).ok_or_else(unknown)
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

/// A cluster's authority as its rows and records say, without any private key.
pub struct StoredAuthority {
    /// Its verified records.
    pub chain: AuthorityChain,
    /// Where each key is in its life.
    pub life: AuthorityLife,
    /// The rows, first link first.
    pub rows: Vec<AuthorityRow>,
}

impl StoredAuthority {
    /// Reads and verifies them.
    ///
    /// # Errors
    /// Those of the chain; `row.tampered`.
    pub async fn read(
        connection: &mut PgConnection,
        installation: &InstallationFacts,
        keys: &RowKeys,
    ) -> Result<Self, Failure> {
        let cluster = keys.cluster();
        let tampered = |what: &str| Failure::new(Reason::RowTampered, what);
        let rows = authorities_list(connection, keys).await?;
        let newest = rows.last().ok_or_else(|| tampered("the cluster has no authority"))?;
        let envelopes: Vec<Vec<u8>> = rows.iter().map(|row| row.record.clone()).collect();
        let chain = reopen_cluster(
            installation.id,
            &installation.authority,
            installation.dev,
            cluster,
            &envelopes,
            &PublicKey::from_slice(&newest.public_key)?,
        )?;
        if !rows.iter().map(|row| row.public_key).eq(chain.keys_ever().map(|key| *key.as_bytes())) {
            return Err(tampered("cluster authority key"));
        }
        let prepared = authority_prepared_read(connection, cluster).await?.is_some();
        let life = AuthorityLife::of(rows.iter().map(|row| state(row.state)).collect(), prepared)?;
        Ok(Self { chain, life, rows })
    }
}

/// Why a stored cluster without a data key is not served: it never had one, or it was taken away.
pub async fn without_keys(connection: &mut PgConnection, cluster: ClusterId) -> Result<Failure, Failure> {
    Ok(match bare_cluster_read(connection, cluster).await? {
        Some(_) => Failure::new(
            Reason::ClusterNoAuthority,
            "the cluster has no authority yet: rapctl cluster ensure-authority",
        ),
        None => Failure::new(Reason::SecretUnseal, "the cluster has no data key"),
    })
}

/// A cluster of a database that is not served.
pub struct ClusterAtRest {
    /// Its data keys.
    pub keys: DataKeys,
    /// Keys of its rows.
    pub rows: RowKeys,
    /// Its own row.
    pub row: ClusterRow,
}

/// Every cluster, for work on a database that is not served. Clusters that have no keys yet are not among
/// them.
pub async fn clusters_at_rest(
    connection: &mut PgConnection,
    keyring: &Keyring,
) -> Result<Vec<ClusterAtRest>, Failure> {
    let mut clusters = Vec::new();
    for (id, name) in cluster_names(connection).await? {
        let Some(keys) = keyring.find(connection, id).await? else {
            if bare_cluster_read(connection, id).await?.is_some() {
                continue;
            }
            return Err(Failure::new(Reason::SecretUnseal, format!("cluster {name} has no data key")));
        };
        let rows = keyring.rows(id, &keys);
        if let Some(row) = cluster_read(connection, &rows).await? {
            clusters.push(ClusterAtRest { keys, rows, row });
        }
    }
    Ok(clusters)
}

const fn state(stored: KeyState) -> AuthorityState {
    match stored {
        KeyState::Prepared => AuthorityState::Prepared,
        KeyState::Active => AuthorityState::Active,
        KeyState::Tainted => AuthorityState::Tainted,
        KeyState::Revoked => AuthorityState::Revoked,
    }
}

/// Writes the rows of a new cluster: itself, its data key, authority, certificate authority and policies.
pub async fn insert_cluster(
    connection: &mut PgConnection,
    installation: &InstallationFacts,
    keyring: &Keyring,
    new: &NewCluster,
    name: &str,
    timing: &ClusterTiming,
    ca: &Authority,
) -> Result<(), Failure> {
    let row = cluster_row(installation, new, name, timing);
    let rows = &RowKeys::of_data_keys(installation.id, new.id, &DataKeys::first(&new.data_key), None);
    cluster_insert(connection, rows, &row).await?;
    insert_keys(connection, installation, keyring, new, ca).await?;
    first_policies(connection, rows).await
}

/// The row of a new cluster.
pub fn cluster_row(
    installation: &InstallationFacts,
    new: &NewCluster,
    name: &str,
    timing: &ClusterTiming,
) -> NewClusterRow {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let keys = DataKeys::first(&new.data_key);
    NewClusterRow {
        cluster: new.id,
        name: name.to_owned(),
        incarnation: new.incarnation,
        ipv4_pool: new.ipv4_pool,
        dev: installation.dev,
        fresh_for_ms: millis(timing.fresh_for),
        refresh_every_ms: millis(timing.refresh_every),
        degraded_for_ms: millis(timing.degraded_for),
        leaf_lifetime_ms: millis(timing.leaf_lifetime),
        sealed_map_key: Sealed::MapKey(new.id).seal_by(&keys, installation.id, new.map_key.as_slice()),
    }
}

/// Writes the keys of a new cluster: data key, authority and certificate authority.
pub async fn insert_keys(
    connection: &mut PgConnection,
    installation: &InstallationFacts,
    keyring: &Keyring,
    new: &NewCluster,
    ca: &Authority,
) -> Result<(), Failure> {
    let keys = &DataKeys::first(&new.data_key);
    let rows = &RowKeys::of_data_keys(installation.id, new.id, keys, None);
    dek_insert(connection, &keyring.wrap(new.id, 1, &new.data_key)).await?;
    let authority = AuthorityRow {
        cluster: new.id,
        sequence: 1,
        record: new.record.clone(),
        public_key: *new.authority.public().as_bytes(),
        sealed_private_key: Some(Sealed::ClusterAuthority(new.id, 1).seal_by(
            keys,
            installation.id,
            new.authority.seed().as_slice(),
        )),
        state: KeyState::Active,
    };
    authority_insert(connection, rows, &authority).await?;
    let ca = ClusterCaRow {
        cluster: new.id,
        generation: 1,
        cert_der: ca.certificate().to_vec(),
        sealed_key: Sealed::ClusterCa(new.id, 1).seal_by(keys, installation.id, &ca.private_key()),
        state: KeyState::Active,
    };
    Ok(cluster_ca_insert(connection, rows, &ca).await?)
}

fn timing(row: &NewClusterRow) -> ClusterTiming {
    ClusterTiming {
        fresh_for: Duration::from_millis(row.fresh_for_ms),
        degraded_for: Duration::from_millis(row.degraded_for_ms),
        refresh_every: Duration::from_millis(row.refresh_every_ms),
        leaf_lifetime: Duration::from_millis(row.leaf_lifetime_ms),
    }
}
