//! A configuration whose every field is validated, and what is said of one that cannot be.
//!
//! Owns the types, and what a set of timings contradicts in itself. How options get their meaning is in `resolve`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rap_authority::{LONGEST_CERTIFICATE, LONGEST_FRESH};
use rap_runtime::settings_layers::Problem;
use rap_types::sense::Loopback;

use crate::config::listen::Listen;

/// How strictly trust is anchored; fixed for the life of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityMode {
    /// An offline Product Root vouches for the installation.
    Strict,
    /// The root is made in the data directory; private addresses only.
    Dev,
}

impl AuthorityMode {
    /// The word in files and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Dev => "dev",
        }
    }
}

/// Where the rows are.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseSource {
    /// A private PostgreSQL in `<data-dir>/postgres`.
    Embedded,
    /// A PostgreSQL somebody else runs.
    Url(String),
    /// The URL is in this file.
    UrlFile(PathBuf),
}

impl fmt::Debug for DatabaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("Embedded"),
            Self::Url(_) => f.write_str("Url(..)"),
            Self::UrlFile(path) => write!(f, "UrlFile({})", path.display()),
        }
    }
}

/// Bounds on what strangers may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Calls per second without a session, per source.
    pub unauthenticated_per_second: u32,
    /// Burst above that.
    pub unauthenticated_burst: u32,
    /// Handshakes in flight per source.
    pub handshakes_per_source: u32,
    /// Handshakes in flight in all.
    pub handshakes_total: u32,
    /// Deadline of a handshake.
    pub handshake_timeout: Duration,
    /// Open connections in all.
    pub connections: u32,
    /// Open connections per source.
    pub connections_per_source: u32,
    /// Deadline of a call, streams excepted.
    pub request_timeout: Duration,
    /// Deadline of the body of a call without a session.
    pub body_timeout: Duration,
}

/// What a new cluster gets unless its creator says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterDefaults {
    /// How long a head is fresh.
    pub fresh_for: Duration,
    /// How long a node works on past that.
    pub degraded_for: Duration,
    /// How often an idle head is signed again.
    pub refresh_every: Duration,
    /// Life of a node certificate.
    pub leaf_lifetime: Duration,
}

impl ClusterDefaults {
    /// What contradicts itself, with the option that should change.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.degraded_for > self.leaf_lifetime / 2 {
            problems.push(Problem::new(
                "degraded_for_ms",
                "must not exceed half of leaf_lifetime_ms: a degraded node could not renew its certificate",
            ));
        }
        if self.leaf_lifetime < Duration::from_secs(10) {
            problems.push(Problem::new("leaf_lifetime_ms", "must be at least 10000"));
        }
        if self.leaf_lifetime > LONGEST_CERTIFICATE {
            problems.push(Problem::new("leaf_lifetime_ms", "must be at most 366 days"));
        }
        if self.fresh_for > LONGEST_FRESH {
            problems.push(Problem::new("fresh_for_ms", "must be at most 31 days"));
        }
        if self.refresh_every > self.fresh_for / 2 {
            problems.push(Problem::new(
                "refresh_every_ms",
                "must not exceed half of fresh_for_ms: nodes would be degraded between two refreshes",
            ));
        }
        if self.refresh_every < Duration::from_millis(100) {
            problems.push(Problem::new("refresh_every_ms", "must be at least 100"));
        }
        problems
    }
}

/// Timing of distribution.
#[derive(Debug, Clone)]
pub struct Pushing {
    /// A refreshed head reaches every node within this time.
    pub head_within: Duration,
    /// Longest time a change waits without a doorbell.
    pub outbox_poll: Duration,
    /// How often every row is read and checked; zero for every version.
    pub rows_check: Duration,
    /// Deadline of one message to a node.
    pub write_timeout: Duration,
    /// How often nodes report.
    pub report_interval: Duration,
    /// Spread of reconnects.
    pub reconnect_window: Duration,
}

/// A validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of everything this control plane keeps.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// How nodes and operators reach it; never empty.
    pub control_urls: Vec<String>,
    /// Strict or dev.
    pub mode: AuthorityMode,
    /// Whether endpoints of nodes may be loopback addresses.
    pub loopback: Loopback,
    /// Product Root public key file; the data directory's copy if unset.
    pub root_key: Option<PathBuf>,
    /// Secret encryption key file; the data directory's if unset.
    pub secret_key_file: Option<PathBuf>,
    /// Where the rows are.
    pub database: DatabaseSource,
    /// Metrics endpoint; `None` = off.
    pub metrics: Option<SocketAddr>,
    /// Log filter.
    pub log: String,
    /// True for one JSON object per line.
    pub log_json: bool,
    /// Bounds on strangers.
    pub limits: Limits,
    /// Life of an operator session.
    pub session: Duration,
    /// Defaults of new clusters.
    pub cluster: ClusterDefaults,
    /// Timing of distribution.
    pub pushing: Pushing,
}
