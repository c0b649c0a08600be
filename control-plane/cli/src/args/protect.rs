//! How private key files are protected: the same options wherever one is read or written.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Clone, Args)]
pub(crate) struct Protect {
    /// File with the passphrase of private key files (default: ask on the terminal).
    #[arg(long, value_name = "FILE", env = "RAPCTL_PASSPHRASE_FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Write private keys unencrypted (for keys on protected media).
    #[arg(long)]
    pub(crate) no_passphrase: bool,
}
