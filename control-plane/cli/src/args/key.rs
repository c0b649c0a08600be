//! `rapctl key`: operators' keys.

use std::path::PathBuf;

use clap::Subcommand;

use super::Protect;

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make an operator's key: NAME.key (encrypted) and NAME.pub, which an owner grants a role to.
    Create {
        /// Path without extension.
        #[arg(long, value_name = "NAME")]
        out: PathBuf,
        #[command(flatten)]
        protect: Protect,
    },
}
