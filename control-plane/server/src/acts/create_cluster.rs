//! Creates a cluster: its row, keys, certificate authority and first policies in one transaction.

use std::time::Duration;

use rap_authority::{ClusterOrder, ClusterTiming, DataKeys, InstallationFacts, NewCluster, RowKeys};
use rap_contract::KeyState;
use rap_store::{
    AuthorityRow, ClusterCaRow, ClusterRow, NewClusterRow, StoreError, SystemTransaction, authority_insert,
    cluster_ca_insert, cluster_insert, cluster_read, dek_insert, installation_hold,
};
use rap_types::{Digest, Reason};

use crate::acts::policy::first_policies;
use crate::database::change::{Acting, Change};
use crate::database::handle::Database;
use crate::failure::Failure;
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::data_keys::DataKeyOpener;
use crate::keys::handle::Keys;
use crate::keys::key_encryption_key::require_current;
use crate::keys::seal_context::Sealed;

/// Writes the rows of a new cluster: itself, its data key, authority, certificate authority and policies.
pub(crate) async fn insert_cluster(
    transaction: &mut SystemTransaction,
    installation: &InstallationFacts,
    keyring: &DataKeyOpener,
    new: &NewCluster,
    name: &str,
    timing: &ClusterTiming,
    ca: &CertificateAuthority,
) -> Result<(), Failure> {
    let row = cluster_row(installation, new, name, timing);
    let rows = &RowKeys::of_data_keys(installation.id, new.id, &DataKeys::first(&new.data_key), None);
    cluster_insert(transaction, rows, &row).await?;
    insert_keys(transaction, installation, keyring, new, ca).await?;
    first_policies(transaction, rows).await
}

/// The row of a new cluster.
pub(crate) fn cluster_row(
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
        sealed_map_key: Sealed::MapKey(new.id).seal(&keys, installation.id, new.map_key.as_slice()),
    }
}

/// Writes the keys of a new cluster: data key, authority and certificate authority.
pub(crate) async fn insert_keys(
    transaction: &mut SystemTransaction,
    installation: &InstallationFacts,
    keyring: &DataKeyOpener,
    new: &NewCluster,
    ca: &CertificateAuthority,
) -> Result<(), Failure> {
    let keys = &DataKeys::first(&new.data_key);
    let rows = &RowKeys::of_data_keys(installation.id, new.id, keys, None);
    dek_insert(transaction, &keyring.wrap(new.id, 1, &new.data_key)).await?;
    let authority = AuthorityRow {
        cluster: new.id,
        sequence: 1,
        record: new.record.clone(),
        public_key: *new.authority.public().as_bytes(),
        sealed_private_key: Some(Sealed::ClusterAuthority(new.id, 1).seal(
            keys,
            installation.id,
            new.authority.seed().as_slice(),
        )),
        state: KeyState::Active,
    };
    authority_insert(transaction, rows, &authority).await?;
    let ca = ClusterCaRow {
        cluster: new.id,
        generation: 1,
        cert_der: ca.certificate().to_vec(),
        sealed_key: Some(Sealed::ClusterCa(new.id, 1).seal(keys, installation.id, &ca.private_key())),
        state: KeyState::Active,
    };
    Ok(cluster_ca_insert(transaction, rows, &ca).await?)
}

pub(crate) async fn write_cluster(
    keys: &Keys,
    database: &Database,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    new: &NewCluster,
    order: &ClusterOrder<'_>,
    ca: &CertificateAuthority,
) -> Result<ClusterRow, Failure> {
    let facts = &keys.installation.facts;
    // Held against a rotation: what is sealed here stays readable.
    installation_hold(transaction).await?;
    require_current(transaction, &keys.kek).await?;
    match insert_cluster(
        transaction,
        facts,
        &keys.keyring(&database.floors),
        new,
        order.name,
        &order.timing,
        ca,
    )
    .await
    {
        Err(failure) if failure.reason == Reason::ResourceExists => {
            return Err(Failure::new(Reason::ResourceExists, "a cluster has this name or this key"));
        }
        outcome => outcome?,
    }
    let change = Change::of("cluster.create", format!("cluster/{}", new.id)).inside(new.id);
    let change = change.after(Digest::of(&[&new.record]));
    change.touches(new.id, ["trust", "policy"], false).record(transaction, acting).await?;
    let rows = RowKeys::of_cluster(facts.id, new.id, &new.data_key);
    Ok(cluster_read(transaction, &rows).await?.ok_or(StoreError::Absent)?)
}
