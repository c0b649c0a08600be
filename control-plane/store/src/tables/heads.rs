//! Cluster heads: signed bytes that are inserted once and served unchanged.

use rap_types::{ClusterId, Digest, HeadOrder, Wall};
use sqlx::PgConnection;

use crate::counted::may_conflict;
use crate::query::{done, optional, plain_row, statements};
use crate::{Result, StoreError};

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

plain_row!(HeadOrder { incarnation, version, refresh });
plain_row!(NewHeadRow { cluster: cluster_id, order: _, envelope, root, digest });
plain_row!(HeadRow { head: _, created_at });

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
    /// True if the order of the head was free.
    async fn inserted(new: &NewHeadRow) -> bool = may_conflict "INSERT INTO cluster_heads \
        (cluster_id, incarnation, version, refresh, envelope, root, digest) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    /// One lock per cluster: of two heads that name one previous, the second is inserted after the first is seen.
    async fn heads_lock(cluster: ClusterId) -> () = done
        "SELECT pg_advisory_xact_lock(hashtextextended('cluster_heads/' || $1::text, 0))";
    /// True if the order of the head was free and the head is at the tip of the chain.
    async fn inserted_at_tip(new: &NewHeadRow, previous: Option<Digest>) -> bool = may_conflict "INSERT INTO cluster_heads \
        (cluster_id, incarnation, version, refresh, envelope, root, digest) \
        SELECT $1, $2, $3, $4, $5, $6, $7 WHERE $8::bytea IS NOT DISTINCT FROM \
            (SELECT digest FROM cluster_heads WHERE cluster_id = $1 AND refresh = 0 \
             ORDER BY incarnation DESC, version DESC LIMIT 1) \
        ON CONFLICT DO NOTHING";
    /// The head of this order.
    pub(crate) async fn head_read(cluster: ClusterId, order: HeadOrder) -> Option<HeadRow> = optional
        head_select!("WHERE cluster_id = $1 AND incarnation = $2 AND version = $3 AND refresh = $4");
    /// The newest head, idle re-signs included.
    pub async fn head_newest(cluster: ClusterId) -> Option<HeadRow> = optional head_select!(
        "WHERE cluster_id = $1 ORDER BY incarnation DESC, version DESC, refresh DESC LIMIT 1"
    );
    /// The newest refresh-0 head: the one that the next refresh-0 head names as its previous.
    pub(crate) async fn head_newest_first(cluster: ClusterId) -> Option<HeadRow> = optional head_select!(
        "WHERE cluster_id = $1 AND refresh = 0 ORDER BY incarnation DESC, version DESC LIMIT 1"
    );
    /// Removes idle re-signs that a newer head replaced; returns how many. Refresh-0 heads stay.
    pub async fn heads_prune(cluster: ClusterId) -> u64 = may_conflict
        "DELETE FROM cluster_heads h WHERE h.cluster_id = $1 AND h.refresh > 0 \
        AND (h.incarnation, h.version, h.refresh) < (SELECT n.incarnation, n.version, n.refresh \
            FROM cluster_heads n WHERE n.cluster_id = $1 \
            ORDER BY n.incarnation DESC, n.version DESC, n.refresh DESC LIMIT 1)";
}

/// Inserts a refresh of a signed head unless its order is taken. Two replicas never have two heads of one
/// order. The winner is visible to the loser only after it committed, so the loser may wait for it here.
pub async fn head_insert(connection: &mut PgConnection, new: &NewHeadRow) -> Result<HeadInsert> {
    let inserted = inserted(connection, new).await?;
    outcome(connection, new, inserted).await
}

/// Inserts a refresh-0 head whose previous one has this digest, if that one is the tip of the cluster's chain.
/// A tip of the same order is [`HeadInsert::Lost`], another one [`HeadInsert::Overtaken`].
pub async fn head_insert_first(
    connection: &mut PgConnection,
    new: &NewHeadRow,
    previous: Option<Digest>,
) -> Result<HeadInsert> {
    // Two statements: one that waits for a lock would look for the tip in its old snapshot.
    heads_lock(connection, new.cluster).await?;
    let inserted = inserted_at_tip(connection, new, previous).await?;
    let outcome = outcome(connection, new, inserted).await?;
    if outcome == HeadInsert::Overtaken
        && head_newest_first(connection, new.cluster).await?.map(|tip| tip.head.digest) == previous
    {
        return Err(StoreError::Miscounted { table: "cluster_heads", rows: 0 });
    }
    Ok(outcome)
}

async fn outcome(connection: &mut PgConnection, new: &NewHeadRow, inserted: bool) -> Result<HeadInsert> {
    if inserted {
        return Ok(HeadInsert::Inserted);
    }
    let stored = head_read(connection, new.cluster, new.order).await?;
    Ok(stored.map_or(HeadInsert::Overtaken, HeadInsert::Lost))
}
