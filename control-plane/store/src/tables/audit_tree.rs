//! The audit tree in the database: the sequencer's term, the indexes of entries, log keys, checkpoints.
//!
//! Owns the fence: every write of a sequencer is conditional, in its statement, on the fencing number
//! of its term, so that a sequencer whose term was taken over while it slept changes nothing. Refuses to own
//! hashing and signing.

use std::time::Duration;

use rap_types::Digest;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::columns::{Bound as _, counter, plain_row, read, statements};
use crate::{Result, StoreError};

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

impl FromRow<'_, PgRow> for AuditTreeRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
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
    AUDIT_TREE_READ = "SELECT size, frontier, fence FROM audit_tree";
    AUDIT_TERM_TAKE = "UPDATE audit_tree SET holder = $1, fence = fence + 1, \
        lease_until = clock_timestamp() + $2 * interval '1 millisecond' \
        WHERE lease_until < clock_timestamp() RETURNING fence";
    AUDIT_TERM_SEIZE = "UPDATE audit_tree SET holder = $1, fence = fence + 1, \
        lease_until = clock_timestamp() + $2 * interval '1 millisecond' RETURNING fence";
    AUDIT_TERM_RENEW = "UPDATE audit_tree \
        SET lease_until = clock_timestamp() + $3 * interval '1 millisecond' WHERE holder = $1 AND fence = $2";
    AUDIT_TERM_END = "UPDATE audit_tree SET lease_until = '-infinity' WHERE holder = $1 AND fence = $2";
    AUDIT_TREE_GROW = "UPDATE audit_tree SET size = size + cardinality($3::bigint[]), frontier = $4 \
        WHERE fence = $1 AND size = $2";
    AUDIT_SEQUENCE = "UPDATE audit_log SET sequence = $1 + placed.at - 1 \
        FROM unnest($2::bigint[]) WITH ORDINALITY AS placed (entry, at) \
        WHERE audit_log.entry_id = placed.entry AND audit_log.sequence IS NULL";
    LOG_KEYS = "SELECT generation, record, public_key, sealed_private_key FROM audit_log_keys ORDER BY generation";
    LOG_KEY_INSERT = "INSERT INTO audit_log_keys (generation, record, public_key, sealed_private_key) \
        SELECT $1, $2, $3, $4 FROM (SELECT size FROM audit_tree WHERE fence = $5 AND size = $6 FOR UPDATE) AS held \
        ON CONFLICT DO NOTHING";
    CHECKPOINT_INSERT = "INSERT INTO audit_checkpoints (generation, size, root, note, fence) \
        SELECT $1, $2, $3, $4, $5 \
        FROM (SELECT size FROM audit_tree WHERE fence = $5 AND size >= $2 FOR UPDATE) AS held \
        ON CONFLICT DO NOTHING";
    CHECKPOINT_READ = "SELECT generation, size, root, note FROM audit_checkpoints \
        WHERE generation = $1 AND size = $2";
    CHECKPOINT_NEWEST = "SELECT generation, size, root, note FROM audit_checkpoints \
        ORDER BY generation DESC, size DESC LIMIT 1";
    CHECKPOINTS = "SELECT generation, size, root, note FROM audit_checkpoints \
        WHERE generation = $1 AND size <= $2 ORDER BY size DESC LIMIT $3";
}

/// Size of the tree, and the fencing number of the present or last term.
pub async fn audit_tree_read(connection: &mut PgConnection) -> Result<AuditTreeRow> {
    Ok(sqlx::query_as(AUDIT_TREE_READ).fetch_one(connection).await?)
}

/// Starts a term if the last one ended; the number returned fences off every earlier sequencer.
pub async fn audit_term_take(
    connection: &mut PgConnection,
    holder: [u8; 16],
    life: Duration,
) -> Result<Option<u64>> {
    let row = sqlx::query(AUDIT_TERM_TAKE)
        .bind(Uuid::from_bytes(holder))
        .bind(milliseconds(life))
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| read(&row, "fence")).transpose()?)
}

/// Starts a term and ends the running one of another sequencer.
pub async fn audit_term_seize(
    connection: &mut PgConnection,
    holder: [u8; 16],
    life: Duration,
) -> Result<u64> {
    let row = sqlx::query(AUDIT_TERM_SEIZE)
        .bind(Uuid::from_bytes(holder))
        .bind(milliseconds(life))
        .fetch_one(connection)
        .await?;
    Ok(read(&row, "fence")?)
}

