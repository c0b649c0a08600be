//! The rules of the agent's socket, against a real process.

mod support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use rap_runtime::last_fault;
use rap_wire::FRAME_CAP;
use rap_wire::v1::agent_message::Body as Ask;
use rap_wire::v1::dataplane_message::Body as Answer;
use rap_wire::v1::{ForwardingTable, PingCommand, StatsRequest, StopCommand, TableRevoked};
use support::*;
use tempfile::tempdir;

fn node(number: u8) -> Node {
    Node { number, underlay: loopback() }
}

#[test]
fn hello_comes_first_with_a_common_version_and_the_right_membership() {
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let greet = |min, max, membership| Agent::greet(&plane.socket(), hello(min, max, membership));
    let reason = |min, max, membership| greet(min, max, membership).err().unwrap().reason;
    assert_eq!(reason(3, 9, MEMBERSHIP), "dataplane.version");
    assert_eq!(reason(0, 0, MEMBERSHIP), "dataplane.version");
    assert_eq!(reason(1, 1, "other"), "request.invalid");
    let mut rude = Agent::silent(&plane.socket());
    assert_eq!(rude.refused(Ask::Stats(StatsRequest::default())), "request.invalid");
    assert!(rude.receive().is_none(), "and it is dropped");

    let mut agent = greet(1, 7, MEMBERSHIP).ok().unwrap();
    let hello = agent.hello.clone();
    assert_eq!((hello.protocol, hello.table_version, hello.tun), (2, 0, false));
    assert_eq!((hello.pid, hello.instance_id.len()), (plane.child.id(), 16));
    assert_eq!(agent.refused(Ask::Hello(support::hello(1, 1, MEMBERSHIP))), "request.invalid");
    assert_eq!(agent.stats().table_version, 0, "and it stays the controller");
}

#[test]
fn one_controller_at_a_time_and_the_next_takes_over() {
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let mut first = plane.agent();
    let second = Agent::greet(&plane.socket(), hello(1, 1, MEMBERSHIP));
    assert_eq!(second.err().unwrap().reason, "dataplane.busy");
    assert!(first.stats().rss_bytes > 0);
    let instance = first.hello.instance_id.clone();
    drop(first);
    assert_eq!(plane.agent().hello.instance_id, instance);
}

#[test]
fn a_table_that_is_not_newer_is_refused_and_the_next_agent_learns_the_version() {
    let dir = tempdir().unwrap();
    let (authority, own) = (Authority::new(), node(1));
    let plane = DataPlane::start(&dir, own.underlay);
    let mut agent = plane.agent();
    assert_eq!(agent.refused(Ask::Table(own.table(&authority, 0, &[]))), "dataplane.table");
    agent.apply(own.table(&authority, 7, &[node(2)]));
    for version in [7, 6, 0] {
        assert_eq!(agent.refused(Ask::Table(own.table(&authority, version, &[]))), "dataplane.table");
    }
    let stats = agent.stats();
    assert_eq!((stats.table_version, stats.peers.len()), (7, 1));
    drop(agent);
    let mut agent = plane.agent();
    assert_eq!(agent.hello.table_version, 7);
    agent.apply(own.table(&authority, 8, &[]));
    assert_eq!(agent.stats().peers.len(), 0);
}

#[test]
fn a_malformed_table_changes_nothing() {
    let dir = tempdir().unwrap();
    let (authority, own, peer) = (Authority::new(), node(1), node(2));
    let stranger = Authority::new();
    let plane = DataPlane::start(&dir, own.underlay);
    let mut agent = plane.agent();
    agent.apply(own.table(&authority, 1, &[peer]));
    let before = agent.stats().peers;

    type Damage<'a> = Box<dyn Fn(&mut ForwardingTable) + 'a>;
    let damages: Vec<(&str, Damage<'_>)> = vec![
        ("short node id", Box::new(|t| t.node_id.truncate(15))),
        ("another node", Box::new(|t| t.node_id = vec![9; 16])),
        ("another cluster", Box::new(|t| t.cluster_id = vec![9; 16])),
        ("another installation", Box::new(|t| t.installation_id = vec![9; 16])),
        ("no key", Box::new(|t| t.wireguard_private_key.clear())),
        ("zero key", Box::new(|t| t.wireguard_private_key = vec![0; 32])),
        ("no address", Box::new(|t| t.addresses.clear())),
        ("bad address", Box::new(|t| t.addresses[0] = "100.96.0.1".to_owned())),
        ("multicast address", Box::new(|t| t.addresses[0] = "224.0.0.1/16".to_owned())),
        ("revoked nobody", Box::new(|t| t.revoked.push(TableRevoked::default()))),
        (
            "leaf of another authority",
            Box::new(|t| t.identity.as_mut().unwrap().cluster_ca = stranger.leaf(own.id()).cluster_ca),
        ),
        ("leaf of another node", Box::new(|t| t.identity = Some(authority.leaf(peer.id())))),
        ("no certificate", Box::new(|t| t.identity.as_mut().unwrap().certificate.clear())),
        ("no authority", Box::new(|t| t.identity.as_mut().unwrap().cluster_ca.clear())),
        (
            "key of another leaf",
            Box::new(|t| t.identity.as_mut().unwrap().private_key = authority.leaf(own.id()).private_key),
        ),
        ("no leaf key", Box::new(|t| t.identity.as_mut().unwrap().private_key.clear())),
    ];
    for (what, damage) in &damages {
        let mut table = own.table(&authority, 2, &[peer]);
        damage(&mut table);
        let Answer::Refusal(refusal) = agent.ask(Ask::Table(table)) else { panic!("taken: {what}") };
        assert_eq!(refusal.reason, "dataplane.table", "{what}");
        let stats = agent.stats();
        assert_eq!(stats.table_version, 1, "{what}");
        let ids = |peers: &[rap_wire::v1::PeerStats]| {
            peers.iter().map(|p| (p.node_id.clone(), p.wireguard_endpoint.clone())).collect::<Vec<_>>()
        };
        assert_eq!(ids(&stats.peers), ids(&before), "{what}");
    }
    agent.apply(own.table(&authority, 2, &[]));
}

