//! `path`.

use clap::{Args, Subcommand};
use rap_runtime::path_text::assumed_down;
use rap_types::ChannelClass;

#[derive(Debug, Subcommand)]
pub(crate) enum Path {
    /// Why a node reaches another one by the relays that it takes, and what every other path would cost it.
    Explain(PathExplain),
}

#[derive(Debug, Args)]
pub(crate) struct PathExplain {
    /// Node that is asked, name or id.
    pub(crate) from: String,
    /// Node that the path leads to, name or id.
    pub(crate) to: String,
    /// Class of the traffic.
    #[arg(long, default_value = "vpn", value_parser = rap_runtime::path_text::class)]
    pub(crate) class: ChannelClass,
    /// Decide as if a relay were down, and change nothing: relay=NAME,down.
    #[arg(long = "what-if", value_name = "relay=NAME,down", value_parser = assumed_down)]
    pub(crate) assumed_down: Vec<String>,
}
