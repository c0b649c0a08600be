//! All rows with a MAC of one cluster or of the installation.
//!
//! Owns verifying all of them and sealing them in place: rows of a release without MACs in one transaction, rows under a
//! data key that is being replaced in batches. Refuses to seal a row whose MAC is valid under no key.

use rap_authority::RowKeys;
use rap_types::ClusterId;
use sqlx::PgConnection;

use super::addresses::AddressRow;
use super::cluster_keys::{AuthorityRow, ClusterCaRow};
use super::clusters::{ClusterRow, PolicyRow};
use super::idempotency::IdempotencyRow;
use super::join_requests::JoinRequestRow;
use super::nodes::NodeRow;
use super::operators::OperatorRow;
use super::organizations::{MemberRow, OrganizationRow};
use super::tokens::TokenRow;
use crate::authentic::{Authentic, Stored, Verdict};
use crate::columns::{bound, counter};
use crate::counted::may_conflict;
use crate::query::{Bound, scope};
use crate::row_name::RowName;
use crate::{Result, StoreError};

/// What all rows of one scope are like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowsSeen {
    /// Rows whose MAC holds.
    pub sound: u64,
    /// Those of them that are under an older key of the ring.
    pub under_older_key: u64,
    /// The first of these.
    pub first_under_older_key: Option<RowName>,
    /// Rows without a MAC.
    pub unsealed: Vec<RowName>,
    /// Rows that are not as they were written.
    pub tampered: Vec<RowName>,
}

/// Which rows to seal under the newest key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sealing {
    Nothing,
    WithoutMac,
}

/// Looks at every row of these keys' scope and changes none.
pub async fn rows_look(connection: &mut PgConnection, keys: &RowKeys) -> Result<RowsSeen> {
    visit_all(connection, keys, Sealing::Nothing).await
}

/// Seals rows that have no MAC, as they are. Whoever calls this vouches for them: see
/// `docs/adr/0013-row-macs.md`.
pub async fn rows_seal_unsealed(connection: &mut PgConnection, keys: &RowKeys) -> Result<RowsSeen> {
    visit_all(connection, keys, Sealing::WithoutMac).await
}

/// How far sealing every row of a scope under the newest key has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resealing {
    table: usize,
    after: String,
    /// Rows that were verified.
    pub verified: u64,
    /// Those of them that were under an older key.
    pub sealed: u64,
}

/// Verifies the next rows, at most 500, and seals those under an older key of the ring again under the
/// newest; `None` once every row was seen. A row that changes meanwhile is left to the next pass.
///
/// # Errors
/// [`StoreError::Tampered`] for the first row that has no MAC or whose MAC holds under no key: what was
/// not verified is not sealed.
pub async fn rows_reseal_next(
    connection: &mut PgConnection,
    keys: &RowKeys,
    from: &Resealing,
) -> Result<Option<Resealing>> {
    let mut next = from.clone();
    let batch = &mut Batch { connection, keys, at: &mut next };
    let whole = match from.table {
        table if keys.cluster() == ClusterId::ZERO => match table {
            0 => batch.reseal::<IdempotencyRow>().await?,
            1 => batch.reseal::<OperatorRow>().await?,
            2 => batch.reseal::<OrganizationRow>().await?,
            3 => batch.reseal::<MemberRow>().await?,
            _ => return Ok(None),
        },
        0 => batch.reseal::<ClusterRow>().await?,
        1 => batch.reseal::<PolicyRow>().await?,
        2 => batch.reseal::<AuthorityRow>().await?,
        3 => batch.reseal::<ClusterCaRow>().await?,
        4 => batch.reseal::<TokenRow>().await?,
        5 => batch.reseal::<JoinRequestRow>().await?,
        6 => batch.reseal::<AddressRow>().await?,
        7 => batch.reseal::<NodeRow>().await?,
        _ => return Ok(None),
    };
    if whole {
        (next.table, next.after) = (from.table + 1, String::new());
    }
    Ok(Some(next))
}

struct Batch<'a> {
    connection: &'a mut PgConnection,
    keys: &'a RowKeys,
    at: &'a mut Resealing,
}