/// An unusable peer beside a sound one: whatever it is, the sound one stays and a removal is in force.
#[test]
fn a_table_is_judged_peer_by_peer() {
    let dir = tempdir().unwrap();
    let (authority, own, sound) = (Authority::new(), node(1), node(5));
    let peer = node(2);
    let plane = DataPlane::start(&dir, own.underlay);
    let mut agent = plane.agent();
    let third = || peer_of(&Node { number: 3, ..peer });
    type Damage<'a> = Box<dyn Fn(&mut ForwardingTable) + 'a>;
    let damages: Vec<(&str, Damage<'_>)> = vec![
        ("peer id", Box::new(|t| t.peers[0].node_id.clear())),
        ("peer is self", Box::new(|t| t.peers[0].node_id.clone_from(&t.node_id))),
        ("peer twice", Box::new(|t| t.peers.push(t.peers[0].clone()))),
        ("peer key short", Box::new(|t| t.peers[0].wireguard_public_key.truncate(31))),
        (
            "peer key is own",
            Box::new(|t| t.peers[0].wireguard_public_key = peer_of(&own).wireguard_public_key),
        ),
        (
            "peer key twice",
            Box::new(|t| {
                let mut other = peer_of(&Node { number: 3, ..peer });
                other.wireguard_public_key.clone_from(&t.peers[0].wireguard_public_key);
                t.peers.push(other);
            }),
        ),
        (
            "prefix twice",
            Box::new(|t| {
                let mut other = peer_of(&Node { number: 3, ..peer });
                other.allowed_ips.clone_from(&t.peers[0].allowed_ips);
                t.peers.push(other);
            }),
        ),
        ("peer claims our address", Box::new(|t| t.peers[0].allowed_ips[0] = "100.96.0.1/32".to_owned())),
        ("bad prefix", Box::new(|t| t.peers[0].allowed_ips[0] = "100.96.0.2/33".to_owned())),
        ("peer key of zeros", Box::new(|t| t.peers[0].wireguard_public_key = vec![0; 32])),
        (
            "peer of small order",
            Box::new(|t| t.peers[0].wireguard_public_key = [&[1][..], &[0; 31]].concat()),
        ),
    ];
    let mut version = 0;
    for (what, damage) in &damages {
        let mut before = own.table(&authority, version + 1, &[peer, sound]);
        before.peers.push(third());
        agent.apply(before);
        let mut table = own.table(&authority, version + 2, &[peer, sound]);
        damage(&mut table);
        table.peers.retain(|entry| what.ends_with("twice") || entry.node_id != third().node_id);
        agent.apply(table);
        version += 2;
        let stats = agent.stats();
        assert_eq!(stats.table_version, version, "{what}");
        assert!(agent.stats_of(sound.id().as_bytes()).is_some(), "{what}");
        let removed = agent.stats_of(&third().node_id).is_none();
        assert!(removed || what.ends_with("twice"), "{what}: the one that was removed is gone");
    }
}

#[test]
fn a_revoked_peer_in_the_table_is_left_out() {
    let dir = tempdir().unwrap();
    let (authority, own) = (Authority::new(), node(1));
    let plane = DataPlane::start(&dir, own.underlay);
    let mut agent = plane.agent();
    let mut table = own.table(&authority, 1, &[node(2), node(3)]);
    table.revoked.push(TableRevoked { node_id: table.peers[0].node_id.clone(), key_generation: 1 });
    agent.apply(table);
    let peers = agent.stats().peers;
    assert_eq!(peers.iter().map(|peer| peer.node_id.as_slice()).collect::<Vec<_>>(), [[3; 16]]);
}

#[test]
fn oversized_and_undecodable_messages_end_the_connection_with_a_reason() {
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let too_long = (u32::try_from(FRAME_CAP).unwrap() + 1).to_be_bytes();
    for (bytes, reason) in
        [(too_long.to_vec(), "request.too_large"), (vec![0, 0, 0, 2, 0xff, 0xff], "request.invalid")]
    {
        let mut before_hello = Agent::silent(&plane.socket());
        before_hello.stream.write_all(&bytes).unwrap();
        assert_eq!(before_hello.dropped_with().as_deref(), Some(reason));
        let mut controller = plane.agent();
        controller.stream.write_all(&bytes).unwrap();
        assert_eq!(controller.dropped_with().as_deref(), Some(reason));
    }
    assert_eq!(plane.agent().hello.table_version, 0, "the next one is served");
}

