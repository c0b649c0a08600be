//! `systemctl` on a lab's host, on unit files with real programs.

use std::path::Path;
use std::time::Duration;

use rap_lab::folder::Folder;
use rap_lab::{Host, Lab, Mode, programs, sweep, wait_until};

const LONG: Duration = Duration::from_secs(30);

const NOTIFYING: &str = "[Service]\nType=notify\nRestart=on-failure\nExecStart=/usr/bin/sh -c 'echo started; python3 -c \"$READY\"; exec sleep 307'\nEnvironmentFile=ready.env\n";
const READY: &str = "READY=import os,socket;socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM).sendto(b'READY=1\\nSTATUS=up',os.environ['NOTIFY_SOCKET'])\n";

fn lab(base: &tempfile::TempDir, unit: &str) -> (Lab, Host) {
    let lab = Lab::new_in(Folder::at(base.path().join("units")), Mode::Loopback).expect("lab");
    programs::install_lab(&lab, Path::new(env!("CARGO_BIN_EXE_rap-lab"))).expect("install");
    let host = lab.host("a").expect("host");
    let env = lab.folder().units().join("ready.env");
    std::fs::write(&env, READY).expect("variables");
    let unit = unit.replace("ready.env", &env.display().to_string());
    std::fs::write(lab.folder().units().join("x.service"), unit).expect("unit");
    (lab, host)
}

fn state(host: &Host) -> String {
    let call = rap_lab::Invocation::new("systemctl").arguments(["is-active", "x"]);
    host.run(&call, LONG).expect("systemctl").stdout.trim().to_owned()
}

#[test]
fn enable_now_returns_when_the_service_is_ready_and_stop_ends_it() {
    let base = tempfile::tempdir().expect("folder");
    let (lab, host) = lab(&base, NOTIFYING);
    assert_eq!(state(&host), "inactive");
    host.typed("systemctl daemon-reload", LONG).expect("reload");
    host.typed("systemctl enable --now x.service", LONG).expect("enable");
    assert_eq!(state(&host), "active");
    let part = lab.part("a-x").expect("part");
    assert!(part.is_running().expect("record"));
    host.typed("systemctl enable --now x", LONG).expect("again, without effect");
    host.typed("systemctl stop x", LONG).expect("stop");
    assert_eq!(state(&host), "inactive");
    assert!(!part.is_running().expect("record"));
    assert_eq!(part.log().matches("started").count(), 1);
    let folder = lab.folder().clone();
    lab.down().expect("down");
    sweep::check(&folder).expect("nothing left");
}

#[test]
fn a_killed_service_is_started_again_as_its_unit_says() {
    let base = tempfile::tempdir().expect("folder");
    let (lab, host) = lab(&base, NOTIFYING);
    host.typed("systemctl start x", LONG).expect("start");
    let part = lab.part("a-x").expect("part");
    let first = part.process().expect("record");
    part.kill().expect("kill");
    wait_until(LONG, "active with another process", || {
        Ok((part.is_running()? && part.process()? != first && state(&host) == "active").then_some(()))
    })
    .expect("restarted");
    let folder = lab.folder().clone();
    lab.down().expect("down ends the watcher too");
    sweep::check(&folder).expect("nothing left");
}

#[test]
fn a_service_that_fails_before_it_is_ready_fails_the_command_with_its_log() {
    let base = tempfile::tempdir().expect("folder");
    let unit = "[Service]\nType=notify\nExecStart=/usr/bin/sh -c 'echo no such key >&2; exit 3'\n";
    let (_lab, host) = lab(&base, unit);
    let error = host.typed("systemctl start x", LONG).expect_err("failed").to_string();
    assert!(error.contains("x is failed") && error.contains("no such key"), "{error}");
    let error = host.typed("systemctl start nothing", LONG).expect_err("no unit").to_string();
    assert!(error.contains("nothing.service not found"), "{error}");
}

#[test]
fn a_service_that_stops_feeding_its_watchdog_is_ended_and_started_again() {
    let base = tempfile::tempdir().expect("folder");
    let unit = NOTIFYING.replace("Restart=on-failure", "Restart=on-failure\nWatchdogSec=2");
    let (lab, host) = lab(&base, &unit);
    host.typed("systemctl start x", LONG).expect("start");
    let status = host.typed("systemctl status x", LONG).expect("status").stdout;
    assert_eq!(status.lines().collect::<Vec<_>>(), ["active", "up"]);
    let part = lab.part("a-x").expect("part");
    let first = part.process().expect("record");
    // It said READY and then nothing more.
    wait_until(LONG, "active with another process", || {
        Ok((part.is_running()? && part.process()? != first && state(&host) == "active").then_some(()))
    })
    .expect("restarted");
    assert!(part.log().matches("started").count() >= 2);
    lab.down().expect("down");
}