impl Batch<'_> {
    /// True once the table has no further rows.
    async fn reseal<R: Authentic>(&mut self) -> Result<bool> {
        let query = sqlx::query_as_with::<_, Stored<R>, _>(R::AFTER, scope(self.keys)?);
        let rows = query.bind(&self.at.after).fetch_all(&mut *self.connection).await?;
        let whole = rows.len() < BATCH;
        let mut again = Again::default();
        for stored in rows {
            match stored.verdict(self.keys) {
                Verdict::Sound { row, row_version, under } => {
                    self.at.verified += 1;
                    self.at.after = row.key();
                    if under > 0 {
                        again.add(&row, row_version, self.keys)?;
                    }
                }
                Verdict::Unsealed { row, .. } => {
                    return Err(StoreError::Tampered { table: R::TABLE, key: row.key() });
                }
                Verdict::Tampered { key } => return Err(StoreError::Tampered { table: R::TABLE, key }),
            }
        }
        self.at.sealed += again.write(self.connection, R::RESEAL).await?;
        Ok(whole)
    }
}

/// Rows to be sealed under the newest key, each at the version that was verified.
#[derive(Default)]
struct Again {
    names: Vec<String>,
    versions: Vec<i64>,
    macs: Vec<Vec<u8>>,
}

impl Again {
    fn add<R: Authentic>(&mut self, row: &R, row_version: u64, keys: &RowKeys) -> Result<()> {
        self.names.push(row.key());
        self.versions.push(counter("row_version", row_version)?);
        self.macs.push(row.mac(keys, row_version));
        Ok(())
    }

    async fn write(self, connection: &mut PgConnection, reseal: &'static str) -> Result<u64> {
        if self.names.is_empty() {
            return Ok(0);
        }
        let statement = Bound::of(reseal, bound!(self.names, self.versions, self.macs));
        may_conflict(statement, connection).await
    }
}

const BATCH: usize = 500;

async fn visit_all(connection: &mut PgConnection, keys: &RowKeys, sealing: Sealing) -> Result<RowsSeen> {
    let mut visit = Visit { connection, keys, sealing, seen: RowsSeen::default() };
    if keys.cluster() == ClusterId::ZERO {
        visit.table::<IdempotencyRow>().await?;
        visit.table::<OperatorRow>().await?;
        visit.table::<OrganizationRow>().await?;
        visit.table::<MemberRow>().await?;
        return Ok(visit.seen);
    }
    visit.table::<ClusterRow>().await?;
    visit.table::<PolicyRow>().await?;
    visit.table::<AuthorityRow>().await?;
    visit.table::<ClusterCaRow>().await?;
    visit.table::<TokenRow>().await?;
    visit.table::<JoinRequestRow>().await?;
    visit.table::<AddressRow>().await?;
    visit.table::<NodeRow>().await?;
    Ok(visit.seen)
}

struct Visit<'a> {
    connection: &'a mut PgConnection,
    keys: &'a RowKeys,
    sealing: Sealing,
    seen: RowsSeen,
}

impl Visit<'_> {
    async fn table<R: Authentic>(&mut self) -> Result<()> {
        let query = sqlx::query_as_with::<_, Stored<R>, _>(R::ALL, scope(self.keys)?);
        let mut again = Again::default();
        for stored in query.fetch_all(&mut *self.connection).await? {
            let sealed_as = match stored.verdict(self.keys) {
                Verdict::Sound { row, under, .. } => {
                    self.seen.sound += 1;
                    if under > 0 {
                        self.seen.under_older_key += 1;
                        let name = || RowName { table: R::TABLE, key: row.key() };
                        self.seen.first_under_older_key.get_or_insert_with(name);
                    }
                    None
                }
                Verdict::Unsealed { row, row_version } => {
                    self.seen.unsealed.push(RowName { table: R::TABLE, key: row.key() });
                    (self.sealing == Sealing::WithoutMac).then_some((row, row_version))
                }
                Verdict::Tampered { key } => {
                    self.seen.tampered.push(RowName { table: R::TABLE, key });
                    None
                }
            };
            if let Some((row, row_version)) = sealed_as {
                again.add(&row, row_version, self.keys)?;
            }
        }
        again.write(self.connection, R::RESEAL).await?;
        Ok(())
    }
}
