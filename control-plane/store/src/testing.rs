//! A temporary PostgreSQL per test process, and a separate database for each test.
//!
//! Owns making them quickly (no fsync, copies of one migrated template) and leaving nothing behind.
//! Refuses to be part of a release: only behind feature `testing`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::postgres::{EmbeddedPostgres, EmbeddedSettings, PostgresState};
use crate::roles::DatabaseRole;
use crate::{DatabaseTarget, PoolSettings, Store, migrate_up};

static SERVER: OnceCell<Server> = OnceCell::const_new();
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Lives in a static, so it is never dropped: the reaper ends the server with the process.
struct Server {
    target: DatabaseTarget,
    _postgres: EmbeddedPostgres,
    _reaper: Child,
}

/// A database that only one test uses.
#[derive(Debug)]
pub struct TestDatabase {
    target: DatabaseTarget,
}

/// SQLSTATE `deadlock_detected`.
const DEADLOCK: &str = "40P01";

impl TestDatabase {
    /// A migrated database without rows.
    ///
    /// # Panics
    /// If PostgreSQL cannot be started.
    pub async fn migrated() -> Self {
        Self::copy_of("rap").await
    }

    /// A database without tables.
    ///
    /// # Panics
    /// If PostgreSQL cannot be started.
    pub async fn empty() -> Self {
        Self::copy_of("template0").await
    }

    /// A database that the test made by other means.
    pub fn at(target: DatabaseTarget) -> Self {
        Self { target }
    }

    /// How to connect to it.
    pub fn target(&self) -> &DatabaseTarget {
        &self.target
    }

    /// The same as a URL, as an operator would write it.
    ///
    /// # Panics
    /// If the server does not listen at a socket.
    pub fn url(&self) -> String {
        let options = self.target.options(DatabaseRole::Owner);
        let socket = options.get_socket().expect("the test server listens at a socket").display();
        let database = options.get_database().expect("every test names its database");
        format!("postgres://{}@localhost/{database}?host={socket}", options.get_username())
    }

    /// How to connect to it through a link to the folder of the server's socket, which this makes: once the link is
    /// gone there are no new connections, and open ones stay.
    ///
    /// # Panics
    /// If the link cannot be made.
    pub fn through(&self, link: &Path) -> DatabaseTarget {
        let folder = self.target.socket().expect("the test server listens on a socket");
        std::os::unix::fs::symlink(folder, link).expect("a link in a folder of the test");
        self.target.with_socket(link)
    }

    /// Both pools on it, with default limits.
    ///
    /// # Panics
    /// If the self-check refuses.
    pub async fn store(&self) -> Store {
        Store::open(&self.target, &PoolSettings::default())
            .await
            .expect("a migrated database passes the self-check")
    }

    /// Changes rows as somebody does who owns the database and heeds no policy.
    ///
    /// # Panics
    /// If a statement fails.
    pub async fn tamper(&self, table: &'static str, statement: &'static str) {
        self.tamper_all(&[table], statement).await;
    }

