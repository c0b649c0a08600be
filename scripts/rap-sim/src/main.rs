//! `sim`: drives the shipped cores from a seed and says how to do it again.

mod control;
mod events;
mod host;
mod world;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use events::Counts;
use world::World;

/// Planner, delivery, acceptor and forwarding table of a few hundred nodes, with a network that loses, repeats
/// and reorders messages, disks that fail, and nodes that restart.
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
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        seeds: u64,
        /// Only this seed.
        #[arg(long, value_name = "SEED")]
        replay: Option<u64>,
        /// Nodes at the start.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=2_000))]
        nodes: u32,
        /// Steps before the faults end.
        #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        steps: u32,
    },
}

fn main() -> Result<ExitCode> {
    let Command::Run { seeds, replay, nodes, steps } = Cli::parse().command;
    let mut counts = Counts::default();
    for seed in replay.map_or(1..=seeds, |seed| seed..=seed) {
        let ran = World::new(seed, nodes).and_then(|mut world| world.run(steps, &mut counts));
        if let Err(error) = ran {
            eprintln!("seed {seed}: {error:#}");
            eprintln!("again: scripts/sim run --replay {seed} --nodes {nodes} --steps {steps}");
            return Ok(ExitCode::FAILURE);
        }
        println!("seed {seed}: every node holds the newest version");
    }
    print!("{counts}");
    let never = counts.never();
    if !never.is_empty() {
        bail!("never occurred: {}", never.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// What must hold.
fn require(holds: bool, what: impl FnOnce() -> String) -> Result<()> {
    holds.then_some(()).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_whole_run() {
        let run = || {
            let mut counts = Counts::default();
            World::new(7, 12).unwrap().run(60, &mut counts).unwrap();
            counts.to_string()
        };
        let first = run();
        assert_eq!(first, run());
        assert!(first.contains("DeltaUpdate"), "{first}");
    }
}
