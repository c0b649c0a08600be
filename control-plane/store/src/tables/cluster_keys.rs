//! Keys of a cluster: authority records and certificate authorities. Private keys arrive sealed and leave
//! sealed.

use rap_authority::RowKeys;
use rap_types::ClusterId;
use sqlx::PgConnection;

use crate::Result;
use crate::authentic::{Authentic as _, Held, all_verified, find, held, insert, update, verified};
use crate::columns::{counter, read, statements};
use crate::row::{authentic_row, select};
use crate::tables::key_state::KeyState;
use crate::transaction::SystemTransaction;

/// One link of a cluster's authority chain.
#[derive(Debug, Clone)]
pub struct AuthorityRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Place in the chain, from 1.
    pub sequence: u64,
    /// Encoded authority record.
    pub record: Vec<u8>,
    /// Key it names.
    pub public_key: [u8; 32],
    /// Its private half, sealed for (`cluster_authorities`, `sealed_private_key`); erased when revoked.
    pub sealed_private_key: Option<Vec<u8>>,
    /// Its life.
    pub state: KeyState,
}

/// A certificate authority of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterCaRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Generation, from 1.
    pub generation: u64,
    /// DER certificate.
    pub cert_der: Vec<u8>,
    /// Its key, sealed for (`cluster_cas`, `sealed_key`).
    pub sealed_key: Vec<u8>,
    /// Its life.
    pub state: KeyState,
}

authentic_row! {
    AuthorityRow { cluster: cluster_id, sequence, record, public_key, sealed_private_key, state }
    in "cluster_authorities";
    key cluster_id, sequence;
    record: Fixed, public_key: Fixed, sealed_private_key: Encrypted, state: Changes;
}

authentic_row! {
    ClusterCaRow { cluster: cluster_id, generation, cert_der, sealed_key, state } in "cluster_cas";
    key cluster_id, generation;
    cert_der: Fixed, sealed_key: Encrypted, state: Changes;
}

statements! {
    AUTHORITY_SEQUENCE = "SELECT coalesce(max(sequence), 0) AS sequence FROM cluster_authorities \
        WHERE cluster_id = $1";
    AUTHORITY_LOCK = select!(AuthorityRow, "WHERE cluster_id = $1 AND sequence = $2 FOR UPDATE");
    CLUSTER_CA_ACTIVE = select!(ClusterCaRow, "WHERE cluster_id = $1 AND state = 'active'");
    CLUSTER_CA_LOCK = select!(ClusterCaRow, "WHERE cluster_id = $1 AND generation = $2 FOR UPDATE");
}

/// Adds a link to the chain. Two records of one sequence, or of one key, are refused with
/// [`StoreError::Exists`].
pub async fn authority_insert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &AuthorityRow,
) -> Result<()> {
    transaction.effects.keys.insert(keys.cluster());
    insert(transaction, keys, new).await
}

/// The whole chain, sequence 1..n.
pub async fn authorities_list(connection: &mut PgConnection, keys: &RowKeys) -> Result<Vec<AuthorityRow>> {
    all_verified(find(AuthorityRow::ALL, keys), connection, keys).await
}

/// Place of the newest link; 0 without any.
pub async fn authority_sequence(connection: &mut PgConnection, cluster: ClusterId) -> Result<u64> {
    let row = sqlx::query(AUTHORITY_SEQUENCE).bind(cluster.uuid()).fetch_one(connection).await?;
    Ok(read(&row, "sequence")?)
}

/// One link, locked.
pub async fn authority_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
    sequence: u64,
) -> Result<Option<Held<AuthorityRow>>> {
    held(find(AUTHORITY_LOCK, keys).bind(counter("sequence", sequence)?), connection, keys).await
}

/// Writes what of a link may change: its state, and how its key is sealed.
pub async fn authority_write(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    row: Held<AuthorityRow>,
) -> Result<()> {
    transaction.effects.keys.insert(keys.cluster());
    update(transaction, keys, &row).await
}

/// Moves a key from one state to another; revoking erases its private half. False if it is not in
/// state `from`.
pub async fn authority_state_set(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    sequence: u64,
    from: KeyState,
    to: KeyState,
) -> Result<bool> {
    let row = authority_hold(transaction, keys, sequence).await?;
    let Some(mut row) = row.filter(|row| row.state == from) else { return Ok(false) };
    row.state = to;
    if to == KeyState::Revoked {
        row.sealed_private_key = None;
    }
    authority_write(transaction, keys, row).await?;
    Ok(true)
}

/// Adds a certificate authority.
pub async fn cluster_ca_insert(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &ClusterCaRow,
) -> Result<()> {
    insert(transaction, keys, new).await
}

/// The certificate authority that issues.
pub async fn cluster_ca_active(
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Option<ClusterCaRow>> {
    verified(find(CLUSTER_CA_ACTIVE, keys), connection, keys).await
}

/// Every certificate authority of a cluster, in whatever state.
pub async fn cluster_cas_list(connection: &mut PgConnection, keys: &RowKeys) -> Result<Vec<ClusterCaRow>> {
    all_verified(find(ClusterCaRow::ALL, keys), connection, keys).await
}

/// One certificate authority, locked.
pub async fn cluster_ca_hold(
    connection: &mut PgConnection,
    keys: &RowKeys,
    generation: u64,
) -> Result<Option<Held<ClusterCaRow>>> {
    held(find(CLUSTER_CA_LOCK, keys).bind(counter("generation", generation)?), connection, keys).await
}

/// Writes what of a certificate authority may change: its state, and how its key is sealed.
pub async fn cluster_ca_write(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    row: Held<ClusterCaRow>,
) -> Result<()> {
    update(transaction, keys, &row).await
}
