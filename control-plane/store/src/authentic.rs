//! Rows that carry a MAC: verified when they are read, sealed when they are written.
//!
//! Owns the only path from a stored row to a typed one and back. A row type has no other decoder, so no statement can
//! return an unverified row. Only a [`Held`] row (locked and verified) can be written; its MAC is computed from the
//! verified values and the caller's changes, never from values that the database returned on the write. If the caller's
//! keys do not include a row's data key, it is read in the same transaction. Refuses to own keys: callers pass them.

use std::fmt;
use std::ops::{Deref, DerefMut};

use rap_authority::{Columns, RowKeys};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgConnection, Postgres, Row};
use uuid::Uuid;

use crate::columns::{bind, read};
use crate::counted::one_row;
use crate::query::{Bound, Readable};
pub(crate) use crate::read_back::Written;
use crate::row_name::RowName;
use crate::statement::{ColumnList, Kind};
use crate::tables::data_keys::{dek_newest_share, deks_list};
use crate::transaction::SystemTransaction;
use crate::{Result, StoreError};

/// A row type with a MAC in its table. [`crate::row::authentic_row`] implements it.
pub trait Authentic: Sized + Send + Unpin + 'static {
    /// Table.
    const TABLE: &'static str;
    /// Its columns, those of the primary key (UUIDs, numbers or text) first, the covered ones in the order
    /// in which the MAC covers them.
    const COLUMNS: &'static ColumnList;
    /// What [`Authentic::decode`] and the check of the MAC read.
    const NAMES: &'static str;
    /// `SELECT NAMES FROM ...`, to which a condition is added.
    const SELECT: &'static str;
    /// Adds a row.
    const INSERT: &'static str;
    /// Replaces one version of a row by the next.
    const UPDATE: &'static str;
    /// The row with a primary key.
    const ONE: &'static str;
    /// The row with a primary key as text: its columns joined by `/`.
    const BY_TEXT: &'static str;
    /// Every row of a cluster, or of the installation, by primary key.
    const ALL: &'static str;
    /// The next 500 rows of a cluster, or of the installation, after a primary key.
    const AFTER: &'static str;
    /// Writes new MACs.
    const RESEAL: &'static str;

    /// Reads the typed row.
    fn decode(row: &PgRow) -> sqlx::Result<Self>;
    /// The primary key, its columns joined by `/`.
    fn key(&self) -> String;
    /// Every covered column that is not in the primary key, in a fixed order.
    fn columns(&self) -> Columns;
    /// Binds the columns of the kinds that are wanted, in their order.
    fn bind(&self, wanted: fn(Kind) -> bool, to: &mut PgArguments) -> Result<()>;

    /// The MAC of this row at `row_version`.
    fn mac(&self, keys: &RowKeys, row_version: u64) -> Vec<u8> {
        keys.seal(Self::TABLE, &self.key(), row_version, &self.columns()).to_vec()
    }
}

/// A row as the database returned it: nothing can be read from it before it is verified.
pub(crate) struct Stored<R> {
    row: Result<R, String>,
    row_version: u64,
    row_mac: Option<Vec<u8>>,
}

impl<R: Authentic> FromRow<'_, PgRow> for Stored<R> {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            // A row that no longer decodes was not written by us.
            row: R::decode(row).map_err(|_| stored_key(row, R::COLUMNS)),
            row_version: read(row, "row_version").unwrap_or_default(),
            row_mac: row.try_get("row_mac").unwrap_or_default(),
        })
    }
}

/// For statements that change a row and return it.
impl<R: Authentic> Readable for Stored<R> {
    fn of_row(row: &PgRow) -> sqlx::Result<Self> {
        Self::from_row(row)
    }
}

impl<R: Authentic> Stored<R> {
    /// The row, if its MAC holds under a key that the ring knows.
    pub(crate) fn verified(self, keys: &RowKeys) -> Result<R> {
        self.opened(keys).map(|(row, _)| row)
    }

    /// What the row is like under these keys.
    pub(crate) fn verdict(self, keys: &RowKeys) -> Verdict<R> {
        let under = self.under(keys);
        match (self.row, self.row_mac, under) {
            (Ok(row), None, _) => Verdict::Unsealed { row, row_version: self.row_version },
            (Ok(row), Some(_), Some(under)) => Verdict::Sound { row, row_version: self.row_version, under },
            (Ok(row), Some(_), None) => Verdict::Tampered { key: row.key() },
            (Err(key), ..) => Verdict::Tampered { key },
        }
    }

    /// Which key of the ring the MAC holds under.
    fn under(&self, keys: &RowKeys) -> Option<usize> {
        let (Ok(row), Some(stored)) = (&self.row, &self.row_mac) else { return None };
        keys.check(R::TABLE, &row.key(), self.row_version, &row.columns(), stored)
    }

