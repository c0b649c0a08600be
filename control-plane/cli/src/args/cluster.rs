//! `rapctl cluster`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{DryRun, Protect};
use crate::duration::parse_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Create a cluster with its own authority.
    Create(ClusterCreate),
    /// List clusters.
    List,
    /// Show a cluster and its authority fingerprint.
    Show {
        /// Name or id [default: that of --cluster, the context's, or the only one].
        name: Option<String>,
    },
    /// Give a cluster whose row came from an older system its keys, after showing what the row says.
    EnsureAuthority {
        /// Name or id [default: that of --cluster, the context's, or the only one].
        name: Option<String>,
        /// Words for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
        /// Only show what would be adopted.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show how long memberships and keys last and what degraded mode allows; with options, change it.
    Policy(ClusterPolicy),
    /// Seal every secret and row of a cluster under a new data key, and remove the old one.
    RotateDek {
        /// Name or id [default: that of --cluster, the context's, or the only one].
        name: Option<String>,
        /// Why, for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show the CAs of a cluster, and which nodes a rotation waits for.
    Ca {
        /// Name or id [default: that of --cluster, the context's, or the only one].
        name: Option<String>,
    },
    /// Replace the CA that signs node certificates. The rotation goes on by itself and ends when every node follows it.
    RotateCa {
        /// Name or id [default: that of --cluster, the context's, or the only one].
        name: Option<String>,
        /// Go on to the next stage without the nodes that are missing.
        #[arg(long)]
        advance: bool,
        /// Keep the CA before: the rotation goes back.
        #[arg(long, conflicts_with = "advance")]
        abort: bool,
        /// Why, for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ClusterCreate {
    /// Name, unique in the installation.
    pub(crate) name: String,
    /// IPv4 overlay pool; cannot be changed later.
    #[arg(long, default_value = "100.96.0.0/16")]
    pub(crate) ipv4_pool: String,
    /// How long a head keeps nodes informed.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) fresh_for: Option<Duration>,
    /// How often an idle head is signed again.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) refresh_every: Option<Duration>,
    /// How long nodes work on without contact.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) degraded_for: Option<Duration>,
    /// Lifetime of node certificates.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) leaf_lifetime: Option<Duration>,
    /// Use this authority key file instead of a key that the control plane makes.
    #[arg(long, value_name = "FILE")]
    pub(crate) import_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) protect: Protect,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterPolicy {
    /// Name or id [default: that of --cluster, the context's, or the only one].
    pub(crate) name: Option<String>,
    /// Absence after which ephemeral nodes are removed.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) ephemeral_after: Option<Duration>,
    /// Age at which nodes replace their WireGuard key; 0s = never.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) wireguard_key_max_age: Option<Duration>,
    /// Age at which nodes replace their identity key; 0s = never.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) identity_key_max_age: Option<Duration>,
    /// Whether an approved key that a gone node had gets that node's id again.
    #[arg(long)]
    pub(crate) keep_ids: Option<bool>,
    #[command(flatten)]
    pub(crate) degraded: DegradedWords,
    /// Write policies anew whose rows are gone, with defaults for what is not given here; shows them and asks.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) restore_missing: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct DegradedWords {
    /// Activities that end as soon as a node is degraded: replaces the list.
    #[arg(long, value_name = "ACTIVITY,...", value_delimiter = ',', conflicts_with = "clear_degraded_ends")]
    pub(crate) degraded_ends: Option<Vec<String>>,
    /// Let every activity of degraded mode go on.
    #[arg(long)]
    pub(crate) clear_degraded_ends: bool,
    /// Role whose peers stay after degraded mode, until a node's own certificate ends; repeat for more: replaces the list.
    #[arg(
        long = "survive-forever-role",
        value_parser = super::role_words(),
        value_name = "ROLE",
        conflicts_with = "clear_survive_forever_roles"
    )]
    pub(crate) survive_forever_roles: Option<Vec<String>>,
    /// Let no peer stay after degraded mode.
    #[arg(long)]
    pub(crate) clear_survive_forever_roles: bool,
}
