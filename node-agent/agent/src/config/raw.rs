//! What a person may write: one struct that mirrors the flags, the `RAP_*` environment and the file.
//!
//! Owns names and help texts. Refuses to own defaults and meaning: see `resolve`.

use std::path::PathBuf;

/// Every option, unset unless written.
#[derive(Debug, Clone, Default, clap::Args, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Configuration (flag, variable, or key of the configuration file)")]
pub struct Raw {
    /// Directory of every membership's keys and state [default: /var/lib/rap/agent]
    #[arg(long, global = true, env = "RAP_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Socket of the running agent [default: /run/rap/agent.sock]
    #[arg(long, global = true, env = "RAP_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory of the data planes' sockets [default: the directory of the agent's socket]
    #[arg(long, global = true, env = "RAP_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Membership on this host [default: default for join, all of them for looking]
    #[arg(long, global = true, env = "RAP_MEMBERSHIP", value_name = "NAME")]
    pub membership: Option<String>,
    /// Accept what a development installation signs
    #[arg(
        long,
        global = true,
        env = "RAP_DEV",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        value_name = "BOOL"
    )]
    pub dev: Option<bool>,
    /// Dial endpoints that are loopback addresses: for nodes that all run on this host; --dev implies it
    #[arg(
        long,
        global = true,
        env = "RAP_LOOPBACK_ENDPOINTS",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        value_name = "BOOL"
    )]
    pub loopback_endpoints: Option<bool>,
    /// Cluster authority that a token must name, hex or base64
    #[arg(long, global = true, env = "RAP_CLUSTER_AUTHORITY_PUBLIC_KEY", value_name = "KEY")]
    pub cluster_authority_public_key: Option<String>,
    /// Fingerprint of the cluster authority that a token must name, SHA256:<hex>
    #[arg(long, global = true, env = "RAP_CLUSTER_AUTHORITY_FINGERPRINT", value_name = "FINGERPRINT")]
    pub cluster_authority_fingerprint: Option<String>,
    /// Seconds between two polls while waiting for approval [default: 5]
    #[arg(long, global = true, env = "RAP_ENROLLMENT_POLL_INTERVAL_SECONDS", value_name = "S")]
    pub enrollment_poll_interval_seconds: Option<u64>,
    /// Seconds after which a waiting join gives up; run it again to resume [default: 3600, or 300 as long as no control plane answers]
    #[arg(long, global = true, env = "RAP_ENROLLMENT_POLL_TIMEOUT_SECONDS", value_name = "S")]
    pub enrollment_poll_timeout_seconds: Option<u64>,
    /// Start assigned workloads; never concerns the data plane [default: true]
    #[arg(long, global = true, env = "RAP_WORKLOAD_SUPERVISION_ENABLED", value_name = "BOOL")]
    pub workload_supervision_enabled: Option<bool>,
    /// Name to ask for [default: the host name]
    #[arg(long, global = true, env = "RAP_NODE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Region of this host
    #[arg(long, global = true, env = "RAP_REGION", value_name = "REGION")]
    pub region: Option<String>,
    /// Endpoint under which other nodes reach this one's links; repeatable
    #[arg(long, global = true, env = "RAP_ADVERTISE", value_name = "HOST:PORT", value_delimiter = ',')]
    pub advertise: Option<Vec<String>>,
    /// Endpoint under which other nodes reach this one's WireGuard; repeatable
    #[arg(
        long,
        global = true,
        env = "RAP_ADVERTISE_WIREGUARD",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub advertise_wireguard: Option<Vec<String>>,
    /// Address and port for links of other nodes [default: [::]:7443]
    #[arg(long, global = true, env = "RAP_LISTEN_LINK", value_name = "ADDR:PORT")]
    pub listen_link: Option<String>,
    /// Address and port for WireGuard [default: [::]:51820]
    #[arg(long, global = true, env = "RAP_LISTEN_WIREGUARD", value_name = "ADDR:PORT")]
    pub listen_wireguard: Option<String>,
    /// Name of the TUN interface [default: rap0]
    #[arg(long, global = true, env = "RAP_INTERFACE", value_name = "NAME")]
    pub interface: Option<String>,
    /// Run without a TUN device: needs no privileges, carries no host traffic
    #[arg(
        long,
        global = true,
        env = "RAP_NO_TUN",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        value_name = "BOOL"
    )]
    pub no_tun: Option<bool>,
    /// Folder of the files that bound data planes; join writes MEMBERSHIP.env there [default: /etc/rap/dataplane]
    #[arg(long, global = true, env = "RAP_BOUNDS_DIR", value_name = "DIR")]
    pub bounds_dir: Option<PathBuf>,
    /// For join: a prefix in which the overlay wins over routes of this host; never over what the host needs; repeatable
    #[arg(long, global = true, env = "RAP_ALLOW_OVERLAP", value_name = "PREFIX", value_delimiter = ',')]
    pub allow_overlap: Option<Vec<String>>,
    /// Program of the data plane [default: rap-dataplane beside this program]
    #[arg(long, global = true, env = "RAP_DATAPLANE_BIN", value_name = "FILE")]
    pub dataplane_bin: Option<PathBuf>,
    /// Who starts a data plane if none runs: spawn (the agent), systemd (the agent, as its own unit), external [default: spawn]
    #[arg(long, global = true, env = "RAP_DATAPLANE", value_name = "MODE")]
    pub dataplane: Option<String>,
    /// Seconds that a path through relays lives unless it is renewed [default: 600]
    #[arg(long, global = true, env = "RAP_PATH_LIFETIME_SECONDS", value_name = "S")]
    pub path_lifetime_seconds: Option<u64>,
    /// Most links that a relay takes with nodes that are no relays [default: 512]
    #[arg(long, global = true, env = "RAP_ATTACHMENTS_MAX", value_name = "N")]
    pub attachments_max: Option<u32>,
    /// Most bytes of cached state per membership [default: 67108864]
    #[arg(long, global = true, env = "RAP_CACHE_BYTES", value_name = "BYTES")]
    pub cache_bytes: Option<u64>,
    /// Deadline of one call to the control plane, milliseconds [default: 10000]
    #[arg(long, global = true, env = "RAP_CALL_TIMEOUT_MS", value_name = "MS")]
    pub call_timeout_ms: Option<u64>,
    /// ADDRESS:PORT of the metrics endpoint, or `off` [default: 127.0.0.1:9465]
    #[arg(long, global = true, env = "RAP_METRICS", value_name = "ADDR:PORT")]
    pub metrics: Option<String>,
    /// Log filter, as in RUST_LOG [default: info]
    #[arg(long, global = true, env = "RAP_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// text or json [default: text]
    #[arg(long, global = true, env = "RAP_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}
