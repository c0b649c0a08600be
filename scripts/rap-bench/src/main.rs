//! Runs one benchmark scenario, prints a table and writes artifacts/bench/NAME.json.

use clap::Parser as _;

fn main() -> anyhow::Result<()> {
    rap_bench::Cli::parse().run()
}
