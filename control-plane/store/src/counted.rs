//! Statements that change rows say how many: a row that a trigger or a rule of the database keeps back is found before the
//! commit.
//!
//! Owns the comparison. Refuses to own what another number means where it may come from another transaction: that is for
//! the caller.

use sqlx::PgConnection;

use crate::query::{Bound, Readable, optional};
use crate::{Result, StoreError};

/// Runs a statement that must change one row.
///
/// # Errors
/// [`StoreError::Miscounted`] if it changed another number of rows.
pub(crate) async fn one_row(statement: Bound, connection: &mut PgConnection) -> Result<()> {
    exactly(statement, 1, connection).await
}

/// Runs a statement that must change this many rows.
///
/// # Errors
/// [`StoreError::Miscounted`] if it changed another number of rows.
pub(crate) async fn exactly(statement: Bound, rows: usize, connection: &mut PgConnection) -> Result<()> {
    let text = statement.text;
    match statement.query().execute(connection).await?.rows_affected() {
        changed if changed == rows as u64 => Ok(()),
        changed => Err(miscounted(text, changed)),
    }
}

/// Runs a statement that must change one row and returns it.
///
/// # Errors
/// [`StoreError::Miscounted`] if it changed none.
pub(crate) async fn one_row_returned<R: Readable>(
    statement: Bound,
    connection: &mut PgConnection,
) -> Result<R> {
    let text = statement.text;
    optional(statement, connection).await?.ok_or_else(|| miscounted(text, 0))
}

/// Runs a statement that may change any number of rows: another transaction may have been first, or there may be
/// nothing to do.
pub(crate) async fn may_conflict<C: Changed>(statement: Bound, connection: &mut PgConnection) -> Result<C> {
    Ok(C::of(statement.query().execute(connection).await?.rows_affected()))
}

/// As [`may_conflict`]; gives the first row that was changed.
pub(crate) async fn may_conflict_returned<R: Readable>(
    statement: Bound,
    connection: &mut PgConnection,
) -> Result<Option<R>> {
    optional(statement, connection).await
}

/// What [`may_conflict`] says of the rows that were changed.
pub(crate) trait Changed {
    /// Of their number.
    fn of(rows: u64) -> Self;
}

/// Nothing.
impl Changed for () {
    fn of(_rows: u64) -> Self {}
}

/// Whether it was one.
impl Changed for bool {
    fn of(rows: u64) -> Self {
        rows == 1
    }
}

/// How many.
impl Changed for u64 {
    fn of(rows: u64) -> Self {
        rows
    }
}

/// What it means that the statement changed this many rows and had to change another number.
fn miscounted(text: &'static str, rows: u64) -> StoreError {
    let verbs = ["INSERT", "INTO", "UPDATE", "DELETE", "FROM"];
    let table = text.split_whitespace().find(|word| !verbs.contains(word));
    StoreError::Miscounted { table: table.unwrap_or_default(), rows }
}
