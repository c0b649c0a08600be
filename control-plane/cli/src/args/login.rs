//! `rapctl login`.

use std::path::PathBuf;

use clap::Args;

use super::Protect;

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Control URL, https://HOST:PORT; default: the context's.
    pub(crate) url: Option<String>,
    /// Consume this activation manifest and become the first owner.
    #[arg(long, value_name = "FILE")]
    pub(crate) activate: Option<PathBuf>,
    /// Product Root public key to check the manifest against.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Option<PathBuf>,
    /// Key file to log in with (default: the owner key beside the manifest, or the context's).
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) protect: Protect,
}
