//! Cluster heads: signed bytes, inserted once, served as stored.

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
    /// Another replica was first: serve its bytes. A root other than one's own is
    /// `planner.divergence`.
    Lost(HeadRow),
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

/// Inserts a signed head unless its order is taken. Two replicas never have two heads of one order.
/// The winner is visible to the loser only after it committed, so the loser may wait for it here.
pub async fn head_insert(connection: &mut PgConnection, new: &NewHeadRow) -> Result<HeadInsert, StoreError> {
    let done = sqlx::query(HEAD_INSERT)
        .bind(new.cluster.uuid())
        .bind(counter("incarnation", new.order.incarnation.0)?)
        .bind(counter("version", new.order.version.0)?)
        .bind(counter("refresh", new.order.refresh.0)?)
        .bind(&new.envelope)
        .bind(new.root.as_bytes().as_slice())
        .bind(new.digest.as_bytes().as_slice())
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() == 1 {
        return Ok(HeadInsert::Inserted);
    }
    head_read(connection, new.cluster, new.order).await?.map(HeadInsert::Lost).ok_or(StoreError::Absent)
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
