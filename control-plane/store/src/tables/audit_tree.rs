//! The audit tree in the database: the sequencer's term, the indexes of entries, log keys, checkpoints.
//!
//! Owns the fence: every write of a sequencer is conditional, in its statement, on the fencing number
//! of its term, so that a sequencer whose term was taken over while it slept changes nothing. Refuses to own
//! hashing and signing.

use std::time::Duration;

use rap_types::Digest;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use crate::Result;
use crate::columns::read;
use crate::counted::{may_conflict, may_conflict_returned, one_row_returned};
use crate::query::{Readable, all, one, optional, plain_row, statements};

/// The tree up to the last sequenced entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTreeRow {
    /// Number of sequenced entries.
    pub size: u64,
    /// Hashes of its perfect subtrees, the largest first.
    pub frontier: Vec<Digest>,
    /// Fencing number of the present or last term.
    pub fence: u64,
}

impl Readable for AuditTreeRow {
    fn of_row(row: &PgRow) -> sqlx::Result<Self> {
        let frontier: Vec<u8> = read(row, "frontier")?;
        let hashes = frontier.chunks_exact(32).filter_map(|hash| Digest::from_slice(hash).ok());
        Ok(Self { size: read(row, "size")?, frontier: hashes.collect(), fence: read(row, "fence")? })
    }
}

/// A generation of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeyRow {
    /// Its number, from 1.
    pub generation: u64,
    /// Encoded record that vouches for its key.
    pub record: Vec<u8>,
    /// Public half of the key.
    pub public_key: [u8; 32],
    /// Its private half, sealed for (`audit_log_keys`, `sealed_private_key`).
    pub sealed_private_key: Vec<u8>,
}

plain_row!(LogKeyRow { generation, record, public_key, sealed_private_key });

/// A checkpoint as signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Generation of the log.
    pub generation: u64,
    /// Number of entries it covers.
    pub size: u64,
    /// Root of their tree.
    pub root: Digest,
    /// The signed note.
    pub note: Vec<u8>,
}

plain_row!(CheckpointRow { generation, size, root, note });

/// What became of [`audit_checkpoint_insert`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointInsert {
    /// It is the one of its size.
    Inserted,
    /// This one was there before. Another root than one's own is a forked tree.
    Present(CheckpointRow),
    /// Another sequencer has the term.
    Fenced,
}

