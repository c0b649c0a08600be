//! Migrations: the folder `migrations/` at the top of the repository, embedded in the binary.
//!
//! Owns applying and undoing them. Refuses a database that a newer version migrated, and one whose
//! applied migrations differ from the embedded ones.

use std::sync::LazyLock;
use std::time::Duration;

use rap_types::Reason;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, SqlSafeStr as _};

use crate::StoreError;
use crate::pool::DatabaseTarget;
use crate::query::statements;
use crate::roles::DatabaseRole;

/// How long the database may take to accept the owner's connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

static MIGRATOR: LazyLock<Migrator> =
    LazyLock::new(|| Migrator::with_migrations(EMBEDDED.iter().filter_map(migration).collect()));

/// Name and text of every file of the folder.
const EMBEDDED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// The migration in a file `NUMBER_title.up.sql` or `.down.sql`; `None` for another name.
fn migration((name, text): &(&str, &'static str)) -> Option<Migration> {
    let (number, title) = name.split_once('_')?;
    let kind = MigrationType::from_filename(title);
    let title = title.strip_suffix(kind.suffix())?.replace('_', " ");
    Some(Migration::new(number.parse().ok()?, title.into(), kind, text.into_sql_str(), false))
}

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
    let owner = owner(target);
    let outcome = MIGRATOR.run(&owner).await;
    owner.close().await;
    Ok(outcome?)
}

/// Applies what is missing up to `version`, so that rows of that version fit.
pub async fn migrate_to(target: &DatabaseTarget, version: i64) -> Result<(), MigrationError> {
    if version > newest_migration() {
        return Err(MigrationError::Unknown(version));
    }
    let owner = owner(target);
    let outcome = MIGRATOR.run_to(version, &owner).await;
    owner.close().await;
    Ok(outcome?)
}

/// Undoes every migration above `version`; 0 undoes all. Data in dropped tables is gone.
pub async fn migrate_down(target: &DatabaseTarget, version: i64) -> Result<(), MigrationError> {
    let owner = owner(target);
    let outcome = MIGRATOR.undo(&owner, version).await;
    owner.close().await;
    Ok(outcome?)
}

/// Number of the newest applied migration; 0 for an empty database.
pub async fn migration_applied(target: &DatabaseTarget) -> Result<i64, MigrationError> {
    let owner = owner(target);
    let applied = newest_applied(&owner).await;
    owner.close().await;
    Ok(applied?)
}

async fn newest_applied(owner: &PgPool) -> Result<i64, StoreError> {
    if !sqlx::query_scalar::<_, bool>(MIGRATIONS_APPLIED).fetch_one(owner).await? {
        return Ok(0);
    }
    Ok(sqlx::query_scalar(NEWEST_APPLIED).fetch_one(owner).await?)
}

/// One connection of the owner, closed when the work is done: closing also gives back the advisory
/// lock that a failed run still holds.
fn owner(target: &DatabaseTarget) -> PgPool {
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_TIMEOUT)
        .connect_lazy_with(target.options(DatabaseRole::Owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_embedded_is_the_folder_as_sqlx_reads_it() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations"));
        let all = |migrator: &Migrator| -> Vec<_> {
            let row = |migration: &Migration| {
                let Migration { version, description, migration_type, sql, checksum, no_tx } =
                    migration.clone();
                (version, description, migration_type, sql.as_str().to_owned(), checksum, no_tx)
            };
            migrator.iter().map(row).collect()
        };
        let embedded = all(&MIGRATOR);
        assert!(embedded.len() >= 2 && embedded.len() == EMBEDDED.len());
        assert_eq!(embedded, all(&Migrator::new(folder).await.unwrap()));
    }
}
