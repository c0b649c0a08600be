//! The audit log: one row per change, in the change's transaction. Rows cannot be altered or removed
//! by the roles that serve; their sequence is filled once, later.

use rap_types::{ClusterId, Digest, OrganizationId, RequestId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use crate::StoreError;
use crate::columns::{bytes32, counter, id, id_option, statements, unsigned, unsigned_option, wall};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAuditRow {
    /// Cluster it concerns.
    pub cluster: Option<ClusterId>,
    /// Organization it concerns, which then sees it.
    pub organization: Option<OrganizationId>,
    /// Who: `operator:<name>`, `token:<id>`, `system`.
    pub actor: String,
    /// What, as a verb with its object: `node.approve`.
    pub action: String,
    /// On what: `node/<id>`.
    pub object: String,
    /// Digest of the object before; `None` if it was made.
    pub before_digest: Option<Digest>,
    /// Digest of the object after; `None` if it is gone.
    pub after_digest: Option<Digest>,
    /// Reason code or the words an operator gave; may be empty.
    pub reason: String,
    /// Call it belongs to.
    pub request: RequestId,
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Number of the row; neither gapless nor in commit order.
    pub entry: u64,
    /// Leaf index in the audit tree, once sequenced.
    pub sequence: Option<u64>,
    /// When.
    pub recorded_at: Wall,
    /// What.
    pub audit: NewAuditRow,
}

impl FromRow<'_, PgRow> for AuditRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let digest = |column| -> sqlx::Result<Option<Digest>> {
            if row.try_get::<Option<&[u8]>, _>(column)?.is_none() {
                return Ok(None);
            }
            bytes32(row, column).map(Digest::from_bytes).map(Some)
        };
        Ok(Self {
            entry: unsigned(row, "entry_id")?,
            sequence: unsigned_option(row, "sequence")?,
            recorded_at: wall(row, "recorded_at")?,
            audit: NewAuditRow {
                cluster: id_option(row, "cluster_id")?,
                organization: id_option(row, "organization_id")?,
                actor: row.try_get("actor")?,
                action: row.try_get("action")?,
                object: row.try_get("object")?,
                before_digest: digest("before_digest")?,
                after_digest: digest("after_digest")?,
                reason: row.try_get("reason")?,
                request: id(row, "request_id")?,
            },
        })
    }
}

statements! {
    AUDIT_INSERT = "INSERT INTO audit_log (cluster_id, organization_id, actor, action, object, \
        before_digest, after_digest, reason, request_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    AUDIT_LIST = "SELECT entry_id, sequence, recorded_at, cluster_id, organization_id, actor, action, \
        object, before_digest, after_digest, reason, request_id FROM audit_log WHERE entry_id > $1 \
        ORDER BY entry_id LIMIT $2";
}

/// Adds an entry, in the transaction of the change it tells of.
pub async fn audit_insert(connection: &mut PgConnection, new: &NewAuditRow) -> Result<(), StoreError> {
    sqlx::query(AUDIT_INSERT)
        .bind(new.cluster.map(|id| id.uuid()))
        .bind(new.organization.map(|id| id.uuid()))
        .bind(&new.actor)
        .bind(&new.action)
        .bind(&new.object)
        .bind(new.before_digest.map(|digest| digest.to_vec()))
        .bind(new.after_digest.map(|digest| digest.to_vec()))
        .bind(&new.reason)
        .bind(new.request.uuid())
        .execute(connection)
        .await?;
    Ok(())
}

/// Entries after row number `after`, at most `limit`.
pub async fn audit_list(
    connection: &mut PgConnection,
    after: u64,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let query = sqlx::query_as(AUDIT_LIST).bind(counter("entry_id", after)?).bind(i64::from(limit));
    Ok(query.fetch_all(connection).await?)
}
