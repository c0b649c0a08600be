//! The data keys of clusters, as they are stored: wrapped by the key encryption key.
//!
//! Owns opening them, and refuses one that this replica has seen retired: whoever can write the database
//! can put a wrapped key back.

use std::sync::Arc;

use rap_authority::{DataKeys, Floor, FloorOf, OpensDataKeys, ReplicaFloors, RowKeys, SealingKey};
use rap_store::{DekRow, PgConnection, bare_cluster_read, deks_list};
use rap_types::{ClusterId, Digest, InstallationId, Reason};

use crate::database::replica_floors::FloorFile;
use crate::failure::Failure;
use crate::keys::seal_context::Sealed;

/// Why a stored cluster without a data key is not served: it never had one, or it was taken away.
pub(crate) async fn why_no_keys(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Failure, Failure> {
    Ok(match bare_cluster_read(connection, cluster).await? {
        Some(_) => Failure::new(
            Reason::ClusterNoAuthority,
            "the cluster has no authority yet: rapctl cluster ensure-authority",
        ),
        None => Failure::new(Reason::SecretUnseal, "the cluster has no data key"),
    })
}

/// Opens the data keys of every cluster. Cheap to clone.
#[derive(Clone)]
pub struct DataKeyOpener {
    installation: InstallationId,
    kek: SealingKey,
    floors: Floors,
}

/// What was seen retired.
#[derive(Clone)]
enum Floors {
    Kept(FloorFile),
    Given(Arc<ReplicaFloors>),
}

impl Floors {
    fn of(&self, cluster: ClusterId) -> Option<Floor> {
        let of = FloorOf::DataKey(cluster);
        match self {
            Self::Kept(file) => file.current().and_then(|floors| floors.of(of)),
            Self::Given(floors) => floors.of(of),
        }
    }
}

impl DataKeyOpener {
    /// For a replica that serves: what it has seen retired stays retired.
    pub fn of_replica(installation: InstallationId, kek: &SealingKey, floors: &FloorFile) -> Self {
        Self { installation, kek: kek.clone(), floors: Floors::Kept(floors.clone()) }
    }

    /// For work on a database beside those who serve it, or on a backup's: by these floors.
    pub fn of_database(installation: InstallationId, kek: &SealingKey, floors: &ReplicaFloors) -> Self {
        Self { installation, kek: kek.clone(), floors: Floors::Given(Arc::new(floors.clone())) }
    }

    /// The live data keys of a cluster; `None` if there is no such cluster.
    ///
    /// # Errors
    /// `secret.unseal`; `floor.rollback` if every stored one was retired before, `floor.equivocation` if the
    /// oldest that counts is another one than was seen.
    pub async fn find(
        &self,
        connection: &mut PgConnection,
        cluster: ClusterId,
    ) -> Result<Option<DataKeys>, Failure> {
        let stored = deks_list(connection, cluster).await?;
        if stored.is_empty() {
            return Ok(None);
        }
        self.open(cluster, &stored).map(Some)
    }

    /// The same of a cluster that must have one.
    ///
    /// # Errors
    /// `secret.unseal`, `floor.rollback`, `cluster.no_authority`.
    pub async fn read(&self, connection: &mut PgConnection, cluster: ClusterId) -> Result<DataKeys, Failure> {
        match self.find(connection, cluster).await? {
            Some(keys) => Ok(keys),
            None => Err(why_no_keys(connection, cluster).await?),
        }
    }

    /// Keys of the cluster's rows; they learn of newer data keys from whatever transaction they verify in.
    pub fn rows(&self, cluster: ClusterId, keys: &DataKeys) -> RowKeys {
        let opens = DataKeyOpenerOf { keyring: self.clone(), cluster };
        RowKeys::of_data_keys(self.installation, cluster, keys, Some(Arc::new(opens)))
    }

    /// Wraps a data key to be stored.
    pub fn wrap(&self, cluster: ClusterId, version: u32, key: &SealingKey) -> DekRow {
        let wrapped_dek = Sealed::DataKey(cluster, version).seal(&self.kek, self.installation, key.expose());
        DekRow { cluster, key_version: version.into(), wrapped_dek }
    }

    fn open(&self, cluster: ClusterId, stored: &[DekRow]) -> Result<DataKeys, Failure> {
        let floor = self.floors.of(cluster);
        let mut keys = Vec::with_capacity(stored.len());
        for dek in stored {
            if floor.is_some_and(|floor| dek.key_version < floor.sequence) {
                tracing::warn!(%cluster, version = dek.key_version, "a retired data key is in the database");
                continue;
            }
            let (version, key) = self.unwrap(cluster, dek.key_version, &dek.wrapped_dek)?;
            let seen = floor.filter(|floor| dek.key_version == floor.sequence && floor.digest != UNKNOWN);
            if seen.is_some_and(|floor| floor.digest != DataKeys::digest(&key)) {
                let text = format!("version {version} of the cluster's data key is not the one seen before");
                return Err(Failure::new(Reason::FloorEquivocation, text));
            }
            keys.push((version, key));
        }
        let retired = || Failure::new(Reason::FloorRollback, "the cluster's data key was retired before");
        DataKeys::of(keys).ok_or_else(retired)
    }

    fn unwrap(&self, cluster: ClusterId, version: u64, wrapped: &[u8]) -> Result<(u32, SealingKey), Failure> {
        let refused = |what: &str| Failure::new(Reason::SecretUnseal, what);
        let version =
            u32::try_from(version).map_err(|_| refused("the version of a data key is out of range"))?;
        let key = Sealed::DataKey(cluster, version).open32(&self.kek, self.installation, wrapped)?;
        let key = SealingKey::from_slice(key.as_slice())
            .ok_or_else(|| refused("the cluster's data key is zero"))?;
        Ok((version, key))
    }
}

/// Digest in a floor that an earlier release wrote.
const UNKNOWN: Digest = Digest::from_bytes([0; 32]);

struct DataKeyOpenerOf {
    keyring: DataKeyOpener,
    cluster: ClusterId,
}

impl OpensDataKeys for DataKeyOpenerOf {
    fn open(&self, wrapped: &[(u64, Vec<u8>)]) -> Option<DataKeys> {
        let row = |(key_version, wrapped_dek): &(u64, Vec<u8>)| DekRow {
            cluster: self.cluster,
            key_version: *key_version,
            wrapped_dek: wrapped_dek.clone(),
        };
        let stored: Vec<DekRow> = wrapped.iter().map(row).collect();
        self.keyring.open(self.cluster, &stored).ok()
    }

    fn unwrap(&self, version: u64, wrapped: &[u8]) -> Option<SealingKey> {
        self.keyring.unwrap(self.cluster, version, wrapped).ok().map(|(_, key)| key)
    }
}