statements! {
    /// Size of the tree, and the fencing number of the present or last term.
    pub async fn audit_tree_read() -> AuditTreeRow = one "SELECT size, frontier, fence FROM audit_tree";
    /// Starts a term if the last one ended; the number returned fences off every earlier sequencer.
    pub async fn audit_term_take(holder: [u8; 16], life: Duration) -> Option<u64> = may_conflict_returned
        "UPDATE audit_tree SET holder = $1, fence = fence + 1, \
        lease_until = clock_timestamp() + $2 * interval '1 millisecond' \
        WHERE lease_until < clock_timestamp() RETURNING fence";
    /// Starts a term and ends the running one of another sequencer.
    pub async fn audit_term_seize(holder: [u8; 16], life: Duration) -> u64 = one_row_returned
        "UPDATE audit_tree SET holder = $1, fence = fence + 1, \
        lease_until = clock_timestamp() + $2 * interval '1 millisecond' RETURNING fence";
    /// Prolongs the term; false if another sequencer started one.
    pub async fn audit_term_renew(holder: [u8; 16], fence: u64, life: Duration) -> bool = may_conflict
        "UPDATE audit_tree \
        SET lease_until = clock_timestamp() + $3 * interval '1 millisecond' WHERE holder = $1 AND fence = $2";
    /// Ends the term, so that the next sequencer can start one at once.
    pub async fn audit_term_end(holder: [u8; 16], fence: u64) -> () = may_conflict
        "UPDATE audit_tree SET lease_until = '-infinity' WHERE holder = $1 AND fence = $2";
    /// Makes the tree larger by the entries, if the fence and the size are still these.
    async fn tree_grow(fence: u64, size: u64, entry_id: &[u64], frontier: &[u8]) -> bool = may_conflict
        "UPDATE audit_tree SET size = size + cardinality($3::bigint[]), frontier = $4 \
        WHERE fence = $1 AND size = $2";
    /// Gives entries their indexes from `size` on.
    async fn entries_place(size: u64, entry_id: &[u64]) -> () = exactly(entry_id.len())
        "UPDATE audit_log SET sequence = $1 + placed.at - 1 \
        FROM unnest($2::bigint[]) WITH ORDINALITY AS placed (entry, at) \
        WHERE audit_log.entry_id = placed.entry AND audit_log.sequence IS NULL";
    /// Every generation of the log, first to last.
    pub async fn log_keys() -> Vec<LogKeyRow> = all
        "SELECT generation, record, public_key, sealed_private_key FROM audit_log_keys ORDER BY generation";
    /// Begins a generation with a tree of `size` entries. False if the fence or the size is another now,
    /// or the generation exists.
    pub async fn log_key_insert(new: &LogKeyRow, fence: u64, size: u64) -> bool = may_conflict
        "INSERT INTO audit_log_keys (generation, record, public_key, sealed_private_key) \
        SELECT $1, $2, $3, $4 FROM (SELECT size FROM audit_tree WHERE fence = $5 AND size = $6 FOR UPDATE) AS held \
        ON CONFLICT DO NOTHING";
    /// Inserts a checkpoint unless the fence is another or its size has one.
    async fn checkpoint_insert(new: &CheckpointRow, fence: u64) -> bool = may_conflict
        "INSERT INTO audit_checkpoints (generation, size, root, note, fence) \
        SELECT $1, $2, $3, $4, $5 \
        FROM (SELECT size FROM audit_tree WHERE fence = $5 AND size >= $2 FOR UPDATE) AS held \
        ON CONFLICT DO NOTHING";
    /// The checkpoint of a size.
    async fn checkpoint_read(generation: u64, size: u64) -> Option<CheckpointRow> = optional
        "SELECT generation, size, root, note FROM audit_checkpoints \
        WHERE generation = $1 AND size = $2";
    /// The newest checkpoint.
    pub async fn audit_checkpoint_newest() -> Option<CheckpointRow> = optional
        "SELECT generation, size, root, note FROM audit_checkpoints \
        ORDER BY generation DESC, size DESC LIMIT 1";
    /// The newest checkpoints of a generation up to `size`, the largest first, at most `limit`.
    async fn checkpoints(generation: u64, size: u64, limit: u32) -> Vec<CheckpointRow> = all
        "SELECT generation, size, root, note FROM audit_checkpoints \
        WHERE generation = $1 AND size <= $2 ORDER BY size DESC LIMIT $3";
}

/// Gives `entries` the indexes from `size` on, in this order, and stores the frontier after them. False
/// if the fence or the size is another now: nothing was changed.
///
/// # Errors
/// [`crate::StoreError::Miscounted`] if an entry is sequenced already or is gone: nobody else sequences at this fence
/// and size. The transaction must be given up.
pub async fn audit_sequence(
    connection: &mut PgConnection,
    fence: u64,
    size: u64,
    entries: &[u64],
    frontier: &[Digest],
) -> Result<bool> {
    let hashes: Vec<u8> = frontier.iter().flat_map(|hash| *hash.as_bytes()).collect();
    if !tree_grow(connection, fence, size, entries, &hashes).await? {
        return Ok(false);
    }
    entries_place(connection, size, entries).await?;
    Ok(true)
}

/// Inserts a signed checkpoint under the fence, unless its size has one.
pub async fn audit_checkpoint_insert(
    connection: &mut PgConnection,
    fence: u64,
    new: &CheckpointRow,
) -> Result<CheckpointInsert> {
    if checkpoint_insert(connection, new, fence).await? {
        return Ok(CheckpointInsert::Inserted);
    }
    let present = checkpoint_read(connection, new.generation, new.size).await?;
    Ok(present.map_or(CheckpointInsert::Fenced, CheckpointInsert::Present))
}

/// The newest checkpoints of a generation up to `size`, by size, at most `limit`.
pub async fn audit_checkpoints(
    connection: &mut PgConnection,
    generation: u64,
    size: u64,
    limit: u32,
) -> Result<Vec<CheckpointRow>> {
    let mut rows = checkpoints(connection, generation, size, limit).await?;
    rows.reverse();
    Ok(rows)
}
