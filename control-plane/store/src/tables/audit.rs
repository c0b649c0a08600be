//! The audit log: one row per change, in the change's transaction, authenticated when it is written.
//!
//! Rows cannot be altered or removed by the roles that serve; their sequence is filled once, later
//! (see `audit_tree`). A row is written with an [`AuditWriter`], so none lacks its MAC.

use std::ops::Range;

use rap_authority::AuditKey;
use rap_contract::AuditEntry;
use rap_types::{ClusterId, Digest, OrganizationId, RequestId, Wall};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use crate::Result;
use crate::columns::{Instant, bound, counter, read, timestamp};
use crate::counted::one_row;
use crate::query::{Bound, Readable, all, one, statements};
use crate::row_name::RowName;
use crate::transaction::{Bytes, SystemTransaction};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAuditRow {
    /// Cluster it concerns.
    pub cluster: Option<ClusterId>,
    /// Organization it concerns, which then sees it.
    pub organization: Option<OrganizationId>,
    /// Who: `operator:<name>`, `token:<id>`, `node:<id>`, `system`.
    pub actor: String,
    /// What, as a noun and a verb: `node.approve`.
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

/// What a row is written with: the key of its MAC, and the device of whoever caused it.
#[derive(Debug, Clone)]
pub struct AuditWriter {
    key: AuditKey,
    device: String,
}

impl AuditWriter {
    /// A pen of the control plane itself.
    pub fn new(key: AuditKey) -> Self {
        Self { key, device: String::new() }
    }

    /// A pen of a caller.
    #[must_use]
    pub fn of_device(&self, device: impl Into<String>) -> Self {
        Self { key: self.key.clone(), device: device.into() }
    }

    /// The key of the MACs.
    pub fn key(&self) -> &AuditKey {
        &self.key
    }
}

/// An entry as stored. Its MAC is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// What is hashed.
    pub entry: AuditEntry,
    /// Leaf index in the audit tree, once sequenced.
    pub sequence: Option<u64>,
    /// MAC over the entry; rows of releases before the tree have none.
    pub row_mac: Option<[u8; 32]>,
}

impl Readable for AuditRow {
    fn of_row(row: &PgRow) -> sqlx::Result<Self> {
        let recorded_at: Instant = row.try_get("recorded_at")?;
        Ok(Self {
            entry: AuditEntry {
                entry: read(row, "entry_id")?,
                recorded_at_us: recorded_at.micros(),
                cluster: read(row, "cluster_id")?,
                organization: read(row, "organization_id")?,
                actor: read(row, "actor")?,
                device: read(row, "device")?,
                action: read(row, "action")?,
                object: read(row, "object")?,
                before_digest: read(row, "before_digest")?,
                after_digest: read(row, "after_digest")?,
                reason: read(row, "reason")?,
                request: read(row, "request_id")?,
            },
            sequence: read(row, "sequence")?,
            row_mac: read(row, "row_mac")?,
        })
    }
}

/// Which entries to list; `None` is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this cluster.
    pub cluster: Option<ClusterId>,
    /// By exactly this actor.
    pub actor: Option<String>,
    /// Exactly this action.
    pub action: Option<String>,
    /// Not earlier than this.
    pub since: Option<Wall>,
    /// Only rows with a lower number than this.
    pub before: Option<u64>,
}

macro_rules! audit_select {
    ($rest:literal) => {
        concat!(
            "SELECT entry_id, sequence, recorded_at, cluster_id, organization_id, actor, device, action, \
             object, before_digest, after_digest, reason, request_id, row_mac FROM audit_log ",
            $rest
        )
    };
}

statements! {
    AUDIT_NUMBER = "SELECT nextval('audit_log_entry_id_seq') AS entry_id, clock_timestamp() AS recorded_at";
    async fn entry_insert(arguments) -> () = one_row "INSERT INTO audit_log (entry_id, recorded_at, cluster_id, organization_id, actor, device, \
        action, object, before_digest, after_digest, reason, request_id, row_mac) OVERRIDING SYSTEM VALUE \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    AUDIT_MAC = "SELECT row_mac FROM audit_log WHERE entry_id = $1";
    AUDIT_LIST = audit_select!("WHERE ($1::uuid IS NULL OR cluster_id = $1) AND ($2::text IS NULL OR actor = $2) \
        AND ($3::text IS NULL OR action = $3) AND ($4::timestamptz IS NULL OR recorded_at >= $4) \
        AND ($5::bigint IS NULL OR entry_id < $5) ORDER BY entry_id DESC LIMIT $6");
    /// Committed entries that are not sequenced yet, lowest number first, at most `limit`.
    pub async fn audit_unsequenced(limit: u32) -> Vec<AuditRow> = all
        audit_select!("WHERE sequence IS NULL ORDER BY entry_id LIMIT $1");
    /// The entries at these indexes of the tree that exist, in this order.
    pub async fn audit_leaves(sequence: Range<u64>) -> Vec<AuditRow> = all
        audit_select!("WHERE sequence >= $1 AND sequence < $2 ORDER BY sequence");
    /// Number of committed entries that are not sequenced yet.
    pub async fn audit_waiting() -> u64 = one "SELECT count(entry_id) FROM audit_log WHERE sequence IS NULL";
}

/// Adds an entry, in the transaction of the change it tells of; returns its number.
pub async fn audit_insert(
    transaction: &mut SystemTransaction,
    pen: &AuditWriter,
    new: &NewAuditRow,
) -> Result<u64> {
    let drawn = sqlx::query(AUDIT_NUMBER).fetch_one(&mut **transaction).await?;
    let recorded_at: Instant = drawn.try_get("recorded_at")?;
    let entry = AuditEntry {
        entry: read(&drawn, "entry_id")?,
        recorded_at_us: recorded_at.micros(),
        cluster: new.cluster,
        organization: new.organization,
        actor: new.actor.clone(),
        device: pen.device.clone(),
        action: new.action.clone(),
        object: new.object.clone(),
        before_digest: new.before_digest,
        after_digest: new.after_digest,
        reason: new.reason.clone(),
        request: new.request,
    };
    let mac = pen.key.mac(&entry);
    let row = RowName { table: "audit_log", key: entry.entry.to_string() };
    let arguments = bound!(
        counter("entry_id", entry.entry)?,
        recorded_at,
        entry.cluster.map(|id| id.uuid()),
        entry.organization.map(|id| id.uuid()),
        &entry.actor,
        &entry.device,
        &entry.action,
        &entry.object,
        entry.before_digest.map(|digest| digest.to_vec()),
        entry.after_digest.map(|digest| digest.to_vec()),
        &entry.reason,
        entry.request.uuid(),
        mac.as_slice(),
    );
    entry_insert(transaction, arguments).await?;
    transaction.expect(Bytes {
        statement: AUDIT_MAC,
        key: bound!(counter("entry_id", entry.entry)?),
        row,
        value: Some(mac.to_vec()),
    });
    Ok(entry.entry)
}

/// The newest entries that pass the filter, newest first, at most `limit`.
pub async fn audit_list(
    connection: &mut PgConnection,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditRow>> {
    let arguments = bound!(
        filter.cluster.map(|id| id.uuid()),
        &filter.actor,
        &filter.action,
        filter.since.map(|since| timestamp("recorded_at", since)).transpose()?,
        filter.before.map(|before| counter("entry_id", before)).transpose()?,
        i64::from(limit),
    );
    all(Bound::of(AUDIT_LIST, arguments), connection).await
}
