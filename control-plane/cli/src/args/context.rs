//! `rapctl context`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// List contexts.
    List,
    /// Make a context current.
    Use {
        /// Context name.
        name: String,
        /// Cluster that commands are about unless --cluster names another one.
        #[arg(long, value_name = "CLUSTER")]
        default_cluster: Option<String>,
    },
    /// Print a context without its session, for another operator.
    Export,
    /// Add a context printed by `context export`.
    Import {
        /// File, or - for standard input.
        file: PathBuf,
    },
    /// Forget a context.
    Delete {
        /// Context name.
        name: String,
    },
}
