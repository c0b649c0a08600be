//! A shortage of descriptors is not the end of an interface; a removed interface is.

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;

use super::scene::Scene;
use super::shown::{half, shown};
use crate::check::Finding;
use crate::fabric::{CALL, SETTLE};
use crate::process::Process;

/// The data plane has no descriptor left while pings go on, then somebody removes its interface.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two] = &scene.nodes;
    let process = one.dataplane(scene.lab)?;
    let watch = one.watch(scene.lab, two)?;
    let before = limit(process, None)?;
    let wanted = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(MOST);
    limit(process, Some(lowest_free(process)?))?;
    // Several looks at the interface are made in this time.
    let answered = watch.wait_answers(60);
    let alive = process.is_running();
    limit(process, before.current)?;
    answered?;
    let pings = watch.end()?;
    let same = one.dataplane(scene.lab)?.pid == process.pid;
    let effect = half(
        alive && same && pings.lost() == 0 && before.current == Some(wanted),
        json!({
            "soft_limit": before.current, "expected": wanted, "pings": pings.sent, "lost": pings.lost(),
            "same_process": same,
        }),
    );
    one.host().typed("ip link delete rap0", CALL)?;
    let ended = process.wait_end(SETTLE);
    one.wait_healthy()?;
    one.wait_answer(two)?;
    let control = half(ended, json!({ "ended_with_its_interface": ended }));
    Ok(shown(
        effect,
        control,
        "without a free descriptor traffic goes on; a removed interface ends the data plane",
    ))
}

/// The limit of open descriptors of a process; with a number, its soft limit becomes that.
fn limit(process: Process, soft: Option<u64>) -> Result<Rlimit> {
    let now = rlimit_of(process)?;
    if let Some(soft) = soft {
        let pid = Pid::from_raw(process.pid).context("no process")?;
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(soft), maximum: now.maximum })?;
    }
    Ok(now)
}

fn rlimit_of(process: Process) -> Result<Rlimit> {
    let path = format!("/proc/{}/limits", process.pid);
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find(|line| line.starts_with("Max open files")).context("no such limit")?;
    let mut numbers = line.split_whitespace().skip(3).map(|number| number.parse().ok());
    Ok(Rlimit { current: numbers.next().flatten(), maximum: numbers.next().flatten() })
}

/// The lowest number that a new descriptor could get.
fn lowest_free(process: Process) -> Result<u64> {
    let path = format!("/proc/{}/fd", process.pid);
    let entries = std::fs::read_dir(&path).with_context(|| path.clone())?;
    let open: std::collections::BTreeSet<u64> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    (0..).find(|number| !open.contains(number)).context("every number is taken")
}

const MOST: u64 = 65_536;
