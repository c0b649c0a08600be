//! `rapctl audit`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::duration::parse_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries, the newest last; with `--cluster` only those of that cluster.
    List(AuditList),
    /// Check the newest checkpoint, that it continues the last one seen, and the newest entries under it.
    Verify(AuditVerify),
    /// Write entries, checkpoints and the chain from the Product Root to a file.
    Export(AuditExport),
    /// Begin a new generation after the log stopped because history was lost (owners only).
    Restart {
        /// Why; every auditor will read it.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditList {
    /// Only entries by this actor, for example operator:ann@example.com.
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only this action, for example node.approve.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only entries of this last time, for example 24h.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) since: Option<Duration>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// Check this export with no network; needs --root-key.
    #[arg(long, value_name = "FILE", requires = "root_key")]
    pub(crate) file: Option<PathBuf>,
    /// Product Root public key file: where trust begins.
    #[arg(long, value_name = "FILE")]
    pub(crate) root_key: Option<PathBuf>,
    /// Accept a development installation's signatures in a file.
    #[arg(long)]
    pub(crate) dev: bool,
    /// Accept a file that ends before what this operator has seen of the log: an export that was made earlier.
    #[arg(long, requires = "file")]
    pub(crate) older: bool,
    /// How many of the newest entries are proved.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    /// File to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}