    /// Row and version, if the MAC holds under a key that the ring knows.
    pub(crate) fn opened(self, keys: &RowKeys) -> Result<(R, u64)> {
        let key = match self.verdict(keys) {
            Verdict::Sound { row, row_version, .. } => return Ok((row, row_version)),
            Verdict::Unsealed { row, .. } => row.key(),
            Verdict::Tampered { key } => key,
        };
        Err(StoreError::Tampered { table: R::TABLE, key })
    }

    /// The same; a ring that does not know the row's key reads the data keys once more, on the connection
    /// that read the row, so that row and key are of one transaction.
    pub(crate) async fn opened_or_learned(
        self,
        connection: &mut PgConnection,
        keys: &RowKeys,
    ) -> Result<(R, u64)> {
        if !keys.learns() || self.row_mac.is_none() || self.row.is_err() {
            return self.opened(keys);
        }
        let mut holds = self.under(keys).is_some();
        if !holds {
            let wrapped = wrapped(connection, keys).await?;
            holds = keys.learn(&wrapped).is_some_and(|learned| self.under(&learned).is_some());
        }
        match self.row {
            Ok(row) if holds => Ok((row, self.row_version)),
            Ok(row) => Err(StoreError::Tampered { table: R::TABLE, key: row.key() }),
            Err(key) => Err(StoreError::Tampered { table: R::TABLE, key }),
        }
    }
}

async fn wrapped(connection: &mut PgConnection, keys: &RowKeys) -> Result<Vec<(u64, Vec<u8>)>> {
    let stored = deks_list(connection, keys.cluster()).await?;
    Ok(stored.into_iter().map(|dek| (dek.key_version, dek.wrapped_dek)).collect())
}

/// To be called before a new row is sealed: makes the ring seal under the newest data key, and keeps that
/// key from being retired until the transaction ends. A row that is changed needs no such call; it is
/// locked, and whoever retires a key looks at every row first.
///
/// # Errors
/// `row.tampered` if the newest stored data key does not open, is older than what this ring has seen, or is
/// another one of the same version: a row under a key that the database does not have would be lost.
pub(crate) async fn sealing(connection: &mut PgConnection, keys: &RowKeys) -> Result<()> {
    if !keys.learns() {
        return Ok(());
    }
    // Before the look: what was learned of earlier was committed, so the look finds no less.
    let known = u64::from(keys.newest_version());
    let Some((newest, wrapped_newest)) = dek_newest_share(connection, keys.cluster()).await? else {
        // Retired while this statement waited for it; the next look finds the one after.
        return Err(StoreError::Contended("data key".to_owned()));
    };
    if newest > known {
        let wrapped = wrapped(connection, keys).await?;
        drop(keys.learn(&wrapped));
    }
    let learned = u64::from(keys.newest_version()) >= newest;
    if newest < known || !learned || keys.is_newest(newest, &wrapped_newest) == Some(false) {
        return Err(StoreError::Tampered {
            table: "cluster_deks",
            key: format!("{}/{newest}", keys.cluster()),
        });
    }
    Ok(())
}

/// What a stored row is like.
pub(crate) enum Verdict<R> {
    /// Its MAC holds.
    Sound {
        /// The row.
        row: R,
        /// Its version.
        row_version: u64,
        /// Which key of the ring; 0 is the newest.
        under: usize,
    },
    /// It has no MAC.
    Unsealed {
        /// The row, as it is.
        row: R,
        /// Its version.
        row_version: u64,
    },
    /// It is not as it was written.
    Tampered {
        /// Its primary key.
        key: String,
    },
}

/// A statement that reads rows with a MAC, and its parameters.
pub(crate) type Find<'q, R> = QueryAs<'q, Postgres, Stored<R>, PgArguments>;