#[test]
fn who_is_silent_is_dropped_at_a_deadline() {
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let without_hello = Agent::silent(&plane.socket());
    let mut amid_a_message = plane.agent();
    amid_a_message.stream.write_all(&[0, 0]).unwrap();
    assert_eq!(without_hello.dropped_with().as_deref(), Some("request.timeout"));
    assert_eq!(amid_a_message.dropped_with().as_deref(), Some("request.timeout"));
    plane.agent();
}

#[test]
fn who_does_not_read_is_dropped_and_holds_nobody_up() {
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let mut deaf = plane.agent();
    let frame = rap_wire::encode_frame(&rap_wire::v1::AgentMessage {
        id: 1,
        body: Some(Ask::Stats(StatsRequest::default())),
    })
    .unwrap();
    // Until both directions are full; then the other end gives up and this write fails.
    while deaf.stream.write_all(&frame).is_ok() {}
    until("another is served", || Agent::greet(&plane.socket(), hello(1, 1, MEMBERSHIP)).ok());
}

#[test]
fn too_long_or_unknown_pings_are_refused() {
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let mut agent = plane.agent();
    let ping = |node: &[u8], count, interval_ms| {
        Ask::Ping(PingCommand { node_id: node.to_vec(), count, interval_ms })
    };
    assert_eq!(agent.refused(ping(&[2; 16], 21, 0)), "request.invalid");
    assert_eq!(agent.refused(ping(&[2; 16], 0, 0)), "request.invalid");
    assert_eq!(agent.refused(ping(&[2; 16], 1, 9000)), "request.invalid");
    assert_eq!(agent.refused(ping(&[2; 15], 1, 0)), "request.invalid");
    assert_eq!(agent.refused(ping(&[2; 16], 1, 0)), "link.peer_unknown");
}

#[test]
fn stop_and_sigterm_end_the_process_cleanly() {
    let dir = tempdir().unwrap();
    let (authority, own) = (Authority::new(), node(1));
    let mut plane = DataPlane::start(&dir, own.underlay);
    let mut agent = plane.agent();
    agent.apply(own.table(&authority, 1, &[node(2)]));
    assert!(matches!(agent.ask(Ask::Stop(StopCommand {})), Answer::StopAck(_)));
    assert_eq!(plane.ended().code(), Some(0));
    assert!(!plane.socket().exists());

    let mut again = DataPlane::start(&dir, own.underlay);
    again.signal(Signal::SIGTERM);
    assert_eq!(again.ended().code(), Some(0));
    assert_eq!(last_fault::read(&again.folder, again.child.id()), None);
    assert!(!again.socket().exists());
}

#[test]
fn a_second_data_plane_of_the_membership_does_not_start() {
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let second = Command::new(env!("CARGO_BIN_EXE_rap-dataplane"))
        .args(arguments(&dir, loopback()))
        .arg("--no-tun")
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&second.stderr).contains("error[dataplane.busy]"));
    plane.agent();
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_its_name() {
    let dir = tempdir().unwrap();
    let ip = loopback();
    let _taken = std::net::UdpSocket::bind((ip, 51820)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rap-dataplane"));
    let child = command.args(arguments(&dir, ip)).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("error[config.invalid]: wireguard-listen"), "{text}");
    let last = last_fault::read(&dir.path().join(MEMBERSHIP), pid).expect("left for whoever started it");
    assert!(last.reason == "config.invalid" && last.text.contains("wireguard-listen"), "{last:?}");
}

/// What the stranger below says is in this variable.
const SOCKET: &str = "DATAPLANE_TEST_SOCKET";
const NOBODY: u32 = 65534;

#[test]
fn another_user_is_refused_even_if_the_file_modes_let_it_in() {
    if !is_root() {
        eprintln!("skipped: only root can start another user's process");
        return;
    }
    let dir = tempdir().unwrap();
    let plane = DataPlane::start(&dir, loopback());
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(dir.path(), 0o755);
    open(&plane.folder, 0o755);
    open(&plane.socket(), 0o666);
    // This program again, where that user may read it.
    let program = dir.path().join("stranger");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    open(&program, 0o755);
    let output = Command::new(&program)
        .args(["--ignored", "--exact", "stranger"])
        .env(SOCKET, plane.socket())
        .current_dir(dir.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    plane.agent();
}

#[test]
#[ignore = "the other half of another_user_is_refused_even_if_the_file_modes_let_it_in"]
fn stranger() {
    let socket = std::env::var_os(SOCKET).expect("started by the other test");
    let refusal = Agent::greet(socket.as_ref(), hello(1, 1, MEMBERSHIP)).err().unwrap();
    assert_eq!(refusal.reason, "dataplane.peer");
}
