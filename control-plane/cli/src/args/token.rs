//! `rapctl token`: join tokens.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::role_words;
use crate::duration::parse_some_duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Create a join token.
    Create {
        /// Role of the nodes it admits; repeat for more. Without one they are plain nodes, which is right for most:
        /// `core` and `relay-node` make a node with an advertised endpoint carry other nodes' traffic and know them.
        #[arg(long = "role", value_parser = role_words())]
        roles: Vec<String>,
        /// How many nodes may join.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
        /// How long it is valid.
        #[arg(long, default_value = "1h", value_parser = parse_some_duration)]
        ttl: Duration,
        /// Let the token itself approve.
        #[arg(long)]
        auto_approve: bool,
        /// Label of the nodes it admits; repeat for more.
        #[arg(long = "tags", value_delimiter = ',')]
        tags: Vec<String>,
        /// The nodes it admits are removed after an absence (see `cluster policy`).
        #[arg(long)]
        ephemeral: bool,
        /// Write the token to this file (0600) instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List tokens.
    List,
    /// Revoke a token: no new request appears after this returned.
    Revoke {
        /// Token id.
        token: String,
        /// Also evict every node it admitted, and deny those that wait.
        #[arg(long)]
        with_nodes: bool,
        /// Why, for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
    },
}
