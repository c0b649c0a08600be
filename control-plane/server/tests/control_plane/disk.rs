//! A data directory on a full disk and on a read-only one, in a mount namespace of the test's thread.

use std::path::Path;
use std::process::{Command, Output};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const NONE: Option<&str> = None;

/// A fresh file system at `path` that only this thread and its children see; `false` without the right.
pub fn mounted(path: &Path, size: &str) -> bool {
    let options = format!("size={size},mode=0755");
    let made = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE))
        .and_then(|()| mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())));
    if let Err(error) = made {
        println!("skipped: no mount namespace: {error}");
    }
    made.is_ok()
}

fn remount(path: &Path, flags: MsFlags, options: &str) {
    mount(NONE, path, NONE, MsFlags::MS_REMOUNT | flags, Some(options)).unwrap();
}

fn run(data: &Path, command: &str) -> Output {
    let mode: &[&str] = if command == "init" { &["--authority-mode", "dev"] } else { &[] };
    Command::new(env!("CARGO_BIN_EXE_rap-control-plane"))
        .args([command, "--listen", "127.0.0.1:1", "--metrics", "off", "--data-dir"])
        .arg(data)
        .args(mode)
        .output()
        .unwrap()
}

fn refused(output: &Output, code: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("error[{code}]")), "{code}: {text}");
    assert!(output.stdout.is_empty(), "nothing is announced");
}

#[test]
fn a_full_disk_and_a_read_only_one_are_refused_with_their_codes_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    if !mounted(directory.path(), "8m") {
        return;
    }
    let data = directory.path().join("data");
    // Too small for PostgreSQL's first files, twice: a first start that was cut short starts over.
    refused(&run(&data, "init"), "state.no_space");
    refused(&run(&data, "init"), "state.no_space");
    remount(directory.path(), MsFlags::empty(), "size=512m");
    let made = run(&data, "init");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key = std::fs::read(data.join("secret.key")).unwrap();

    remount(directory.path(), MsFlags::MS_RDONLY, "size=512m");
    refused(&run(&data, "serve"), "state.read_only");
    refused(&run(&data, "init"), "state.read_only");
    refused(&run(&directory.path().join("other"), "init"), "state.read_only");
    assert!(run(&data, "check").status.success(), "a check writes nothing");

    remount(directory.path(), MsFlags::empty(), "size=512m");
    refused(&run(&data, "init"), "resource.exists");
    assert_eq!(std::fs::read(data.join("secret.key")).unwrap(), key);
}
