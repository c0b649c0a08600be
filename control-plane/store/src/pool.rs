//! Connections: which server, which role, how many, how long.
//!
//! Owns the two pools that serve requests and every time limit on them. Refuses to hold the owner's
//! connection open: [`crate::migrate`] takes one, migrates and closes it.

use std::time::Duration;

use rap_types::OrganizationId;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool, PgTransaction, Row as _};

use crate::database_url::{parse, place};
use crate::postgres::{EmbeddedPostgres, EmbeddedSettings, PostgresError};
use crate::query::statements;
use crate::roles::{DatabaseRole, RoleError, check_organizations_role, check_role};
use crate::transaction::{OrganizationTransaction, SystemTransaction};
use crate::{Result, StoreError};

/// Where the database is, once per role. Prints nothing: URLs carry passwords.
#[derive(Clone)]
pub struct DatabaseTarget {
    owner: PgConnectOptions,
    app: PgConnectOptions,
    system: PgConnectOptions,
}

impl DatabaseTarget {
    /// The private server.
    pub fn embedded(postgres: &EmbeddedPostgres) -> Self {
        let options = |role: DatabaseRole| postgres.connect_options(role.name());
        Self {
            owner: options(DatabaseRole::Owner),
            app: options(DatabaseRole::App),
            system: options(DatabaseRole::System),
        }
    }

    /// The private server of a data directory that another process serves from.
    pub fn embedded_elsewhere(settings: &EmbeddedSettings) -> Result<Self, PostgresError> {
        let options = |role: DatabaseRole| EmbeddedPostgres::options_of_running(settings, role.name());
        Ok(Self {
            owner: options(DatabaseRole::Owner)?,
            app: options(DatabaseRole::App)?,
            system: options(DatabaseRole::System)?,
        })
    }

    /// A server somebody else runs. `owner` names the role that owns the tables. A URL that is not
    /// given for `app` or `system` is the owner's with user `rap_app` or `rap_system`; its password
    /// is kept, so either give the three roles one password or give three URLs.
    pub fn from_urls(owner: &str, app: Option<&str>, system: Option<&str>) -> Result<Self> {
        let derived = |role: DatabaseRole| Ok(parse(owner)?.username(role.name()));
        Ok(Self {
            owner: parse(owner)?,
            app: app.map_or_else(|| derived(DatabaseRole::App), parse)?,
            system: system.map_or_else(|| derived(DatabaseRole::System), parse)?,
        })
    }

    /// Where the server is: `db.example:5432`, or the folder of its socket.
    pub fn place(&self) -> String {
        place(&self.owner)
    }

    /// The same server and roles with another database.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn with_database(&self, name: &str) -> Self {
        Self {
            owner: self.owner.clone().database(name),
            app: self.app.clone().database(name),
            system: self.system.clone().database(name),
        }
    }

    /// The folder of the server's socket.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn socket(&self) -> Option<std::path::PathBuf> {
        self.owner.get_socket().cloned()
    }

    /// The same server, roles and database through another folder.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn with_socket(&self, folder: &std::path::Path) -> Self {
        let through = |options: &PgConnectOptions| options.clone().socket(folder);
        Self { owner: through(&self.owner), app: through(&self.app), system: through(&self.system) }
    }

    /// Options of one role, without limits.
    pub(crate) fn options(&self, role: DatabaseRole) -> PgConnectOptions {
        let options = match role {
            DatabaseRole::Owner => &self.owner,
            DatabaseRole::App => &self.app,
            DatabaseRole::System => &self.system,
        };
        // Whatever the database or the role says: names mean the tables of the migrations.
        options.clone().application_name("rap-control-plane").options([("search_path", "public")])
    }
}

rap_types::debug_as!(DatabaseTarget, "DatabaseTarget");

/// Sizes and time limits of the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Most connections of role `system`.
    pub system_connections: u32,
    /// Most connections of role `app`.
    pub app_connections: u32,
    /// Longest run of one statement.
    pub statement_timeout: Duration,
    /// Longest wait for one lock.
    pub lock_timeout: Duration,
    /// Longest pause of an open transaction.
    pub idle_in_transaction_timeout: Duration,
    /// Longest wait for a free connection.
    pub acquire_timeout: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            system_connections: 24,
            app_connections: 8,
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(15),
            acquire_timeout: Duration::from_secs(5),
        }
    }
}

impl PoolSettings {
    fn limited(&self, options: PgConnectOptions) -> PgConnectOptions {
        let milliseconds = |duration: Duration| duration.as_millis().to_string();
        options.options([
            ("statement_timeout", milliseconds(self.statement_timeout)),
            ("lock_timeout", milliseconds(self.lock_timeout)),
            ("idle_in_transaction_session_timeout", milliseconds(self.idle_in_transaction_timeout)),
        ])
    }

    fn pool(&self, target: &DatabaseTarget, role: DatabaseRole, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(self.acquire_timeout)
            .idle_timeout(Duration::from_secs(300))
            .max_lifetime(Duration::from_secs(3600))
            // Instead of the pool's own ping, for as many round trips.
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    sqlx::raw_sql(CONNECTION_IS_USABLE).fetch_one(connection).await?.try_get(0)
                })
            })
            .connect_lazy_with(self.limited(target.options(role)))
    }
}