    /// As [`Self::tamper`], in several tables.
    ///
    /// # Panics
    /// If a statement fails.
    pub async fn tamper_all(&self, tables: &[&'static str], statement: &'static str) {
        let options = self.target.options(DatabaseRole::Owner);
        let mut owner = PgConnection::connect_with(&options).await.expect("the test server answers");
        for table in tables {
            raw(&mut owner, format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")).await;
        }
        raw(&mut owner, statement.to_owned()).await;
        for table in tables {
            raw(&mut owner, format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY")).await;
        }
    }

    /// Runs statements as somebody who owns the database server.
    ///
    /// # Panics
    /// If a statement fails.
    pub async fn as_superuser(&self, statements: &'static str) {
        let options = self.target.options(DatabaseRole::Owner);
        let mut connection = PgConnection::connect_with(&options).await.expect("the test server answers");
        sqlx::raw_sql("SET ROLE intruder").execute(&mut connection).await.expect("a role of the test server");
        // The programs under test hold locks, too. Who loses a deadlock did nothing, and may try again.
        let mut tries = 1;
        while let Err(error) = sqlx::raw_sql(statements).execute(&mut connection).await {
            let lost =
                error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(DEADLOCK));
            assert!(lost && tries < 10, "statements of the test, try {tries}: {error}");
            tries += 1;
        }
        connection.close().await.expect("the test server answers");
    }

    /// Every table that role `system` adds rows to.
    ///
    /// # Panics
    /// If the database does not answer.
    pub async fn written_tables(&self) -> Vec<String> {
        let options = self.target.options(DatabaseRole::Owner);
        let mut owner = PgConnection::connect_with(&options).await.expect("the test server answers");
        let tables = sqlx::query_scalar(
            "SELECT table_name::text FROM information_schema.role_table_grants \
             WHERE grantee = 'rap_system' AND privilege_type = 'INSERT' AND table_schema = 'public'",
        );
        tables.fetch_all(&mut owner).await.expect("the test server answers")
    }

    #[allow(
        clippy::disallowed_types,
        reason = "CREATE DATABASE takes no parameters; both names are made here"
    )]
    async fn copy_of(template: &'static str) -> Self {
        let server = SERVER.get_or_init(Server::start).await;
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
        let options = server.target.options(DatabaseRole::Owner).database("postgres");
        let mut connection = PgConnection::connect_with(&options).await.expect("the test server answers");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect("a fresh name");
        connection.close().await.expect("the test server answers");
        Self { target: server.target.with_database(&name) }
    }
}

/// Writes a MiB into the server's log and nowhere else: many make it grow.
///
/// # Errors
/// Those of the database, for example that it ended because its log could not grow.
pub async fn log_write(connection: &mut PgConnection) -> Result<(), crate::StoreError> {
    const MESSAGE: &str = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1048576))";
    sqlx::query(MESSAGE).execute(connection).await?;
    Ok(())
}

#[allow(clippy::disallowed_types, reason = "names and statements are constants of tests")]
async fn raw(owner: &mut PgConnection, text: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(owner).await.expect("the statement runs");
}

impl Server {
    async fn start() -> Self {
        let directory =
            tempfile::Builder::new().prefix("rap-test-").tempdir().expect("a temporary directory");
        let directory = directory.keep();
        let postgres = EmbeddedPostgres::start(&throw_away(&directory)).await.expect("PostgreSQL starts");
        let PostgresState::Ready { pid, .. } = *postgres.state().borrow() else {
            unreachable!("start returns a ready server")
        };
        let reaper = reap_with_this_process(pid, &directory);
        let target = DatabaseTarget::embedded(&postgres);
        migrate_up(&target).await.expect("the migrations apply");
        Self { target, _postgres: postgres, _reaper: reaper }
    }
}

/// Settings of a server under `directory` whose data need not survive, and in which the owner may
/// make databases.
pub(crate) fn throw_away(directory: &Path) -> EmbeddedSettings {
    EmbeddedSettings {
        durable: false,
        databases: "all",
        extra_bootstrap: "ALTER ROLE rap_owner CREATEDB\nCREATE ROLE intruder SUPERUSER ROLE rap_owner\n",
        bin_dir: std::env::var_os("RAP_POSTGRES_BIN_DIR").map(Into::into),
        ..EmbeddedSettings::new(directory)
    }
}

/// A shell that waits for the end of this process, however it comes (its end closes the pipe), then
/// stops the server and removes the directory.
fn reap_with_this_process(pid: u32, directory: &Path) -> Child {
    use std::os::unix::process::CommandExt as _;
    Command::new("/bin/sh")
        .args(["-c", REAPER])
        .arg(pid.to_string())
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell")
}

const REAPER: &str = r#"
read -r _
kill -QUIT "$0"
tries=0
while kill -0 "$0" && [ "$tries" -lt 100 ]; do tries=$((tries + 1)); sleep 0.05; done
rm -rf "$1"
"#;
