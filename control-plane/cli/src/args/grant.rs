//! `rapctl grant`: who may operate the platform.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use rap_types::PlatformRole;

use crate::duration::parse_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    /// List who may operate the platform, and who might once.
    List,
    /// Show one grant.
    Show {
        /// Operator's name, digest of the grant, or fingerprint of the key.
        grant: String,
    },
    /// Let an operator's key operate the platform.
    Add {
        /// Operator, as a name or e-mail address.
        name: String,
        /// Public key file of `rapctl key create`.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// platform_owner, platform_admin or recovery.
        #[arg(long)]
        role: PlatformRole,
        /// How long; without it the grant has no end.
        #[arg(long, value_parser = parse_duration)]
        ttl: Option<Duration>,
    },
    /// Take a grant back: its sessions end, and it holds at every replica when this returned.
    Revoke {
        /// Operator's name, digest of the grant, or fingerprint of the key.
        grant: String,
        /// Why, for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show the newest signed set of grants, by which replicas compare their floors.
    Set {
        /// Write the signed set to this file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}
