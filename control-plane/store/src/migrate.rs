//! Migrations: the folder `migrations/` at the top of the repository, embedded in the binary.
//!
//! Owns applying and undoing them. Refuses a database that a newer version migrated, and one whose
//! applied migrations differ from the embedded ones.

use rap_types::Reason;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection};

use crate::StoreError;
use crate::columns::statements;
use crate::pool::DatabaseTarget;
use crate::roles::DatabaseRole;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// Why the schema is not the one this binary knows.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database has a migration that this binary does not.
    #[error("the database has migration {0:06}, which this version does not know; run a newer version")]
    Unknown(i64),
    /// An applied migration was edited afterwards.
    #[error("migration {0:06} was applied with another text")]
    Edited(i64),
    /// Another failure while a migration ran. Each one is a transaction: those before it stay applied.
    #[error("a migration failed")]
    Failed(#[source] MigrateError),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MigrationError {
    /// The stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown(_) | Self::Edited(_) => Reason::MigrationUnknown,
            Self::Failed(_) => Reason::ServerInternal,
            Self::Store(error) => error.reason(),
        }
    }
}

impl From<MigrateError> for MigrationError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::Unknown(version),
            MigrateError::VersionMismatch(version) => Self::Edited(version),
            MigrateError::Execute(cause) => Self::Store(cause.into()),
            other => Self::Failed(other),
        }
    }
}

statements! {
    MIGRATIONS_APPLIED = "SELECT to_regclass('public._sqlx_migrations') IS NOT NULL";
    NEWEST_APPLIED = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success";
}

/// Number of the newest embedded migration.
pub fn newest_migration() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Applies what is missing. Several replicas may do so at once: an advisory lock lets one pass.
pub async fn migrate_up(target: &DatabaseTarget) -> Result<(), MigrationError> {
    let mut connection = owner(target).await?;
    let outcome = MIGRATOR.run(&mut connection).await;
    close(connection).await;
    Ok(outcome?)
}

/// Undoes every migration above `version`; 0 undoes all. Data in dropped tables is gone.
pub async fn migrate_down(target: &DatabaseTarget, version: i64) -> Result<(), MigrationError> {
    let mut connection = owner(target).await?;
    let outcome = MIGRATOR.undo(&mut connection, version).await;
    close(connection).await;
    Ok(outcome?)
}

/// Number of the newest applied migration; 0 for an empty database.
pub async fn migration_applied(target: &DatabaseTarget) -> Result<i64, MigrationError> {
    let mut connection = owner(target).await?;
    let applied = newest_applied(&mut connection).await;
    close(connection).await;
    Ok(applied?)
}

async fn newest_applied(connection: &mut PgConnection) -> Result<i64, StoreError> {
    if !sqlx::query_scalar::<_, bool>(MIGRATIONS_APPLIED).fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    Ok(sqlx::query_scalar(NEWEST_APPLIED).fetch_one(connection).await?)
}

async fn owner(target: &DatabaseTarget) -> Result<PgConnection, StoreError> {
    Ok(PgConnection::connect_with(&target.options(DatabaseRole::Owner)).await?)
}

/// Closing also gives back the advisory lock that a failed run still holds.
async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing the owner's connection");
    }
}
