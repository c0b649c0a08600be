//! `rapctl ping`.

use std::time::Duration;

use clap::Args;

use crate::duration::parse_duration;

#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// Node that pings, name or id.
    pub(crate) from: String,
    /// Node that answers, name or id.
    pub(crate) to: String,
    /// How many.
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) count: u32,
    /// Time between two.
    #[arg(long, default_value = "200ms", value_parser = parse_duration)]
    pub(crate) interval: Duration,
}
