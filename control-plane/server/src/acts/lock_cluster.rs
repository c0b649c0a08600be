//! A cluster whose rows are held by the transaction, for an act on its keys.

use rap_authority::{DataKeys, RowKeys};
use rap_contract::{PublicKey, Signer};
use rap_store::{ClusterRow, PgConnection, cluster_hold, cluster_names, cluster_read};
use rap_types::{ClusterId, Reason};

use crate::database::handle::Database;
use crate::failure::{Failure, unknown_cluster};
use crate::keys::handle::Keys;
use crate::serve::authority_chain::StoredAuthority;
use crate::serve::clusters::is_meant;
use crate::watch::handle::Watch;
use crate::watch::raise::alarm_about;

/// A cluster whose rows are held by the transaction. It need not be one that can be served.
pub(crate) struct LockedCluster {
    pub(crate) keys: DataKeys,
    pub(crate) rows: RowKeys,
    pub(crate) row: ClusterRow,
    pub(crate) stored: StoredAuthority,
}

impl LockedCluster {
    pub(crate) async fn lock(
        keys: &Keys,
        database: &Database,
        connection: &mut PgConnection,
        id: ClusterId,
    ) -> Result<Self, Failure> {
        let facts = &keys.installation.facts;
        let keyring = keys.keyring(&database.floors);
        let before = keyring.read(connection, id).await?;
        let row = cluster_hold(connection, &keyring.rows(id, &before)).await?;
        let row = row.ok_or_else(unknown_cluster)?.into_inner();
        // Read under the lock: a rotation may have added one while this waited, and secrets are sealed here.
        let keys = keyring.read(connection, id).await?;
        let rows = keyring.rows(id, &keys);
        let stored = StoredAuthority::read(connection, facts, &rows).await?;
        Ok(Self { keys, rows, row, stored })
    }

    pub(crate) fn id(&self) -> ClusterId {
        self.row.cluster.cluster
    }
}

/// By name or id, from the rows: a cluster whose key is lost is not served, and is recovered here. Its own
/// row has to say that it is the one, under its MAC.
pub(crate) async fn find_cluster(watch: &Watch, text: &str) -> Result<ClusterId, Failure> {
    let mut snapshot = watch.database.store.system().begin_snapshot().await?;
    let names = cluster_names(&mut snapshot).await?;
    let mut meant = names.into_iter().filter(|(id, name)| is_meant(*id, name, text)).map(|(id, _)| id);
    let id = meant.next().ok_or_else(unknown_cluster)?;
    if meant.next().is_some() {
        return Err(Failure::new(Reason::RequestConflict, "two clusters have this name: give the id"));
    }
    let keyring = watch.keys.keyring(&watch.database.floors);
    let rows = keyring.rows(id, &keyring.read(&mut snapshot, id).await?);
    let row = cluster_read(&mut snapshot, &rows).await?.ok_or_else(unknown_cluster)?;
    drop(snapshot);
    if !is_meant(id, &row.cluster.name, text) {
        let object = format!("cluster/{id}");
        alarm_about(watch, Reason::RowTampered, &object, "it was found by a name that is not its own").await;
        return Err(Failure::new(Reason::RowTampered, "the cluster that was found has another name"));
    }
    Ok(id)
}

/// A key that was made elsewhere.
///
/// # Errors
/// `key.invalid`.
pub(crate) fn imported_key(seed: &[u8]) -> Result<Signer, Failure> {
    let seed: &[u8; 32] =
        seed.try_into().map_err(|_| Failure::new(Reason::KeyInvalid, "a private key has 32 bytes"))?;
    if seed == &[0; 32] {
        return Err(Failure::new(Reason::KeyInvalid, "a private key of zeros"));
    }
    let signer = Signer::from_seed(seed);
    // The same admission as for any key of another's making.
    PublicKey::from_slice(signer.public().as_bytes())?;
    Ok(signer)
}

pub(crate) fn refuse_used(held: &LockedCluster, key: &Signer) -> Result<(), Failure> {
    if held.stored.chain.contains(&key.public()) {
        return Err(Failure::new(Reason::ChainBroken, "a key that was used before never returns"));
    }
    Ok(())
}
