//! `sim`: drives the shipped cores from a seed and says how to do it again.

mod control;
mod events;
mod fabric;
mod host;
mod require;
mod seeds;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

/// Planner, delivery, acceptor, forwarding table, paths and choice of ways of a cluster, with a network that loses, repeats and
/// reorders, disks that fail, processes that die, and nodes that cheat.
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs seeds 1 to N, or one seed again.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        seeds: u64,
        /// Only this seed.
        #[arg(long, value_name = "SEED")]
        replay: Option<u64>,
        /// Nodes at the start.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(12..=2_000))]
        nodes: u32,
        /// Simulated minutes of each seed.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
        minutes: u64,
        /// Writes a report to this file.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
}

fn main() -> Result<ExitCode> {
    let Command::Run { seeds, replay, nodes, minutes, report } = Cli::parse().command;
    let length = Duration::from_secs(60 * minutes);
    let again = |seed| format!("again: scripts/sim run --replay {seed} --nodes {nodes} --minutes {minutes}");
    let chosen = replay.map_or(1..=seeds, |seed| seed..=seed);
    let outcome = seeds::run(chosen, nodes, length, |seed, ran| match ran {
        Ok(trail) => println!("seed {seed}: {trail:016x}"),
        Err(error) => {
            println!("seed {seed}: {error:#}");
            println!("{}", again(seed));
        }
    });
    print!("{}", outcome.counts);
    // One seed need not have everything.
    let never = if replay.is_some() { Vec::new() } else { outcome.counts.never() };
    if !never.is_empty() {
        println!("never occurred: {}", never.join(", "));
    }
    if let Some(file) = report {
        outcome.write(&file, nodes, minutes).context("the report")?;
    }
    Ok(if outcome.failed.is_empty() && never.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seeds: std::ops::RangeInclusive<u64>) -> (Vec<String>, seeds::Outcome) {
        let mut said = Vec::new();
        let outcome =
            seeds::run(seeds, 12, Duration::from_secs(150), |seed, ran| said.push(format!("{seed} {ran:?}")));
        (said, outcome)
    }

    #[test]
    fn a_seed_is_the_whole_run() {
        let (first, again) = (run(7..=7), run(7..=7));
        assert_eq!((first.0, first.1.counts.to_string()), (again.0, again.1.counts.to_string()));
    }

    #[test]
    fn what_must_hold_holds_in_small_runs() {
        let (said, outcome) = run(1..=6);
        assert!(outcome.failed.is_empty(), "{said:#?}");
        let never = outcome.counts.never();
        for event in ["PathRenewed", "BackupUp", "Failover", "NeighbourRefused", "StaleRefused"] {
            assert!(!never.contains(&event.to_owned()), "{event} did not occur: {}", outcome.counts);
        }
    }
}
