//! What a person may write: one struct that mirrors the flags, the `RAP_*` environment and the file.
//!
//! Owns names and help texts. Refuses to own defaults and meaning: see `resolve`.

use std::path::PathBuf;

/// Every option, unset unless written. Durations are milliseconds unless the name says otherwise.
#[derive(Debug, Clone, Default, clap::Args, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Configuration (flag, variable, or key of the configuration file)")]
pub struct Raw {
    /// Directory of everything this control plane keeps [default: /var/lib/rap/control-plane]
    #[arg(long, env = "RAP_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// HOST:PORT to listen on; a name stands for every address it has, [::] for IPv4, too [default: [::]:8443]
    #[arg(long, env = "RAP_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// URLs under which nodes and operators reach this control plane, comma-separated
    #[arg(long = "control-url", env = "RAP_CONTROL_URLS", value_name = "URL", value_delimiter = ',')]
    pub control_urls: Option<Vec<String>>,
    /// strict, or dev for trying things out on this host; fixed by `init` [default: strict]
    #[arg(long, env = "RAP_AUTHORITY_MODE", value_name = "MODE")]
    pub authority_mode: Option<String>,
    /// File with the Product Root public key [default: the copy that init made]
    #[arg(long, env = "RAP_ROOT_KEY", value_name = "FILE")]
    pub root_key: Option<PathBuf>,
    /// File with the secret encryption key, base64 [default: <data-dir>/secret.key]
    #[arg(long, env = "SECRET_ENCRYPTION_KEY_B64_FILE", value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,
    /// PostgreSQL URL [default: a private PostgreSQL inside the data directory]
    #[arg(long, env = "RAP_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// File with the PostgreSQL URL
    #[arg(long, env = "RAP_DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,
    /// HOST:PORT of the metrics endpoint, or `off` [default: 127.0.0.1:9464]
    #[arg(long, env = "RAP_METRICS", value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    /// Log filter, as in RUST_LOG [default: info,sqlx=warn]
    #[arg(long, env = "RAP_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// text or json [default: text]
    #[arg(long, env = "RAP_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Take endpoints of nodes that are loopback addresses: for nodes that all run on this host. The same at every
    /// replica [default: true in dev mode, else false]
    #[arg(long, env = "RAP_LOOPBACK_ENDPOINTS", value_name = "BOOL")]
    pub loopback_endpoints: Option<bool>,

    /// Calls per second without a session, per source: an IPv4 address or an IPv6 /56 [default: 20]
    #[arg(long, env = "RAP_UNAUTHENTICATED_PER_SECOND", value_name = "N")]
    pub unauthenticated_per_second: Option<u32>,
    /// Burst above that rate [default: 100]
    #[arg(long, env = "RAP_UNAUTHENTICATED_BURST", value_name = "N")]
    pub unauthenticated_burst: Option<u32>,
    /// TLS handshakes in flight per source: an IPv4 address or an IPv6 /56 [default: 64]
    #[arg(long, env = "RAP_HANDSHAKES_PER_SOURCE", value_name = "N")]
    pub handshakes_per_source: Option<u32>,
    /// TLS handshakes in flight in all [default: 1024]
    #[arg(long, env = "RAP_HANDSHAKES_TOTAL", value_name = "N")]
    pub handshakes_total: Option<u32>,
    /// Deadline of a TLS handshake [default: 5000]
    #[arg(long, env = "RAP_HANDSHAKE_TIMEOUT_MS", value_name = "MS")]
    pub handshake_timeout_ms: Option<u64>,
    /// Open connections in all [default: 16384]
    #[arg(long, env = "RAP_CONNECTIONS", value_name = "N")]
    pub connections: Option<u32>,
    /// Open connections per source: an IPv4 address or an IPv6 /56 [default: 1024]
    #[arg(long, env = "RAP_CONNECTIONS_PER_SOURCE", value_name = "N")]
    pub connections_per_source: Option<u32>,
    /// Deadline of one call, streams excepted [default: 10000]
    #[arg(long, env = "RAP_REQUEST_TIMEOUT_MS", value_name = "MS")]
    pub request_timeout_ms: Option<u64>,
    /// Deadline of the whole body of a call without a session [default: 5000]
    #[arg(long, env = "RAP_BODY_TIMEOUT_MS", value_name = "MS")]
    pub body_timeout_ms: Option<u64>,
    /// Life of an operator session, seconds, at most 43200 [default: 43200]
    #[arg(long, env = "RAP_SESSION_SECONDS", value_name = "S")]
    pub session_seconds: Option<u64>,

    /// Default of new clusters: how long a head is fresh [default: 300000]
    #[arg(long, env = "RAP_FRESH_FOR_MS", value_name = "MS")]
    pub fresh_for_ms: Option<u64>,
    /// Default of new clusters: how long a node works on past that [default: 43200000]
    #[arg(long, env = "RAP_DEGRADED_FOR_MS", value_name = "MS")]
    pub degraded_for_ms: Option<u64>,
    /// Default of new clusters: how often an idle head is signed again [default: 30000]
    #[arg(long, env = "RAP_REFRESH_EVERY_MS", value_name = "MS")]
    pub refresh_every_ms: Option<u64>,
    /// Default of new clusters: life of a node certificate [default: 86400000]
    #[arg(long, env = "RAP_LEAF_LIFETIME_MS", value_name = "MS")]
    pub leaf_lifetime_ms: Option<u64>,

    /// A refreshed head reaches every node within this time [default: 60000]
    #[arg(long, env = "RAP_HEAD_WITHIN_MS", value_name = "MS")]
    pub head_within_ms: Option<u64>,
    /// Longest time a change waits if no doorbell rings [default: 2000]
    #[arg(long, env = "RAP_OUTBOX_POLL_MS", value_name = "MS")]
    pub outbox_poll_ms: Option<u64>,
    /// How often every row is read and checked, and not only those that changed; 0 = for every version
    /// [default: 60000]
    #[arg(long, env = "RAP_ROWS_CHECK_MS", value_name = "MS")]
    pub rows_check_ms: Option<u64>,
    /// Deadline of one message to a node [default: 10000]
    #[arg(long, env = "RAP_NODE_WRITE_TIMEOUT_MS", value_name = "MS")]
    pub node_write_timeout_ms: Option<u64>,
    /// How often nodes report [default: 15000]
    #[arg(long, env = "RAP_REPORT_INTERVAL_MS", value_name = "MS")]
    pub report_interval_ms: Option<u32>,
    /// Spread of reconnects after a lost stream [default: 5000]
    #[arg(long, env = "RAP_RECONNECT_WINDOW_MS", value_name = "MS")]
    pub reconnect_window_ms: Option<u32>,
}
