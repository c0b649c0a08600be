//! Reads one state of the database, table by table.

use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, PgConnection};

use super::tables::{Table, patient, tables};
use crate::{DatabaseTarget, Result, StoreError, roles::DatabaseRole};

/// A read-only transaction that sees one state of the database; others go on writing.
#[derive(Debug)]
pub struct Dump {
    connection: PgConnection,
    tables: Vec<Table>,
}

/// Runs as a simple query; BEGIN cannot be prepared.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl Dump {
    /// Begins. Refuses if role `system` would not see every row of every table.
    pub async fn begin(target: &DatabaseTarget) -> Result<Self> {
        let mut connection = PgConnection::connect_with(&patient(target, DatabaseRole::System)).await?;
        sqlx::raw_sql(BEGIN).execute(&mut connection).await?;
        let tables = tables(&mut connection).await?;
        match tables.iter().find(|table| !table.whole) {
            Some(hidden) => Err(StoreError::Violated { constraint: format!("policy of {}", hidden.name) }),
            None => Ok(Self { connection, tables }),
        }
    }

    /// Names of the tables, parents before children.
    pub fn tables(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.name.clone()).collect()
    }

    /// For reading single facts of the same state.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Hands every row of a table to `sink`, one line each, in pieces of any size.
    ///
    /// # Errors
    /// Those of the database and of `sink`.
    pub async fn table<E: From<StoreError>>(
        &mut self,
        name: &str,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = self.tables.iter().find(|table| table.name == name).ok_or(StoreError::Absent)?;
        let mut rows = self.connection.copy_out_raw(&table.copy_out).await.map_err(StoreError::from)?;
        while let Some(bytes) = rows.try_next().await.map_err(StoreError::from)? {
            sink(&bytes)?;
        }
        Ok(())
    }
}