/// The row, verified, if it is there.
pub(crate) async fn verified<R: Authentic>(
    find: Find<'_, R>,
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Option<R>> {
    let Some(row) = find.fetch_optional(&mut *connection).await? else { return Ok(None) };
    row.opened_or_learned(connection, keys).await.map(|(row, _)| Some(row))
}

/// The rows, every one verified; the first that does not hold is the answer.
pub(crate) async fn all_verified<R: Authentic>(
    find: Find<'_, R>,
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Vec<R>> {
    let rows = find.fetch_all(&mut *connection).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        all.push(row.opened_or_learned(connection, keys).await?.0);
    }
    Ok(all)
}

/// The rows that hold, and the names of those that do not: for lists that are shown, never for a decision.
pub(crate) async fn sorted_out<R: Authentic>(
    find: Find<'_, R>,
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<(Vec<R>, Vec<RowName>)> {
    let rows = find.fetch_all(&mut *connection).await?;
    let (mut sound, mut tampered) = (Vec::with_capacity(rows.len()), Vec::new());
    let mut learned = None;
    for row in rows {
        if learned.is_none() && keys.learns() && row.under(keys).is_none() {
            let wrapped = wrapped(connection, keys).await?;
            learned = Some(keys.learn(&wrapped).unwrap_or_else(|| keys.clone()));
        }
        match row.verdict(learned.as_ref().unwrap_or(keys)) {
            Verdict::Sound { row, .. } => sound.push(row),
            Verdict::Unsealed { row, .. } => tampered.push(RowName { table: R::TABLE, key: row.key() }),
            Verdict::Tampered { key } => tampered.push(RowName { table: R::TABLE, key }),
        }
    }
    Ok((sound, tampered))
}

/// The row that the statement locks, verified, if it is there.
pub(crate) async fn held<R: Authentic>(
    find: Find<'_, R>,
    connection: &mut PgConnection,
    keys: &RowKeys,
) -> Result<Option<Held<R>>> {
    let Some(row) = find.fetch_optional(&mut *connection).await? else { return Ok(None) };
    let (row, row_version) = row.opened_or_learned(connection, keys).await?;
    Ok(Some(Held { row, row_version }))
}

/// A verified row, locked until its transaction ends. Change it, then write it.
pub struct Held<R> {
    row: R,
    row_version: u64,
}

impl<R: Authentic> Held<R> {
    /// The MAC of the row as it is to be written, one version up.
    pub(crate) fn next_mac(&self, keys: &RowKeys) -> Vec<u8> {
        self.row.mac(keys, self.row_version + 1)
    }

    /// The parameters of [`Authentic::UPDATE`].
    pub(crate) fn update(&self, keys: &RowKeys) -> Result<PgArguments> {
        let mut arguments = PgArguments::default();
        self.row.bind(Kind::is_key, &mut arguments)?;
        bind(&self.row_version, "row_version", &mut arguments)?;
        self.row.bind(Kind::is_updated, &mut arguments)?;
        bind(&self.next_mac(keys), "row_mac", &mut arguments)?;
        Ok(arguments)
    }
}

impl<R: Authentic> Held<R> {
    /// The row as an update writes it.
    pub(crate) fn written(&self, keys: &RowKeys) -> Result<Written<R>> {
        Written::of(&self.row, self.row_version + 1, keys)
    }
}

impl<R> Held<R> {
    /// The row, for reading.
    pub fn into_inner(self) -> R {
        self.row
    }
}

impl<R> Deref for Held<R> {
    type Target = R;
    fn deref(&self) -> &R {
        &self.row
    }
}

impl<R> DerefMut for Held<R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.row
    }
}

impl<R: fmt::Debug> fmt::Debug for Held<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.fmt(f)
    }
}

/// The parameters of [`Authentic::INSERT`].
pub(crate) fn new_row<R: Authentic>(row: &R, keys: &RowKeys) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    row.bind(Kind::is_inserted, &mut arguments)?;
    bind(&row.mac(keys, 1), "row_mac", &mut arguments)?;
    Ok(arguments)
}

/// Adds a row, under the newest data key.
pub(crate) async fn insert<R: Authentic>(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    row: &R,
) -> Result<()> {
    sealing(transaction, keys).await?;
    one_row(Bound::of(R::INSERT, new_row(row, keys)?), transaction).await?;
    transaction.expect(Written::of(row, 1, keys)?);
    Ok(())
}

/// Writes what of a held row may change. Gives the row.
///
/// # Errors
/// [`StoreError::Miscounted`] if the row is not written: it is locked, so no other transaction is the reason.
pub(crate) async fn update<R: Authentic>(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    row: Held<R>,
) -> Result<R> {
    one_row(Bound::of(R::UPDATE, row.update(keys)?), transaction).await?;
    transaction.expect(row.written(keys)?);
    Ok(row.into_inner())
}

/// The primary key of a row that does not decode, as text.
fn stored_key(row: &PgRow, columns: &ColumnList) -> String {
    let part = |(column, _): &(&'static str, Kind)| {
        let id = row.try_get::<Uuid, _>(*column).map(|id| id.to_string());
        let number = || row.try_get::<i64, _>(*column).map(|number| number.to_string());
        id.or_else(|_| number()).or_else(|_| row.try_get::<String, _>(*column)).unwrap_or_default()
    };
    columns.iter().take_while(|(_, kind)| kind.is_key()).map(part).collect::<Vec<_>>().join("/")
}
