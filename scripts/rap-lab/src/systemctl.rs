//! `systemctl` on a lab's host: the verbs that an operator types, on the shipped unit files. Owns the verbs; watching a unit is
//! `supervise`.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::command::tail;
use crate::folder::Folder;
use crate::guard::release_signals;
use crate::supervise::Service;
use crate::unit::Unit;
use crate::view::{FOLDER_VARIABLE, HOST_VARIABLE};
use crate::wait_until;

/// Does what the arguments say and returns the exit status.
pub fn run(arguments: &[String]) -> Result<u8> {
    let folder =
        Folder::at(PathBuf::from(std::env::var_os(FOLDER_VARIABLE).context("only on a lab's host")?));
    let host = std::env::var(HOST_VARIABLE).context("only on a lab's host")?;
    let (options, words): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|word| word.starts_with('-'));
    let now = options.iter().any(|option| *option == "--now");
    let Some((verb, names)) = words.split_first() else { bail!("a verb is missing") };
    let mut status = 0;
    for service in names.iter().map(|name| Service::new(&folder, &host, name)) {
        match verb.as_str() {
            "start" => start_all(&folder, &host, &service)?,
            "stop" => stop(&service)?,
            "restart" => {
                stop(&service)?;
                start_all(&folder, &host, &service)?;
            }
            "enable" if now => start_all(&folder, &host, &service)?,
            "disable" if now => stop(&service)?,
            "enable" | "disable" | "reset-failed" => {}
            "is-active" | "status" => {
                let state = service.state();
                println!("{state}");
                if *verb == "status" {
                    println!("{}", service.said());
                }
                status = if state == "active" { 0 } else { 3 };
            }
            other => bail!("{other}: not a verb the lab knows"),
        }
    }
    ensure!(!names.is_empty() || *verb == "daemon-reload", "{verb}: which unit?");
    Ok(status)
}

/// Starts a service and those it wants; like systemd, it does not fail with one of those.
fn start_all(folder: &Folder, host: &str, service: &Service) -> Result<()> {
    for wanted in Unit::read(&folder.units(), &service.unit_name())?.wants {
        if let Err(error) = start(&Service::new(folder, host, &wanted)) {
            eprintln!("{wanted}, wanted by {}: {error:#}", service.unit_name());
        }
    }
    start(service)
}

fn start(service: &Service) -> Result<()> {
    if service.watcher().is_some_and(|watcher| watcher.is_running()) {
        return Ok(());
    }
    service.forget_state();
    let folder = std::env::var(FOLDER_VARIABLE)?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(service.log())?;
    let mut watcher = Command::new(PathBuf::from(folder).join("bin/rap-lab"));
    release_signals(&mut watcher);
    let mut watcher = watcher
        .args(["watch-unit", &service.unit_name()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("rap-lab")?;
    wait_until(START_DEADLINE, "unit active", || {
        let ended = watcher.try_wait()?.is_some();
        let state = service.state();
        match state.as_str() {
            "active" => Ok(Some(Ok(()))),
            "failed" | "inactive" if ended => Ok(Some(Err(state))),
            _ => Ok(None),
        }
    })?
    .map_err(|state| {
        let log = std::fs::read_to_string(service.log()).unwrap_or_default();
        anyhow::anyhow!("{} is {state}: {}", service.unit_name(), tail(&log))
    })
}

fn stop(service: &Service) -> Result<()> {
    let Some(watcher) = service.watcher().filter(|watcher| watcher.is_running()) else { return Ok(()) };
    watcher.signal(Signal::TERM);
    ensure!(watcher.wait_end(STOP_DEADLINE), "{} does not stop", service.unit_name());
    Ok(())
}

const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(90);
