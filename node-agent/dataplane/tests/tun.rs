//! Two data planes with TUN in network namespaces of their own, and one without the capability.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use rap_wire::v1::StopCommand;
use rap_wire::v1::agent_message::Body as Ask;
use rap_wire::v1::dataplane_message::Body as Answer;
use support::*;
use tempfile::tempdir;

/// Two namespaces with a cable between them. They go away when dropped.
struct Cable {
    ends: [String; 2],
}

impl Cable {
    fn new() -> Self {
        let ends = ["a", "b"].map(|end| format!("rapdp{}{end}", std::process::id()));
        let cable = Self { ends };
        let [a, b] = &cable.ends;
        for end in [a, b] {
            ip(&["netns", "add", end]);
            ip(&["-n", end, "link", "set", "lo", "up"]);
        }
        ip(&["-n", a, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b]);
        for (end, address) in [(a, underlay(1)), (b, underlay(2))] {
            ip(&["-n", end, "address", "add", &format!("{address}/24"), "dev", "eth0"]);
            ip(&["-n", end, "link", "set", "eth0", "up"]);
        }
        cable
    }

    fn run(&self, end: usize, program: &str, arguments: &[&str]) -> Output {
        let exec = ["netns", "exec", &self.ends[end], program];
        Command::new("ip").args(exec).args(arguments).output().unwrap()
    }

    fn interfaces(&self, end: usize) -> String {
        String::from_utf8(self.run(end, "ip", &["-o", "address"]).stdout).unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in &self.ends {
            let _absent = Command::new("ip").args(["netns", "delete", end]).output();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn underlay(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 99, 0, number).into()
}

#[test]
fn the_kernels_ping_crosses_the_overlay_and_stop_removes_the_interface() {
    if !is_root() || !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: needs root and /dev/net/tun");
        return;
    }
    let (cable, authority) = (Cable::new(), Authority::new());
    let nodes = [1, 2].map(|number| Node { number, underlay: underlay(number) });
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let mut planes = [0, 1].map(|end| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &cable.ends[end], env!("CARGO_BIN_EXE_rap-dataplane")]);
        DataPlane::start_as(command.args(arguments(&dirs[end], nodes[end].underlay)), &dirs[end])
    });
    let mut agents = [planes[0].agent(), planes[1].agent()];
    for (own, peer) in [(0, 1), (1, 0)] {
        assert!(agents[own].hello.tun);
        assert_eq!(agents[own].hello.interface, "rap0");
        agents[own].apply(nodes[own].table(&authority, 1, &[nodes[peer]]));
        let interfaces = cable.interfaces(own);
        for address in [format!("{}/32", nodes[own].overlay_v4()), format!("{}/128", nodes[own].overlay_v6())]
        {
            assert!(interfaces.contains(&address), "{interfaces}");
        }
    }
    for (own, peer) in [(0, 1), (1, 0)] {
        for address in [nodes[peer].overlay_v4(), nodes[peer].overlay_v6()] {
            let pinged = cable.run(own, "ping", &["-c", "3", "-i", "0.2", "-W", "5", &address]);
            let text = String::from_utf8_lossy(&pinged.stdout).into_owned();
            assert!(pinged.status.success() && text.contains(" 0% packet loss"), "{text}");
        }
    }
    let id = nodes[1].id().to_vec();
    until("linked", || agents[0].stats_of(&id).filter(|peer| peer.link_state == "established"));
    let outcome = agents[0].ping(&id, 3);
    assert_eq!((answered(&outcome.overlay), answered(&outcome.link)), (3, 3), "{outcome:?}");

    // Without its agent it goes on.
    let [first, mut second] = agents;
    drop(first);
    let pinged = cable.run(1, "ping", &["-c", "1", "-W", "5", &nodes[0].overlay_v4()]);
    assert!(pinged.status.success());

    // Another MTU makes the interface afresh; the peer finds it again.
    let mut table = nodes[1].table(&authority, 2, &[nodes[0]]);
    table.mtu = 1400;
    second.apply(table);
    let link = cable.run(1, "ip", &["link", "show", "rap0"]);
    assert!(String::from_utf8_lossy(&link.stdout).contains("mtu 1400"));
    let pinged = cable.run(1, "ping", &["-c", "1", "-W", "5", &nodes[0].overlay_v4()]);
    assert!(pinged.status.success(), "{}", String::from_utf8_lossy(&pinged.stdout));

    assert!(matches!(second.ask(Ask::Stop(StopCommand {})), Answer::StopAck(_)));
    planes[0].signal(nix::sys::signal::Signal::SIGTERM);
    for (end, plane) in planes.iter_mut().enumerate() {
        assert_eq!(plane.ended().code(), Some(0));
        assert!(!cable.interfaces(end).contains("rap0"));
    }
}

#[test]
fn an_interface_that_somebody_removes_ends_the_process_with_a_reason() {
    if !is_root() || !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: needs root and /dev/net/tun");
        return;
    }
    let namespace = Cable { ends: ["c", "d"].map(|end| format!("rapdp{}{end}", std::process::id())) };
    ip(&["netns", "add", &namespace.ends[0]]);
    ip(&["-n", &namespace.ends[0], "link", "set", "lo", "up"]);
    let (dir, node) = (tempdir().unwrap(), Node { number: 1, underlay: loopback() });
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace.ends[0], env!("CARGO_BIN_EXE_rap-dataplane")]);
    let mut plane = DataPlane::start_as(command.args(arguments(&dir, node.underlay)), &dir);
    let mut agent = plane.agent();
    agent.apply(node.table(&Authority::new(), 1, &[]));
    ip(&["-n", &namespace.ends[0], "link", "delete", "rap0"]);
    // A supervisor sees it and starts another.
    assert_eq!(plane.ended().code(), Some(6));
}

#[test]
fn without_the_capability_there_is_no_interface_and_root_may_still_control() {
    if !is_root() {
        eprintln!("skipped: only root can start another user's process");
        return;
    }
    let (dir, node) = (tempdir().unwrap(), Node { number: 1, underlay: loopback() });
    let program = dir.path().join("rap-dataplane");
    std::fs::copy(env!("CARGO_BIN_EXE_rap-dataplane"), &program).unwrap();
    for path in [dir.path(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new(&program);
    command.args(arguments(&dir, node.underlay)).current_dir(dir.path()).uid(NOBODY).gid(NOBODY);
    let plane = DataPlane::start_as(&mut command, &dir);
    let mut agent = plane.agent();
    assert_eq!((agent.hello.tun, agent.hello.interface.as_str()), (false, ""));
    agent.apply(node.table(&Authority::new(), 1, &[]));
    assert_eq!(agent.stats().table_version, 1);
}

const NOBODY: u32 = 65534;