/// Prolongs the term; false if another sequencer started one.
pub async fn audit_term_renew(
    connection: &mut PgConnection,
    holder: [u8; 16],
    fence: u64,
    life: Duration,
) -> Result<bool> {
    let query = sqlx::query(AUDIT_TERM_RENEW)
        .bind(Uuid::from_bytes(holder))
        .bind(counter("fence", fence)?)
        .bind(milliseconds(life));
    Ok(query.execute(connection).await?.rows_affected() == 1)
}

/// Ends the term, so that the next sequencer can start one at once.
pub async fn audit_term_end(connection: &mut PgConnection, holder: [u8; 16], fence: u64) -> Result<()> {
    let query = sqlx::query(AUDIT_TERM_END).bind(Uuid::from_bytes(holder)).bind(counter("fence", fence)?);
    query.execute(connection).await?;
    Ok(())
}

/// Gives `entries` the indexes from `size` on, in this order, and stores the frontier after them. False
/// if the fence or the size is another now: nothing was changed.
///
/// # Errors
/// [`StoreError::Contended`] if an entry is sequenced already or is gone: the transaction must be given up.
pub async fn audit_sequence(
    connection: &mut PgConnection,
    fence: u64,
    size: u64,
    entries: &[u64],
    frontier: &[Digest],
) -> Result<bool> {
    let numbers: Vec<i64> =
        entries.iter().map(|entry| counter("entry_id", *entry)).collect::<Result<_, _>>()?;
    let hashes: Vec<u8> = frontier.iter().flat_map(|hash| *hash.as_bytes()).collect();
    let grown = sqlx::query(AUDIT_TREE_GROW)
        .bind(counter("fence", fence)?)
        .bind(counter("size", size)?)
        .bind(&numbers)
        .bind(hashes)
        .execute(&mut *connection)
        .await?;
    if grown.rows_affected() != 1 {
        return Ok(false);
    }
    let placed = sqlx::query(AUDIT_SEQUENCE)
        .bind(counter("size", size)?)
        .bind(&numbers)
        .execute(connection)
        .await?
        .rows_affected();
    if placed != entries.len() as u64 {
        return Err(StoreError::Contended("an audit row is sequenced already or is gone".to_owned()));
    }
    Ok(true)
}

/// Every generation of the log, first to last.
pub async fn log_keys(connection: &mut PgConnection) -> Result<Vec<LogKeyRow>> {
    Ok(sqlx::query_as(LOG_KEYS).fetch_all(connection).await?)
}

/// Begins a generation with a tree of `size` entries. False if the fence or the size is another now,
/// or the generation exists.
pub async fn log_key_insert(
    connection: &mut PgConnection,
    fence: u64,
    size: u64,
    new: &LogKeyRow,
) -> Result<bool> {
    let done = sqlx::query_with(LOG_KEY_INSERT, new.arguments()?)
        .bind(counter("fence", fence)?)
        .bind(counter("size", size)?)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Inserts a signed checkpoint under the fence, unless its size has one.
pub async fn audit_checkpoint_insert(
    connection: &mut PgConnection,
    fence: u64,
    new: &CheckpointRow,
) -> Result<CheckpointInsert> {
    let done = sqlx::query_with(CHECKPOINT_INSERT, new.arguments()?)
        .bind(counter("fence", fence)?)
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 1 {
        return Ok(CheckpointInsert::Inserted);
    }
    let present = sqlx::query_as(CHECKPOINT_READ)
        .bind(counter("generation", new.generation)?)
        .bind(counter("size", new.size)?)
        .fetch_optional(connection)
        .await?;
    Ok(present.map_or(CheckpointInsert::Fenced, CheckpointInsert::Present))
}

/// The newest checkpoint.
pub async fn audit_checkpoint_newest(connection: &mut PgConnection) -> Result<Option<CheckpointRow>> {
    Ok(sqlx::query_as(CHECKPOINT_NEWEST).fetch_optional(connection).await?)
}

/// The newest checkpoints of a generation up to `size`, by size, at most `limit`.
pub async fn audit_checkpoints(
    connection: &mut PgConnection,
    generation: u64,
    size: u64,
    limit: u32,
) -> Result<Vec<CheckpointRow>> {
    let mut rows: Vec<CheckpointRow> = sqlx::query_as(CHECKPOINTS)
        .bind(counter("generation", generation)?)
        .bind(counter("size", size)?)
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await?;
    rows.reverse();
    Ok(rows)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
