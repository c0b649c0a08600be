//! This machine and this checkout, and which core does what.

use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// Core of control plane and PostgreSQL.
pub const CONTROL_CORE: usize = 0;
/// Core of everything else: nodes, and the measuring itself.
pub const MEASURING_CORE: usize = 1;

/// The commit that is checked out, with `-dirty` if sources differ from it.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success());
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return "unknown".to_owned() };
    let changes = ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)artifacts"];
    match git(&changes) {
        Some(changes) if changes.is_empty() => commit,
        _ => commit + "-dirty",
    }
}

/// Cores of the machine.
pub fn cores() -> usize {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// Release of the running kernel.
pub fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// The profile this program, and those beside it, were built with: the name of their folder.
pub fn build() -> String {
    let own = std::env::current_exe().unwrap_or_default();
    let profile = own.parent().and_then(std::path::Path::file_name).unwrap_or_default().to_string_lossy();
    if cfg!(debug_assertions) {
        format!("{profile}: not for comparison with the bars")
    } else {
        profile.into_owned()
    }
}

/// How busy the machine was in the last minute, before anything was measured.
pub fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// Raises the limit of open files of this process, and of those it starts from now on, to `files`.
///
/// # Errors
/// When the hard limit is lower.
pub fn allow_open_files(files: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < files {
        setrlimit(Resource::RLIMIT_NOFILE, files, hard)
            .with_context(|| format!("{files} open files are needed, and the limit is {hard}"))?;
    }
    Ok(())
}

/// How programs are spread over cores.
pub fn placement() -> String {
    if cores() < 2 {
        return "one core for everything".to_owned();
    }
    format!("core {CONTROL_CORE}: control plane and PostgreSQL; core {MEASURING_CORE}: nodes and measuring")
}

/// Keeps this thread, and what it starts from now on, to one core. Does nothing on a machine with one.
pub fn keep_to_core(core: usize) {
    keep_to(&[core]);
}

fn keep_to(wanted: &[usize]) {
    let mut only = CpuSet::new();
    if cores() >= 2 && wanted.iter().all(|core| only.set(*core).is_ok()) {
        // A container may forbid it; then the kernel places freely, which only adds noise.
        let _ = sched_setaffinity(Pid::from_raw(0), &only);
    }
}

/// Runs `start` on all cores, so that a process it starts may use each.
pub fn everywhere<T>(start: impl FnOnce() -> T) -> T {
    on_cores((0..cores()).collect(), start)
}

/// Runs `start` on another core, so that a process it starts stays there.
pub fn on_core<T>(core: usize, start: impl FnOnce() -> T) -> T {
    on_cores(vec![core], start)
}

fn on_cores<T>(cores: Vec<usize>, start: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(Pid::from_raw(0));
    keep_to(&cores);
    let started = start();
    if let Ok(before) = before {
        let _ = sched_setaffinity(Pid::from_raw(0), &before);
    }
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_given_back() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        on_core(CONTROL_CORE, || ());
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }

    #[test]
    fn the_machine_is_described() {
        assert!(cores() >= 1);
        assert!(!kernel().is_empty());
    }
}
