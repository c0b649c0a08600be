//! Keys of a cluster: authority records and certificate authorities. Private keys arrive sealed and leave
//! sealed.

use rap_authority::RowKeys;
use rap_contract::KeyState;
use rap_types::ClusterId;

use crate::Result;
use crate::authentic::{Authentic, Held, all_verified, held, insert, update};
use crate::query::{one, statements};
use crate::row::{authentic_row, select};
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
    /// Whether the key waits, signs, was replaced, or is not trusted.
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
    /// Private key of the CA, sealed for (`cluster_cas`, `sealed_key`); `None` once the CA is revoked.
    pub sealed_key: Option<Vec<u8>>,
    /// Whether the CA waits, signs, is only trusted, or has ended.
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
    /// The whole chain, sequence 1..n.
    pub async fn authorities_list(keys) -> Vec<AuthorityRow> = all_verified AuthorityRow::ALL;
    /// Place of the newest link; 0 without any.
    pub async fn authority_sequence(cluster: ClusterId) -> u64 = one
        "SELECT coalesce(max(sequence), 0) AS sequence FROM cluster_authorities WHERE cluster_id = $1";
    /// One link, locked.
    pub async fn authority_hold(keys, sequence: u64) -> Option<Held<AuthorityRow>> = held
        select!(AuthorityRow, "WHERE cluster_id = $1 AND sequence = $2 FOR UPDATE");
    /// The certificate authorities that nodes trust, older first: one, or two while it is rotated.
    pub async fn cluster_cas_trusted(keys) -> Vec<ClusterCaRow> = all_verified
        select!(ClusterCaRow, "WHERE cluster_id = $1 AND state <> 'revoked' ORDER BY generation");
    /// Every certificate authority of a cluster, in whatever state.
    pub async fn cluster_cas_list(keys) -> Vec<ClusterCaRow> = all_verified ClusterCaRow::ALL;
    /// One certificate authority, locked.
    pub async fn cluster_ca_hold(keys, generation: u64) -> Option<Held<ClusterCaRow>> = held
        select!(ClusterCaRow, "WHERE cluster_id = $1 AND generation = $2 FOR UPDATE");
    /// Adds a certificate authority.
    pub async fn cluster_ca_insert(keys, new: &ClusterCaRow) = insert_key;
    /// Writes what of a certificate authority may change: its state, and how its key is sealed.
    pub async fn cluster_ca_write(keys, row: Held<ClusterCaRow>) = write_key;
    /// Adds a link to the chain. Two records of one sequence, or of one key, are refused with
    /// [`crate::StoreError::Exists`].
    pub async fn authority_insert(keys, new: &AuthorityRow) = insert_key;
    /// Writes what of a link may change: its state, and how its key is sealed.
    pub async fn authority_write(keys, row: Held<AuthorityRow>) = write_key;
}

/// Adds a key of a cluster, which whoever serves the cluster then reads again.
async fn insert_key<R: Authentic>(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &R,
) -> Result<()> {
    transaction.effects.keys.insert(keys.cluster());
    insert(transaction, keys, new).await
}

/// The same for a change of one.
async fn write_key<R: Authentic>(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    row: Held<R>,
) -> Result<R> {
    transaction.effects.keys.insert(keys.cluster());
    update(transaction, keys, row).await
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
