//! `mesh`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Mesh {
    /// Show links that are up too.
    #[arg(long)]
    pub(crate) all: bool,
}
