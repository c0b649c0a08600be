//! Cluster heads: signed bytes that are inserted once and served unchanged.

use rap_types::{ClusterId, Digest, HeadOrder, Wall};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection};

use crate::StoreError;
use crate::columns::{counter, read, statements};

/// A head as signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHeadRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Its order.
    pub order: HeadOrder,
    /// Encoded envelope: bytes and signature together.
    pub envelope: Vec<u8>,
    /// Merkle root it signs.
    pub root: Digest,
    /// Digest by which the next head names it.
    pub digest: Digest,
}

/// A head as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRow {
    /// As inserted.
    pub head: NewHeadRow,
    /// When it was inserted.
    pub created_at: Wall,
}

/// What became of [`head_insert`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadInsert {
    /// This head is the one of its order.
    Inserted,
    /// Another replica was first: serve its bytes. Another root under an equal previous head is
    /// `planner.divergence`.
    Lost(HeadRow),
    /// The chain's tip is another head than the one that this head names: read and plan again.
    Overtaken,
}

impl FromRow<'_, PgRow> for HeadRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            head: NewHeadRow {
                cluster: read(row, "cluster_id")?,
                order: HeadOrder::new(
                    read(row, "incarnation")?,
                    read(row, "version")?,
                    read(row, "refresh")?,
                ),
                envelope: read(row, "envelope")?,
                root: read(row, "root")?,
                digest: read(row, "digest")?,
            },
            created_at: read(row, "created_at")?,
        })
    }
}

macro_rules! head_select {
    ($rest:literal) => {
        concat!(
            "SELECT cluster_id, incarnation, version, refresh, envelope, root, digest, created_at \
             FROM cluster_heads ",
            $rest
        )
    };
}

statements! {
    HEAD_INSERT = "INSERT INTO cluster_heads \
        (cluster_id, incarnation, version, refresh, envelope, root, digest) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    /// At the tip of the chain only. One lock per cluster: of two heads that name one previous, the second is
    /// inserted after the first is seen.
    HEADS_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('cluster_heads/' || $1::text, 0))";
    HEAD_INSERT_FIRST = "INSERT INTO cluster_heads \
        (cluster_id, incarnation, version, refresh, envelope, root, digest) \
        SELECT $1, $2, $3, $4, $5, $6, $7 WHERE $8::bytea IS NOT DISTINCT FROM \
            (SELECT digest FROM cluster_heads WHERE cluster_id = $1 AND refresh = 0 \
             ORDER BY incarnation DESC, version DESC LIMIT 1) \
        ON CONFLICT DO NOTHING";
    HEAD_READ =
        head_select!("WHERE cluster_id = $1 AND incarnation = $2 AND version = $3 AND refresh = $4");
    HEAD_NEWEST = head_select!(
        "WHERE cluster_id = $1 ORDER BY incarnation DESC, version DESC, refresh DESC LIMIT 1"
    );
    HEAD_NEWEST_FIRST = head_select!(
        "WHERE cluster_id = $1 AND refresh = 0 ORDER BY incarnation DESC, version DESC LIMIT 1"
    );
    HEADS_PRUNE = "DELETE FROM cluster_heads h WHERE h.cluster_id = $1 AND h.refresh > 0 \
        AND (h.incarnation, h.version, h.refresh) < (SELECT n.incarnation, n.version, n.refresh \
            FROM cluster_heads n WHERE n.cluster_id = $1 \
            ORDER BY n.incarnation DESC, n.version DESC, n.refresh DESC LIMIT 1)";
}

/// Inserts a refresh of a signed head unless its order is taken. Two replicas never have two heads of one
/// order. The winner is visible to the loser only after it committed, so the loser may wait for it here.
pub async fn head_insert(connection: &mut PgConnection, new: &NewHeadRow) -> Result<HeadInsert, StoreError> {
    let done = bound(HEAD_INSERT, new)?.execute(&mut *connection).await?;
    outcome(connection, new, done.rows_affected()).await
}

/// Inserts a refresh-0 head whose previous one has this digest, if that one is the tip of the cluster's chain.
/// A tip of the same order is [`HeadInsert::Lost`], another one [`HeadInsert::Overtaken`].
pub async fn head_insert_first(
    connection: &mut PgConnection,
    new: &NewHeadRow,
    previous: Option<Digest>,
) -> Result<HeadInsert, StoreError> {
    // Two statements: one that waits for a lock would look for the tip in its old snapshot.
    sqlx::query(HEADS_LOCK).bind(new.cluster.uuid()).execute(&mut *connection).await?;
    let query = bound(HEAD_INSERT_FIRST, new)?.bind(previous.map(Digest::to_vec));
    let done = query.execute(&mut *connection).await?;
    outcome(connection, new, done.rows_affected()).await
}

fn bound(
    statement: &'static str,
    new: &NewHeadRow,
) -> Result<sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>, StoreError> {
    Ok(sqlx::query(statement)
        .bind(new.cluster.uuid())
        .bind(counter("incarnation", new.order.incarnation.0)?)
        .bind(counter("version", new.order.version.0)?)
        .bind(counter("refresh", new.order.refresh.0)?)
        .bind(new.envelope.clone())
        .bind(new.root.to_vec())
        .bind(new.digest.to_vec()))
}

async fn outcome(
    connection: &mut PgConnection,
    new: &NewHeadRow,
    inserted: u64,
) -> Result<HeadInsert, StoreError> {
    if inserted == 1 {
        return Ok(HeadInsert::Inserted);
    }
    let stored = head_read(connection, new.cluster, new.order).await?;
    Ok(stored.map_or(HeadInsert::Overtaken, HeadInsert::Lost))
}

/// The head of this order.
pub(crate) async fn head_read(
    connection: &mut PgConnection,
    cluster: ClusterId,
    order: HeadOrder,
) -> Result<Option<HeadRow>, StoreError> {
    let query = sqlx::query_as(HEAD_READ)
        .bind(cluster.uuid())
        .bind(counter("incarnation", order.incarnation.0)?)
        .bind(counter("version", order.version.0)?)
        .bind(counter("refresh", order.refresh.0)?);
    Ok(query.fetch_optional(connection).await?)
}

/// The newest head, idle re-signs included.
pub async fn head_newest(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Option<HeadRow>, StoreError> {
    Ok(sqlx::query_as(HEAD_NEWEST).bind(cluster.uuid()).fetch_optional(connection).await?)
}

/// The newest refresh-0 head: the one that the next refresh-0 head names as its previous.
pub(crate) async fn head_newest_first(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Option<HeadRow>, StoreError> {
    Ok(sqlx::query_as(HEAD_NEWEST_FIRST).bind(cluster.uuid()).fetch_optional(connection).await?)
}

/// Removes idle re-signs that a newer head replaced; returns how many. Refresh-0 heads stay.
pub async fn heads_prune(connection: &mut PgConnection, cluster: ClusterId) -> Result<u64, StoreError> {
    Ok(sqlx::query(HEADS_PRUNE).bind(cluster.uuid()).execute(connection).await?.rows_affected())
}
