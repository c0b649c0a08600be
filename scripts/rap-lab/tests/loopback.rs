//! A lab without root: hosts are addresses, and `down` leaves nothing.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rap_lab::folder::Folder;
use rap_lab::{Invocation, Lab, Mode, sweep, wait_until};

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Invocation {
    Invocation::new("sh").arguments(["-c", script])
}

fn lab(base: &tempfile::TempDir) -> Lab {
    Lab::new_in(Folder::at(base.path().join("loop")), Mode::Loopback).expect("lab")
}

#[test]
fn hosts_have_addresses_of_their_own() {
    let base = tempfile::tempdir().expect("folder");
    let lab = lab(&base);
    let (a, b) = (lab.host("a").expect("a"), lab.host("b").expect("b"));
    assert_ne!(a.address(), b.address());
    assert_eq!(lab.host("a").expect("a again").address(), a.address());
    let listener = TcpListener::bind((a.address(), 0)).expect("listen");
    TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
}

#[test]
fn variables_of_a_host_reach_its_later_processes_and_no_other_host() {
    let base = tempfile::tempdir().expect("folder");
    let lab = lab(&base);
    let (a, b) = (lab.host("a").expect("a"), lab.host("b").expect("b"));
    a.set_variables(&[("RAP_CONFIG", "/x/y.toml")]).expect("set");
    let print = shell("echo $RAP_CONFIG");
    let again = lab.host("a").expect("a again");
    assert_eq!(again.run(&print, LONG).expect("print").stdout, "/x/y.toml\n");
    assert_eq!(b.run(&print, LONG).expect("print").stdout, "\n");
}

#[test]
fn a_lab_that_goes_out_of_scope_takes_everything_along() {
    let base = tempfile::tempdir().expect("folder");
    let folder = Folder::at(base.path().join("loop"));
    {
        let lab = lab(&base);
        let host = lab.host("a").expect("a");
        // One that ignores SIGTERM, one in a session of its own, one without the mark in its environment.
        let script = "trap '' TERM; setsid sleep 301 & env -i sleep 302 & while :; do sleep 303; done";
        host.spawn("stubborn", &shell(script)).expect("spawn");
        wait_until(LONG, "all four", || Ok((sweep::leftovers(&folder).processes.len() == 4).then_some(())))
            .expect("four");
    }
    sweep::check(&folder).expect("nothing left");
}

#[test]
fn the_check_names_what_is_left() {
    let base = tempfile::tempdir().expect("folder");
    let lab = lab(&base);
    lab.host("a").expect("a").spawn("idle", &Invocation::new("sleep").argument("304")).expect("spawn");
    let error = sweep::check(lab.folder()).expect_err("a process and a folder").to_string();
    assert!(error.contains("sleep 304") && error.contains("file "), "{error}");
    let folder = lab.folder().clone();
    lab.down().expect("down");
    sweep::check(&folder).expect("nothing left");
}

#[test]
fn a_kept_lab_is_opened_by_another_and_removed() {
    let base = tempfile::tempdir().expect("folder");
    let folder = {
        let mut lab = lab(&base);
        lab.host("a").expect("a").spawn("idle", &Invocation::new("sleep").argument("305")).expect("spawn");
        lab.keep();
        lab.folder().clone()
    };
    let lab = Lab::open_in(folder.clone()).expect("open");
    assert!(lab.part("idle").expect("part").is_running().expect("record"));
    let error = lab.part("idel").expect_err("no such part").to_string();
    assert_eq!(error, "no part idel; there are: idle");
    lab.down().expect("down");
    sweep::check(&folder).expect("nothing left");
    assert!(Lab::open_in(folder).is_err());
}

#[test]
fn parts_are_paused_resumed_killed_and_restarted() {
    let base = tempfile::tempdir().expect("folder");
    let lab = lab(&base);
    let host = lab.host("a").expect("a");
    let ticks = "while :; do echo tick; sleep 0.05; done";
    let part = host.spawn("clock", &shell(ticks)).expect("spawn");
    let count = |part: &rap_lab::Part| part.log().lines().count();
    wait_until(LONG, "a tick", || Ok((count(&part) > 0).then_some(()))).expect("tick");

    part.pause().expect("pause");
    let first = part.process().expect("record").expect("process");
    assert!(first.is_paused());
    part.resume().expect("resume");
    let before = count(&part);
    wait_until(LONG, "another tick", || Ok((count(&part) > before).then_some(()))).expect("tick");

    assert!(host.spawn("clock", &shell(ticks)).is_err(), "one process per part");
    part.kill().expect("kill");
    assert!(!part.is_running().expect("record"));
    assert!(part.kill().is_err(), "it does not run");
    part.restart().expect("restart");
    assert_ne!(part.process().expect("record"), Some(first));
    let before = count(&part);
    wait_until(LONG, "a tick after restart", || Ok((count(&part) > before).then_some(()))).expect("tick");
}

#[test]
fn programs_of_the_lab_come_first_on_the_path() {
    let base = tempfile::tempdir().expect("folder");
    let lab = lab(&base);
    lab.install("true", std::path::Path::new("/bin/echo")).expect("install");
    let answer = lab.host("a").expect("a").typed("true from the lab", LONG).expect("answer");
    assert_eq!(answer.stdout, "from the lab\n");
}

#[test]
fn a_cut_without_namespaces_is_refused() {
    let base = tempfile::tempdir().expect("folder");
    let lab = lab(&base);
    lab.host("a").expect("a");
    assert!(lab.cut("a", None).is_err());
}
