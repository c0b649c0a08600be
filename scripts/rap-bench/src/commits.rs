//! When a change was committed, by PostgreSQL's own word.
//!
//! The private server is told to keep commit times (`track_commit_timestamp`). The time is taken when the
//! commit record is made, before it is flushed: what follows includes the flush.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rap_types::ClusterId;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Row as _};

/// A look into the outbox of a running control plane.
#[derive(Debug)]
pub struct Commits {
    connection: PgConnection,
}

/// One committed version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Its configuration sequence: the version of the head that covers it.
    pub version: u64,
    /// When, nanoseconds since 1970.
    pub at_ns: i128,
}

impl Commits {
    /// Has the private server of `data_dir` keep commit times from its next start on.
    pub fn keep_times(data_dir: &Path) -> Result<()> {
        let path = data_dir.join("postgres/postgresql.auto.conf");
        let mut file =
            File::options().append(true).open(&path).with_context(|| path.display().to_string())?;
        Ok(file.write_all(b"track_commit_timestamp = on\n")?)
    }

    /// Connects as the control plane does.
    pub async fn open(data_dir: &Path) -> Result<Self> {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(socket_folder(data_dir)?)
            .port(5432)
            .username("rap_system")
            .database("rap");
        Ok(Self { connection: options.connect().await.context("the private PostgreSQL")? })
    }

    /// The newest commit of a cluster.
    pub async fn newest(&mut self, cluster: ClusterId) -> Result<Commit> {
        let row = sqlx::query(NEWEST).bind(cluster.uuid()).fetch_one(&mut self.connection).await?;
        let (version, microseconds): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Commit { version: u64::try_from(version)?, at_ns: i128::from(microseconds) * 1000 })
    }
}

/// As the server itself wrote it down.
fn socket_folder(data_dir: &Path) -> Result<PathBuf> {
    let file = std::fs::read_to_string(data_dir.join("postgres/postmaster.pid"))?;
    let folder = file.lines().nth(4).map(PathBuf::from).filter(|folder| folder.is_dir());
    folder.context("the private PostgreSQL has its socket elsewhere")
}

const NEWEST: &str = "SELECT seq::bigint, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint \
     FROM config_outbox WHERE cluster_id = $1 ORDER BY seq DESC LIMIT 1";
