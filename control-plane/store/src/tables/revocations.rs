//! The signed chain of revocations of each cluster, append-only.

use rap_types::ClusterId;

use crate::Result;
use crate::columns::{bound, counter};
use crate::counted::one_row;
use crate::query::{all, plain_row, statements};
use crate::row_name::RowName;
use crate::signed_copy::SignedCopy;
use crate::transaction::{Bytes, SystemTransaction};

/// One link as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationRow {
    /// Position in the chain, from 1.
    pub sequence: u64,
    /// Encoded envelope.
    pub record: Vec<u8>,
}

plain_row!(RevocationRow { sequence, record });

statements! {
    /// Adds the link `sequence`.
    async fn link_insert(cluster: ClusterId, sequence: u64, record: &[u8]) -> () = one_row
        "INSERT INTO node_revocations (cluster_id, sequence, record) VALUES ($1, $2, $3)";
    REVOCATION_READ = "SELECT record FROM node_revocations WHERE cluster_id = $1 AND sequence = $2";
    /// Links from position `sequence` on, in order, at most `limit`.
    pub async fn revocations_from(cluster: ClusterId, sequence: u64, limit: u32) -> Vec<RevocationRow> = all
        "SELECT sequence, record FROM node_revocations \
        WHERE cluster_id = $1 AND sequence >= $2 ORDER BY sequence LIMIT $3";
}

/// Adds the link `sequence`. Positions are unique: of two writers at one position one fails.
pub async fn revocation_insert(
    transaction: &mut SystemTransaction,
    cluster: ClusterId,
    sequence: u64,
    record: &[u8],
) -> Result<()> {
    link_insert(transaction, cluster, sequence, record).await?;
    let copy = SignedCopy::Revocation { cluster, sequence, record: record.to_vec() };
    transaction.effects.copies.push(copy);
    transaction.expect(Bytes {
        statement: REVOCATION_READ,
        key: bound!(cluster.uuid(), counter("sequence", sequence)?),
        row: RowName { table: "node_revocations", key: format!("{cluster}/{sequence}") },
        value: Some(record.to_vec()),
    });
    Ok(())
}
