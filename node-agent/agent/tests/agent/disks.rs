//! The real agent on a full disk and on one that turned read-only, on a small file system in a private mount namespace.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rap_state::space;

use crate::burning::{FRESH, floor, identity_of, up};
use crate::fake::agent::{Host, kill};
use crate::fake::plane::Plane;
use crate::*;

const NONE: Option<&str> = None;

#[test]
fn burn_in_full_and_read_only_disks_change_nothing_that_was_acknowledged() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root for a mount namespace");
        return;
    }
    in_a_process_of_its_own("disks::child_of_the_disk_test");
}

/// Runs this test and shows what it says of disks: a namespace belongs to the thread that made it and to those that
/// it starts.
pub fn in_a_process_of_its_own(test: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let output = child.stdin(Stdio::null()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text.lines().filter(|line| line.contains("disk")).for_each(|line| println!("{line}"));
}

/// True in the process of [`in_a_process_of_its_own`].
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Puts a file system of this size at the host's data directory, seen by this thread and what it starts; false where
/// there can be none.
pub fn small_disk(host: &Host, size: &str) -> bool {
    std::fs::create_dir(host.data()).unwrap();
    let options = format!("size={size},mode=0700");
    let made = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE))
        .and_then(|()| {
            mount(Some("tmpfs"), &host.data(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        });
    if let Err(error) = &made {
        println!("skipped: no mount namespace, so no full disk: {error}");
    }
    made.is_ok()
}

#[test]
fn child_of_the_disk_test() {
    if !is_child() {
        return;
    }
    let host = Host::new();
    if !small_disk(&host, "16m") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        full_and_read_only(&host).await;
        revoked_on_a_full_disk(&host).await;
    });
}

async fn full_and_read_only(host: &Host) {
    let (running, mut messages) = joined(host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    let say = |version: u64| {
        // Many and other ones each time, so that the cache grows and every write of the order meets the end of the disk.
        let peers = (version * 61 % 150) as u8 + 1;
        control.say(update(&publish(control, HeadOrder::new(1, version, 0), peers, FRESH)));
    };
    let (mut version, mut refused, mut acknowledged) = (1, 0, 1);
    say(version);
    let mut agent = host.spawn();
    let (before, _) = up(host).await;
    answer(&mut messages, version).await.expect("there is room");
    let rooms = [0, 4096, 8192, 16_384, 32_768, 65_536, 262_144, 1 << 20];
    for room in rooms {
        exhaust(&host.data(), room);
        version += 1;
        say(version);
        match answer(&mut messages, version).await {
            Ok(()) => acknowledged = version,
            Err(_) => refused += 1,
        }
        kill(agent).await;
        assert!(floor(host) >= acknowledged, "with {room} bytes left");
        // Up on the full disk as well.
        agent = host.spawn();
        let (status, _) = up(host).await;
        assert_eq!(identity_of(&status), identity_of(&before));
        let active = status["active"]["sequence"].as_u64();
        assert!(
            active.is_some_and(|active| active >= acknowledged),
            "with {room} bytes left: {active:?} below {acknowledged}, cache {}: {}",
            status["cache"],
            host.log_text()
        );
        kill(agent).await;
        std::fs::remove_file(host.data().join("ballast")).unwrap();
        version += 1;
        say(version);
        agent = host.spawn();
        answer(&mut messages, version).await.expect("there is room again");
        acknowledged = version;
    }
    println!("full disk: {refused} of {} versions refused, every acknowledged one kept", rooms.len());
    assert!(refused > 0);

    kill(agent).await;
    remount(&host.data(), MsFlags::MS_RDONLY);
    let agent = host.spawn();
    let (status, took) = up(host).await;
    assert_eq!(identity_of(&status), identity_of(&before));
    let active = status["active"]["sequence"].clone();
    assert!(active == acknowledged, "the stored snapshot: {active}");
    let (_, status) = host
        .status_when("says read-only", |status| {
            status["degraded_reasons"].to_string().contains("state.read_only")
        })
        .await;
    assert_eq!(status["state"], "degraded");
    kill(agent).await;
    remount(&host.data(), MsFlags::empty());
    assert_eq!(floor(host), acknowledged);
    version += 1;
    say(version);
    let agent = host.spawn();
    answer(&mut messages, version).await.expect("the disk can be written again");
    kill(agent).await;
    println!("read-only disk: up within {took} ms with {active}, written again afterwards");
}

/// A restriction may come before the disk: a revocation reaches a data plane whose agent's disk is full.
async fn revoked_on_a_full_disk(host: &Host) {
    std::fs::remove_dir_all(host.data().join("default")).unwrap();
    std::fs::remove_dir_all(host.run_dir()).unwrap();
    let (running, mut messages) = joined(host).await;
    let control = &running.control;
    let mut plane = Plane::start(&host.run_dir());
    let ids = |table: &v1::ForwardingTable| -> Vec<Vec<u8>> {
        table.peers.iter().map(|peer| peer.node_id.clone()).collect()
    };
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 2, FRESH)));
    let agent = host.spawn();
    answer(&mut messages, 1).await.expect("there is room");
    plane.table.wait_for(|table| table.as_ref().is_some_and(|table| ids(table).len() == 2)).await.unwrap();
    exhaust(&host.data(), 0);
    control.say(update(&publish_with(control, HeadOrder::new(1, 2, 0), 150, FRESH, &[1])));
    let reason = answer(&mut messages, 2).await.expect_err("there is no room");
    let revoked =
        |table: &v1::ForwardingTable| ids(table) == [support::peer(2).node_id] && table.revoked.len() == 1;
    plane.table.wait_for(|table| table.as_ref().is_some_and(revoked)).await.unwrap();
    println!("full disk: version 2 refused with {reason}, its revocation is in force");
    kill(agent).await;
}

/// Acknowledged, or the reason why not.
pub async fn answer(messages: &mut mpsc::Receiver<v1::NodeMessage>, version: u64) -> Result<(), String> {
    let about = |body: &node_message::Body| match body {
        node_message::Body::Ack(ack) => ack.version == version,
        // One of an earlier agent may still be under way.
        node_message::Body::Nack(nack) => nack.reason == "state.no_space",
        _ => false,
    };
    match heard(messages, &format!("version {version}"), about).await {
        node_message::Body::Nack(nack) => Err(nack.reason),
        _ => Ok(()),
    }
}

fn remount(path: &Path, flags: MsFlags) {
    mount(NONE, path, NONE, MsFlags::MS_REMOUNT | flags, NONE).unwrap();
}

/// Takes all room but `leave` bytes.
pub fn exhaust(path: &Path, leave: u64) {
    let room = space::room(path).unwrap().available.saturating_sub(leave);
    std::fs::write(path.join("ballast"), vec![0; usize::try_from(room).unwrap()]).unwrap();
}

const CHILD: &str = "RAP_BURN_IN_CHILD";
