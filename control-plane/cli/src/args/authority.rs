//! `rapctl authority`: a cluster's authority keys.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Protect;

#[derive(Debug, Subcommand)]
pub(crate) enum Authority {
    /// Make a cluster authority key on this machine, to import it later.
    Key {
        /// File to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// For `rap-control-plane init --import-installation-key` instead of a cluster.
        #[arg(long)]
        installation: bool,
        #[command(flatten)]
        protect: Protect,
    },
    /// List a cluster's authority keys and their states.
    List,
    /// Make or import the key of the next rotation, without using it yet.
    Prepare(NextKey),
    /// Replace the key: the prepared one, or a new one, speaks for the cluster from now on.
    Rotate(NextKey),
    /// Show which nodes keep which authority record.
    Confirmations,
    /// Retire a replaced key, once every node seen within a day keeps the newer record.
    Taint {
        #[command(flatten)]
        which: WhichKey,
        /// Do not wait for nodes that have not confirmed.
        #[arg(long)]
        force: bool,
    },
    /// Erase a tainted key: join tokens that it signed end.
    Revoke(WhichKey),
    /// Replace a lost or stolen key by the word of the installation authority; revokes every earlier key.
    Recover(NextKey),
}

#[derive(Debug, Args)]
pub(crate) struct NextKey {
    /// Use this key file instead of a key that the control plane makes.
    #[arg(long, value_name = "FILE")]
    pub(crate) import_key: Option<PathBuf>,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) protect: Protect,
}

#[derive(Debug, Args)]
pub(crate) struct WhichKey {
    /// Place of its record [default: the oldest to which the step applies].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) record: u64,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}
