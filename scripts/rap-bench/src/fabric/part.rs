//! A part of the run in a process with a network and a process table of its own: what it starts ends with it, and what it does
//! to its network nobody else sees.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use nix::unistd::geteuid;

use super::findings::Findings;
use super::rows::Part;
use crate::measure::Stopwatch;
use crate::settings::Settings;
use crate::{machine, process};

/// Runs a part and returns what it found.
///
/// # Errors
/// There can be no such process here, the part failed, or it took too long.
pub(super) fn run(part: Part, settings: &Settings, findings: &mut Findings) -> Result<()> {
    let name = part.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    eprintln!("{name} ...");
    let folder = tempfile::tempdir()?;
    let (found, said) = (folder.path().join("found"), folder.path().join("said"));
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.env("RUST_BACKTRACE", "0").arg("--").arg(std::env::current_exe()?).arg("fabric-part").arg(name);
    command.arg("--programs").arg(&settings.programs);
    if settings.quick {
        command.arg("--quick");
    }
    // The part ends when this end of its standard input closes.
    command.stdin(Stdio::piped()).stdout(File::create(&found)?).stderr(File::create(&said)?);
    let mut child = machine::everywhere(|| command.spawn()).context("unshare")?;
    let watch = Stopwatch::start();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if watch.elapsed() > DEADLINE {
            child.kill()?;
            child.wait()?;
            bail!("it took longer than {DEADLINE:?}");
        }
        std::thread::park_timeout(LOOK);
    };
    if !status.success() {
        let said = fs::read_to_string(&said).unwrap_or_default();
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        bail!("{status}: {}", lines[lines.len().saturating_sub(LINES)..].join(" "));
    }
    findings.take(fs::read_to_string(&found)?.trim())
}

/// What a part does in its process.
///
/// # Errors
/// When the part failed.
pub(super) fn within(work: impl FnOnce(&mut Findings) -> Result<()>) -> Result<()> {
    std::thread::spawn(|| {
        let _end = std::io::stdin().read(&mut [0]);
        // The first process of a process table takes all others with it.
        std::process::abort();
    });
    run_tool("ip", &["link", "set", "lo", "up"])?;
    let mut findings = Findings::default();
    work(&mut findings)?;
    println!("{}", findings.line()?);
    Ok(())
}

/// Runs a tool of the host's network to its end; what it printed.
pub(super) fn run_tool(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    process::output(command, machine::MEASURING_CORE)
}

/// Longer than any part takes; only a failure waits this long.
const DEADLINE: Duration = Duration::from_secs(400);
/// Lines of what a part said that its failure is told by.
const LINES: usize = 6;
/// How often the end of a part is looked for.
const LOOK: Duration = Duration::from_millis(20);
