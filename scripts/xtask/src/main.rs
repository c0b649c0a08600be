//! Checks on the repository itself. Owns the command line; each check owns its rule.

mod circles;
mod described;
mod docs;
mod documents;
mod edges;
mod errors;
mod faults;
mod limits;
mod links;
mod migrations;
mod names;
mod paths;
mod program;
mod purity;
mod rooms;
mod rules;
mod scan;
mod size;
mod tests_kept;
mod tree;
mod unused;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Checks on the repository itself.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Arguments {
    /// Another checkout than the one that this program was built in.
    #[arg(long)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compare the crates' dependencies and sources with scripts/xtask/layers.toml; check the numbers of migrations.
    Layers,
    /// Print the largest circle of files of every crate.
    Circles {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Print the paths that make the edges between two files, both ways.
        #[arg(long, num_args = 2, value_names = ["FILE", "FILE"])]
        explain: Option<Vec<PathBuf>>,
    },
    /// Compare which top-level modules of a package use which others with scripts/xtask/layers.toml.
    Rooms {
        /// Only this package.
        package: Option<String>,
    },
    /// Print the name of every test.
    Tests {
        /// Grouped by module, as in scripts/xtask/tests/old.txt.
        #[arg(long, conflicts_with_all = ["check", "propose"])]
        group: bool,
        /// Fail for a test of scripts/xtask/tests/old.txt that is neither there nor in scripts/xtask/tests/map.toml.
        #[arg(long)]
        check: bool,
        /// Print entries for scripts/xtask/tests/map.toml where the check needs some.
        #[arg(long, conflicts_with = "check")]
        propose: bool,
    },
    /// Print what libraries export and nobody outside of them uses.
    UnusedPub {
        /// Make them `pub(crate)`.
        #[arg(long)]
        write: bool,
    },
    /// Print files, code lines and test lines of every package.
    Size,
    /// Compare circles, lengths of files and code lines with scripts/xtask/limits.toml.
    Limits {
        /// Lower what limits.toml still allows above a limit.
        #[arg(long)]
        write: bool,
    },
    /// Compare docs/ERRORS.md with the table of reasons.
    Errors {
        /// Write the file instead.
        #[arg(long)]
        write: bool,
    },
    /// Everything documents promise: the table of reasons, links and paths that lead somewhere, names that are
    /// where a page says, every crate described and every page within reach.
    Docs,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in &findings {
                eprintln!("{finding}");
            }
            eprintln!("{} finding(s)", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs one task and returns what is wrong, one line each.
fn run(arguments: Arguments) -> Result<Vec<String>> {
    let root = arguments.root.map_or_else(repository, Ok)?;
    match arguments.task {
        Task::Layers => layers(&root),
        Task::Circles { json, explain } => circles::run(&root, json, explain.as_deref()),
        Task::Rooms { package } => rooms::run(&root, package.as_deref()),
        Task::Tests { check: true, .. } => tests_kept::run(&root, tests_kept::Order::Check),
        Task::Tests { propose: true, .. } => tests_kept::run(&root, tests_kept::Order::Propose),
        Task::Tests { group: true, .. } => tests_kept::run(&root, tests_kept::Order::Group),
        Task::Tests { .. } => tests_kept::run(&root, tests_kept::Order::List),
        Task::UnusedPub { write } => unused::run(&root, write),
        Task::Size => size::run(&root),
        Task::Limits { write: true } => limits::write(&root).map(|()| Vec::new()),
        Task::Limits { write: false } => limits::check(&root),
        Task::Errors { write: true } => errors::write(&root).map(|()| Vec::new()),
        Task::Errors { write: false } => errors::check(&root),
        Task::Docs => docs::check(&root),
    }
}

fn layers(root: &Path) -> Result<Vec<String>> {
    let rules = rules::Rules::read(&root.join("scripts/xtask/layers.toml"))?;
    let workspace = edges::Workspace::read(root)?;
    let mut findings = edges::check(&rules, &workspace);
    findings.extend(purity::check(root, &rules)?);
    findings.extend(scan::check(&rules, &program::load(root, &workspace)?));
    findings.extend(migrations::check(root)?);
    if findings.is_empty() {
        println!("layers: {} crates, {} pure, no forbidden edge", rules.crates.len(), rules.pure().count());
    }
    Ok(findings)
}

fn repository() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).context("xtask lives two folders below the root")?;
    Ok(root.to_path_buf())
}
