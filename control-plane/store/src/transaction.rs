//! A transaction of one role, and what becomes of it.
//!
//! Owns that a commit is certain: what was written is read back after the commit, on the same connection, and compared
//! with what was to be written. Each role has a type of its own: what takes a transaction of role `system` does not
//! compile with one of an organization. Refuses to own what follows from a commit; it carries what was noted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};

use futures_util::future::BoxFuture;
use rap_authority::{Floor, FloorOf};
use rap_contract::KnownRevocations;
use rap_types::{ClusterId, Digest};
use sqlx::postgres::PgArguments;
use sqlx::{PgConnection, PgTransaction};

use crate::row_name::RowName;
use crate::signed_copy::SignedCopy;
use crate::trace::Trace;
use crate::{Result, StoreError};

/// Runs as a simple query; transaction statements cannot be prepared. The next transaction begins with the same
/// message, so that nobody else gets the connection before what was written is read back; it sees one state.
const COMMIT_AND_CHAIN: &str = "COMMIT AND CHAIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";

/// A READ COMMITTED transaction of role `system`. It rolls back if it is dropped without a commit.
pub struct SystemTransaction {
    inner: PgTransaction<'static>,
    written: Vec<Box<dyn ReadBack>>,
    /// What follows from a commit.
    pub effects: Effects,
}

/// A transaction of role `app`, which sees the rows of one organization. It reads; acts of the platform do not take it:
///
/// ```compile_fail,E0308
/// async fn act(organization: &mut rap_store::OrganizationTransaction) {
///     let sequence = 1;
///     let _ = rap_store::revocation_insert(organization, rap_types::ClusterId::ZERO, sequence, b"").await;
/// }
/// ```
///
/// With a transaction of role `system` the same text compiles:
///
/// ```
/// async fn act(system: &mut rap_store::SystemTransaction) {
///     let sequence = 1;
///     let _ = rap_store::revocation_insert(system, rap_types::ClusterId::ZERO, sequence, b"").await;
/// }
/// ```
pub struct OrganizationTransaction(PgTransaction<'static>);

/// What follows from a transaction once it is committed.
#[derive(Debug, Default)]
pub struct Effects {
    /// Clusters whose nodes see the change. An urgent one passes every debounce.
    pub touched: BTreeMap<ClusterId, bool>,
    /// Clusters whose keys changed, and new ones.
    pub keys: BTreeSet<ClusterId>,
    /// Chains of revocations, with the records that were signed in the transaction.
    pub revoked: BTreeMap<ClusterId, KnownRevocations>,
    /// What else was signed.
    pub signed: Vec<(FloorOf, Floor)>,
    /// The bytes of what was signed.
    pub copies: Vec<SignedCopy>,
}

/// A transaction that is committed, on the connection that committed it.
pub struct Committed {
    connection: PgTransaction<'static>,
    /// What follows from it.
    pub effects: Effects,
    read_back: Result<()>,
}

impl SystemTransaction {
    pub(crate) fn new(inner: PgTransaction<'static>) -> Self {
        Self { inner, written: Vec::new(), effects: Effects::default() }
    }

    pub(crate) fn expect(&mut self, written: impl ReadBack + 'static) {
        self.written.push(Box::new(written));
    }

    /// What was written so far, for [`crate::still_done`].
    pub(crate) fn written_down(&self) -> Vec<u8> {
        let traces: Vec<Trace> = self.written.iter().filter_map(|written| written.trace()).collect();
        serde_json::to_vec(&traces).unwrap_or_default()
    }

    /// Commits, and compares what the database then holds with what was written.
    ///
    /// # Errors
    /// Those of [`Self::commit_and_keep`]; [`StoreError::Tampered`] if the database holds something else.
    pub async fn commit(self) -> Result<()> {
        if self.written.is_empty() {
            return self.end_unread().await;
        }
        let Committed { connection, read_back, .. } = self.commit_and_keep().await?;
        // It only read.
        let _ = connection.rollback().await;
        read_back
    }

    /// As [`Self::commit`]; keeps the connection, so that what follows needs no other one.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`] if the connection was lost after the commit was sent; with any other error
    /// nothing was changed.
    pub async fn commit_and_keep(mut self) -> Result<Committed> {
        sqlx::raw_sql(COMMIT_AND_CHAIN).execute(&mut *self.inner).await.map_err(not_committed)?;
        let mut read_back = Ok(());
        for written in self.written {
            read_back = written.read_back(&mut self.inner).await;
            if read_back.is_err() {
                break;
            }
        }
        let read_back = read_back.map_err(unknown_if_lost);
        Ok(Committed { connection: self.inner, effects: self.effects, read_back })
    }

    /// Commits for a role that cannot read what it wrote.
    pub(crate) async fn end_unread(self) -> Result<()> {
        self.inner.commit().await.map_err(not_committed)
    }

    /// Undoes everything.
    pub async fn rollback(self) -> Result<()> {
        Ok(self.inner.rollback().await?)
    }
}

impl Committed {
    /// The connection, in a transaction of its own.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Ends the transaction after the commit, and delivers the notifications that were made in it. The first result says
    /// whether the database holds what was written: [`StoreError::Tampered`] for the first row that it does not hold.
    pub async fn end(self) -> (Result<()>, Result<()>) {
        (self.read_back, self.connection.commit().await.map_err(StoreError::from))
    }
}

fn not_committed(error: sqlx::Error) -> StoreError {
    // PostgreSQL ended a transaction that was idle for too long before the commit arrived.
    let idle = error.as_database_error().is_some_and(|cause| cause.code().as_deref() == Some("25P03"));
    if idle { error.into() } else { unknown_if_lost(error.into()) }
}

fn unknown_if_lost(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(cause) => StoreError::OutcomeUnknown(cause),
        error => error,
    }
}

