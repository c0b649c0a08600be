//! `rapctl break-glass`, and what a break-glass grant says whoever signs it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Protect;
use crate::duration::parse_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum BreakGlass {
    /// Sign a grant offline, with the Product Root's key, or with a cluster authority's key file that was imported;
    /// `--cluster` is the cluster's id.
    Sign {
        /// Key file; give all that signed the activation if the Product Root has several.
        #[arg(long = "key-file", value_name = "FILE", required = true)]
        keys: Vec<PathBuf>,
        /// Installation id (`rapctl verify`, `rap-node-agent status --json`).
        #[arg(long, value_name = "ID")]
        installation: String,
        /// For a development installation.
        #[arg(long)]
        dev: bool,
        #[command(flatten)]
        grant: BreakGlassTerms,
        #[command(flatten)]
        protect: Protect,
    },
    /// Have the control plane sign a grant with the cluster authority's key.
    Issue {
        #[command(flatten)]
        grant: BreakGlassTerms,
    },
    /// Grants that nodes have used.
    Uses,
}

#[derive(Debug, Args)]
pub(crate) struct BreakGlassTerms {
    /// Node id it is for (default: every node of the cluster).
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<String>,
    /// Why; shown on the nodes and in the audit log.
    #[arg(long)]
    pub(crate) reason: String,
    /// How long the grant lives, at most 24h.
    #[arg(long, default_value = "4h", value_parser = parse_duration)]
    pub(crate) ttl: Duration,
    /// Degraded mode lasts for this long from now.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "peer")]
    pub(crate) extend: Option<Duration>,
    /// Admit the peer in this JSON file.
    #[arg(long, value_name = "FILE", required_unless_present = "extend")]
    pub(crate) peer: Option<PathBuf>,
    /// Write the grant to a new file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}
