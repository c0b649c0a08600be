//! Writes rows into an empty database, in one transaction of the tables' owner.
//!
//! During this transaction row-level security does not apply to the owner and the product's triggers do not fire. Both
//! are in force again when it commits.

use sqlx::PgConnection;
use sqlx::postgres::{PgCopyIn, PgPoolOptions};

use super::tables::{Table, patient, sequences, tables};
use crate::{DatabaseTarget, Result, StoreError, SystemTransaction, installation_read, roles::DatabaseRole};

/// An open restore. Dropped without [`Self::commit`] it leaves the database as it was.
#[derive(Debug)]
pub struct Restore {
    transaction: SystemTransaction,
    tables: Vec<Table>,
}

/// The rows of one table on their way in.
pub struct BackupTableWriter<'c>(PgCopyIn<&'c mut PgConnection>);

impl Restore {
    /// Begins on a migrated database. Refuses one that has an installation; rows that migrations made
    /// are removed.
    ///
    /// # Errors
    /// [`StoreError::Exists`], those of the database.
    pub async fn begin(target: &DatabaseTarget) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect_lazy_with(patient(target, DatabaseRole::Owner));
        let mut transaction = SystemTransaction::new(pool.begin().await?);
        let tables = tables(&mut transaction).await?;
        let mut restore = Self { transaction, tables };
        for table in &restore.tables {
            made(&mut restore.transaction, &table.unlock).await?;
        }
        if installation_read(&mut restore.transaction).await?.is_some() {
            return Err(StoreError::Exists { constraint: "installation_authority".to_owned() });
        }
        for table in restore.tables.iter().rev() {
            made(&mut restore.transaction, &table.clear).await?;
        }
        Ok(restore)
    }

    /// For the statements that follow the rows.
    pub fn transaction(&mut self) -> &mut SystemTransaction {
        &mut self.transaction
    }

    /// Opens a table for its rows.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if the schema has no such table.
    pub async fn table(&mut self, name: &str) -> Result<BackupTableWriter<'_>> {
        let table = self.tables.iter().find(|table| table.name == name).ok_or(StoreError::Absent)?;
        Ok(BackupTableWriter(self.transaction.copy_in_raw(&table.copy_in).await?))
    }

    /// After the last table: sets counters to what the rows have used, so that new rows fit.
    pub async fn counters(&mut self) -> Result<()> {
        for statement in sequences(&mut self.transaction).await? {
            made(&mut self.transaction, &statement).await?;
        }
        Ok(())
    }

    /// Puts row-level security and triggers back in force, and commits.
    pub async fn commit(mut self) -> Result<()> {
        for table in &self.tables {
            made(&mut self.transaction, &table.relock).await?;
        }
        // Nothing is read back: from here on the owner sees no row.
        self.transaction.end_unread().await
    }
}

impl BackupTableWriter<'_> {
    /// Sends a piece of the rows.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.send(bytes).await?;
        Ok(())
    }

    /// Ends the table; returns how many rows it took.
    pub async fn finish(self) -> Result<u64> {
        Ok(self.0.finish().await?)
    }

    /// Gives the table up.
    pub async fn abort(self) {
        // The transaction is given up, too.
        let _ = self.0.abort("given up").await;
    }
}

/// Runs a statement that PostgreSQL itself composed from its catalogue.
async fn made(connection: &mut PgConnection, statement: &str) -> Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(connection).await?;
    Ok(())
}
