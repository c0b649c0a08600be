//! The real agent and the real data plane with thousands of peers: at rest, and when one of them is revoked.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::burning::FRESH;
use crate::disks::{answer, exhaust, in_a_process_of_its_own, is_child, small_disk};
use crate::fake::agent::{Host, kill};
use crate::*;

#[test]
fn five_thousand_peers_keep_nobody_busy_and_a_revocation_passes_a_full_disk() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root for a mount namespace");
        return;
    }
    if !dataplane_program().is_file() {
        println!("skipped: the data plane is not built: cargo build --bin rap-dataplane");
        return;
    }
    in_a_process_of_its_own("large_table::child_with_a_large_table");
}

#[test]
fn child_with_a_large_table() {
    let host = Host::new();
    if !is_child() || !small_disk(&host, "64m") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(at_rest_and_revoked(&host));
}

async fn at_rest_and_revoked(host: &Host) {
    let (running, mut messages) = joined(host).await;
    let control = &running.control;
    let first = publish_contents(control, HeadOrder::new(1, 1, 0), contents(control, 1), FRESH);
    control.say(update(&first));
    let dataplane = dataplane(host);
    let agent = host.agent().await;
    answer(&mut messages, 1).await.expect("there is room");
    dataplane_logs(host, &format!("peers={PEERS}")).await;
    let busy = quiet([agent.id().unwrap(), dataplane.id().unwrap()]).await;
    println!("{PEERS} peers before the disk is full: {busy:.1?} % of a processor, agent and data plane");

    exhaust(&host.data(), 0);
    // Every record is another one.
    let mut contents = contents(control, 2);
    contents.revoke(&control.world.lock().unwrap().cluster_ca, &[1]);
    let second = publish_contents(control, HeadOrder::new(1, 2, 0), contents, FRESH);
    control.say(vec![control_message::Body::Update(second.full())]);
    dataplane_logs(host, "revocations in force nodes=1").await;
    dataplane_logs(host, &format!("peers={}", PEERS - 1)).await;
    let reason = answer(&mut messages, 2).await.expect_err("there is no room");
    println!("full disk: version 2 of {PEERS} peers refused with {reason}, its revocation is in force");
    kill(agent).await;
    kill(dataplane).await;
}

/// The real one. It ends with the test: one that the agent starts outlives the agent.
fn dataplane(host: &Host) -> tokio::process::Child {
    std::fs::create_dir_all(host.run_dir()).unwrap();
    let mut command = tokio::process::Command::new(dataplane_program());
    command.env_clear().kill_on_drop(true).arg("run").arg("--run-dir").arg(host.run_dir());
    command.args(["--membership", "default", "--no-tun"]).env("RAP_LOG", "info");
    command.args(["--link-listen", "127.0.0.1:0", "--wireguard-listen", "127.0.0.1:0"]);
    let log = std::fs::File::create(host.file("dataplane.log", b"")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// Beside the agent: one build of the workspace makes both.
fn dataplane_program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_rap-node-agent")).with_file_name("rap-dataplane")
}

/// The node's own chunks and [`PEERS`] peers, that of index 1 of [`support::peer`] among them. The others have
/// endpoints for links with this port, where nobody listens.
fn contents(control: &Control, port: u16) -> Contents {
    let mut contents = control.world.lock().unwrap().contents(1);
    for number in 1..PEERS {
        let [_, _, high, low] = number.to_be_bytes();
        let mut id = [high; 16];
        id[1..].fill(low);
        let mut key = [77; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        contents.add_peer(v1::PeerRecord {
            node_id: id.map(|byte| byte ^ 0x55).to_vec(),
            name: format!("many-{number}"),
            node_key_sha256: key.to_vec(),
            wireguard_public_key: key.to_vec(),
            overlay_ipv4: format!("100.96.{}.{low}", 1 + high),
            overlay_ipv6: format!("fd00::1:{number:x}"),
            link_endpoints: vec![format!("127.0.0.1:{port}")],
            key_generation: 1,
            ..Default::default()
        });
    }
    contents
}

/// Processor time of each process in percent of one processor, over the first five seconds in which each takes less
/// than a tenth of it. There are none while one of them is in a loop.
async fn quiet(processes: [u32; 2]) -> [f64; 2] {
    let mut busy = [100.0; 2];
    for _ in 0..WINDOWS {
        let before = processes.map(processor_seconds);
        tokio::time::sleep(WINDOW).await;
        let after = processes.map(processor_seconds);
        busy = [0, 1].map(|at| (after[at] - before[at]) * 100.0 / WINDOW.as_secs_f64());
        if busy.iter().all(|busy| *busy < 10.0) {
            return busy;
        }
    }
    panic!("agent and data plane took {busy:?} % of a processor at rest");
}

fn processor_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Fields after the name, which may hold spaces: the 12th and 13th are user and system time.
    let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
    let ticks: f64 = fields.skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum();
    ticks / nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap() as f64
}

async fn dataplane_logs(host: &Host, text: &str) {
    let log = || std::fs::read_to_string(host.dir.path().join("dataplane.log")).unwrap_or_default();
    let said = async {
        while !log().contains(text) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, said).await.is_err() {
        panic!("the data plane never says {text:?}: {}\n{}", log(), host.log_text());
    }
}

const PEERS: u32 = 5_000;
const WINDOW: Duration = Duration::from_secs(5);
const WINDOWS: u32 = 12;
