//! `rapctl verify`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Export of `rap-node-agent snapshot export` or `rapctl node export`.
    pub(crate) export: PathBuf,
    /// Product Root public key file.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: PathBuf,
    /// Accept a development installation's signatures.
    #[arg(long)]
    pub(crate) dev: bool,
}