/// A call whose caller goes away while BEGIN is under way leaves a connection in a transaction that the
/// driver does not know of: its time of begin tells. A server that became a standby, or was made read-only,
/// answers and takes no write. A connection with either is closed instead of reused. Runs as a simple query;
/// a prepared one is several messages, each with a time of its own.
const CONNECTION_IS_USABLE: &str =
    "SELECT now() = statement_timestamp() AND current_setting('transaction_read_only') = 'off'";
/// Runs as a simple query; BEGIN cannot be prepared.
const REPEATABLE_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

statements! {
    APP_ORGANIZATION = "SELECT set_config('app.org', $1, true)";
    STATEMENTS_WITHIN = "SELECT set_config('statement_timeout', $1, true)";
    SERVER_PROCESS = "SELECT pg_backend_pid()";
}

/// Refuses a connection whose statements are answered by more than one session of the server.
async fn require_session(connection: &mut PgConnection) -> Result<()> {
    let mut processes: Vec<i32> = Vec::new();
    for _ in 0..4 {
        processes.push(sqlx::query_scalar(SERVER_PROCESS).fetch_one(&mut *connection).await?);
    }
    processes.dedup();
    if processes.len() == 1 { Ok(()) } else { Err(StoreError::Pooled) }
}

/// Connections of role `system`, for planner, reconcilers and platform handlers. Handlers that face
/// an organization are given an [`AppPool`] and no way from it to this one.
#[derive(Debug, Clone)]
pub struct SystemPool(PgPool);

impl SystemPool {
    /// Opens a READ COMMITTED transaction. Dropped without commit it rolls back.
    pub async fn begin(&self) -> Result<SystemTransaction> {
        Ok(SystemTransaction::new(self.0.begin().await?))
    }

    /// Opens a read-only REPEATABLE READ transaction: every read sees one state of the database.
    pub async fn begin_snapshot(&self) -> Result<PgTransaction<'static>> {
        Ok(self.0.begin_with(REPEATABLE_READ).await?)
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &PgPool {
        &self.0
    }
}

/// Ends every later statement of this transaction that runs longer than `most` with [`StoreError::TimedOut`].
pub async fn statements_within(connection: &mut PgConnection, most: Duration) -> Result<()> {
    sqlx::query(STATEMENTS_WITHIN).bind(most.as_millis().to_string()).execute(connection).await?;
    Ok(())
}

/// Connections of role `app`. Every transaction is one organization's.
#[derive(Debug, Clone)]
pub struct AppPool(PgPool);

impl AppPool {
    /// Opens a transaction that sees the rows of `organization` alone.
    pub async fn begin(&self, organization: OrganizationId) -> Result<OrganizationTransaction> {
        let mut transaction = self.0.begin().await?;
        sqlx::query(APP_ORGANIZATION).bind(organization.to_string()).execute(&mut *transaction).await?;
        Ok(OrganizationTransaction::new(transaction))
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &PgPool {
        &self.0
    }
}

/// The database as the running control plane uses it.
#[derive(Debug, Clone)]
pub struct Store {
    system: SystemPool,
    app: AppPool,
}

impl Store {
    /// Connects both pools and refuses roles, tables or views through which row-level security could
    /// be passed. The schema must be migrated.
    pub async fn open(target: &DatabaseTarget, settings: &PoolSettings) -> Result<Self, RoleError> {
        let store = Self::connect(target, settings);
        for pool in [&store.system.0, &store.app.0] {
            let mut connection = pool.acquire().await.map_err(StoreError::from)?;
            require_session(&mut connection).await?;
            check_role(&mut connection).await?;
        }
        let mut app = store.app.0.acquire().await.map_err(StoreError::from)?;
        check_organizations_role(&mut app, target.system.get_username()).await?;
        drop(app);
        Ok(store)
    }

    fn connect(target: &DatabaseTarget, settings: &PoolSettings) -> Self {
        Self {
            system: SystemPool(settings.pool(target, DatabaseRole::System, settings.system_connections)),
            app: AppPool(settings.pool(target, DatabaseRole::App, settings.app_connections)),
        }
    }

    /// For planner, reconcilers and platform handlers.
    pub fn system(&self) -> &SystemPool {
        &self.system
    }

    /// For handlers that face an organization.
    pub fn app(&self) -> &AppPool {
        &self.app
    }

    /// Waits for open transactions to end and closes every connection.
    pub async fn close(&self) {
        self.system.0.close().await;
        self.app.0.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_without_a_url_of_their_own_use_the_owners_with_their_name() {
        let owner = "postgres://fabric:word@db.example:5433/rap?sslmode=require";
        let other = "postgres://tenant@db.example/rap";
        let target = DatabaseTarget::from_urls(owner, Some(other), None).unwrap();
        let names = [DatabaseRole::Owner, DatabaseRole::App, DatabaseRole::System]
            .map(|role| (target.options(role).get_username().to_owned(), target.options(role).get_port()));
        let expected = [("fabric", 5433), ("tenant", 5432), ("rap_system", 5433)];
        assert_eq!(names, expected.map(|(name, port)| (name.to_owned(), port)));
        assert_eq!(format!("{target:?}"), "DatabaseTarget");
    }

    #[test]
    fn a_text_that_is_no_url_is_a_fault_of_the_configuration() {
        let error = DatabaseTarget::from_urls("localhost password=word", None, None).unwrap_err();
        assert_eq!(error.reason().code(), "config.invalid");
        assert!(!format!("{error} {error:?}").contains("word"), "{error:?}");
    }
}
