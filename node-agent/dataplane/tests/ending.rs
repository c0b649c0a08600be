//! What a data plane leaves behind when it ends.

mod support;

use std::process::Command;

use rap_runtime::last_fault;
use support::*;
use tempfile::tempdir;

#[test]
fn a_fault_is_left_behind_and_the_next_start_removes_it() {
    let dir = tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rap-dataplane"));
    command.args(arguments(&dir, loopback())).args(["--no-tun", "--table-timeout=1"]);
    let mut plane = DataPlane::start_as(&mut command, &dir);
    let pid = plane.child.id();
    assert!(!plane.ended().success(), "no table came");
    let left = last_fault::read(&plane.folder, pid).unwrap();
    assert_eq!(left.reason, "dataplane.unavailable");
    assert!(left.text.contains("table"), "{left:?}");
    let mut next = DataPlane::start(&dir, loopback());
    assert!(!next.folder.join("last-fault.json").exists());
    next.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(next.ended().success());
    assert!(!next.folder.join("last-fault.json").exists(), "an end that was asked for is no fault");
}