impl OrganizationTransaction {
    pub(crate) fn new(inner: PgTransaction<'static>) -> Self {
        Self(inner)
    }

    /// Ends the transaction.
    pub async fn commit(self) -> Result<()> {
        Ok(self.0.commit().await?)
    }
}

macro_rules! is_connection {
    ($transaction:ty, $field:tt) => {
        impl Deref for $transaction {
            type Target = PgConnection;
            fn deref(&self) -> &PgConnection {
                &self.$field
            }
        }

        impl DerefMut for $transaction {
            fn deref_mut(&mut self) -> &mut PgConnection {
                &mut self.$field
            }
        }

        impl std::fmt::Debug for $transaction {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($transaction))
            }
        }
    };
}
is_connection!(SystemTransaction, inner);
is_connection!(OrganizationTransaction, 0);

/// Something that was written and must be there after the commit.
pub(crate) trait ReadBack: Send {
    /// What was written, for whoever asks later whether it is still there.
    fn trace(&self) -> Option<Trace>;
    /// # Errors
    /// [`StoreError::Tampered`] if something else is there, or nothing.
    fn read_back(self: Box<Self>, connection: &mut PgConnection) -> BoxFuture<'_, Result<()>>;
}

/// A value that is written once and never altered.
pub(crate) struct Bytes {
    /// Reads the value, by the key.
    pub statement: &'static str,
    /// The key.
    pub key: PgArguments,
    /// The row.
    pub row: RowName,
    /// The value; `None` if there must be no such row.
    pub value: Option<Vec<u8>>,
}

impl ReadBack for Bytes {
    fn trace(&self) -> Option<Trace> {
        let digest = Digest::of(&[self.value.as_ref()?]);
        let RowName { table, key } = self.row.clone();
        Some(Trace { table: table.to_owned(), key, cluster: ClusterId::ZERO, version: 0, digest })
    }

    fn read_back(self: Box<Self>, connection: &mut PgConnection) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let query = sqlx::query_scalar_with(self.statement, self.key);
            let found: Option<Vec<u8>> = query.fetch_optional(connection).await?;
            if found == self.value { Ok(()) } else { Err(StoreError::tampered(self.row)) }
        })
    }
}
