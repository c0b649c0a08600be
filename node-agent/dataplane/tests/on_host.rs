//! What a data plane may use of its host, and what it leaves there.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use rap_wire::v1::agent_message::Body as Ask;
use support::*;
use tempfile::{TempDir, tempdir};

/// A namespace; gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new(end: &str) -> Self {
        let namespace = Self(format!("rapon{}{end}", std::process::id()));
        for words in [vec!["netns", "add", &namespace.0], vec!["-n", &namespace.0, "link", "set", "lo", "up"]]
        {
            let output = Command::new("ip").args(&words).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        namespace
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new("ip").args(["netns", "exec", &self.0, program]).args(arguments).output().unwrap()
    }

    /// Unreachable routes of both families, and packet filter tables.
    fn left(&self) -> String {
        let shown = |program: &str, arguments: &[&str]| {
            String::from_utf8(self.run(program, arguments).stdout).unwrap()
        };
        shown("ip", &["route", "show", "proto", "82"])
            + &shown("ip", &["-6", "route", "show", "proto", "82"])
            + &shown("nft", &["list", "tables"])
    }

    fn start(&self, run_dir: &TempDir, bounds: &Path) -> DataPlane {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, PROGRAM]).args(arguments(run_dir, loopback()));
        DataPlane::start_as(command.arg("--bounds-dir").arg(bounds), run_dir)
    }

    fn clear(&self, run_dir: &TempDir) -> Output {
        let run_dir = run_dir.path().to_str().unwrap();
        self.run(PROGRAM, &["clear", "--membership", MEMBERSHIP, "--run-dir", run_dir])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _absent = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

#[test]
fn addresses_outside_of_the_written_pools_are_refused() {
    let (dir, bounds) = (tempdir().unwrap(), tempdir().unwrap());
    let text = "RAP_DATAPLANE_POOLS=100.96.0.0/16,fd12:3456:789a::/48\n";
    std::fs::write(bounds.path().join(format!("{MEMBERSHIP}.env")), text).unwrap();
    let (authority, own) = (Authority::new(), Node { number: 1, underlay: loopback() });
    let peer = Node { number: 2, underlay: own.underlay };
    let mut command = Command::new(PROGRAM);
    command.args(arguments(&dir, own.underlay)).args(["--no-tun", "--bounds-dir"]).arg(bounds.path());
    let plane = DataPlane::start_as(&mut command, &dir);
    let mut agent = plane.agent();
    agent.apply(own.table(&authority, 1, &[peer]));
    for address in ["10.0.0.1/8", "127.0.0.1/8", "100.96.0.1/8", "0.0.0.0/0", "fd12::1/48"] {
        let mut table = own.table(&authority, 2, &[peer]);
        table.addresses[0] = address.to_owned();
        assert_eq!(agent.refused(Ask::Table(table)), "dataplane.outside_pool", "{address}");
    }
}

#[test]
fn a_peer_outside_of_the_written_pools_is_left_out_alone_and_told() {
    let (dir, bounds) = (tempdir().unwrap(), tempdir().unwrap());
    let text = "RAP_DATAPLANE_POOLS=100.96.0.0/16,fd12:3456:789a::/48\n";
    std::fs::write(bounds.path().join(format!("{MEMBERSHIP}.env")), text).unwrap();
    let (authority, own) = (Authority::new(), Node { number: 1, underlay: loopback() });
    let [one, two] = [2, 3].map(|number| Node { number, underlay: own.underlay });
    let mut command = Command::new(PROGRAM);
    command.args(arguments(&dir, own.underlay)).args(["--no-tun", "--bounds-dir"]).arg(bounds.path());
    let plane = DataPlane::start_as(&mut command, &dir);
    let mut agent = plane.agent();
    for (version, address) in (1..).zip(["10.0.0.1/32", "100.97.0.1/32", "0.0.0.0/0", "fd12::1/128"]) {
        let mut table = own.table(&authority, version, &[one, two]);
        table.peers[0].allowed_ips.push(address.to_owned());
        let outside = table.peers[0].node_id.clone();
        agent.apply(table);
        let stats = agent.stats();
        assert_eq!(stats.peers.len(), 1, "{address}");
        assert_ne!(stats.peers[0].node_id, outside);
        let [finding] = &stats.host[..] else { panic!("{address}: {:?}", stats.host) };
        assert!(finding.reason == "dataplane.outside_pool" && !finding.degrades, "{finding:?}");
    }
    agent.apply(own.table(&authority, 9, &[one, two]));
    assert_eq!((agent.stats().peers.len(), agent.stats().host), (2, Vec::new()));
}

#[test]
fn a_file_of_bounds_that_makes_no_sense_stops_the_start() {
    let (dir, bounds) = (tempdir().unwrap(), tempdir().unwrap());
    std::fs::write(bounds.path().join(format!("{MEMBERSHIP}.env")), "nonsense\n").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(arguments(&dir, loopback())).args(["--no-tun", "--bounds-dir"]).arg(bounds.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_outlives_a_data_plane_is_removed_by_clear_unless_another_membership_has_it() {
    if !is_root() || !Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: needs root and /dev/net/tun");
        return;
    }
    let (namespace, dir, bounds) = (Namespace::new("c"), tempdir().unwrap(), tempdir().unwrap());
    let node = Node { number: 1, underlay: loopback() };
    let mut plane = namespace.start(&dir, bounds.path());
    let mut agent = plane.agent();
    agent.apply(node.table(&Authority::new(), 1, &[]));
    assert_eq!(agent.stats().host, []);
    plane.kill();
    let left = namespace.left();
    for wanted in ["unreachable 100.96.0.0/16", "unreachable fd12:3456:789a::/48", "table inet rap_0"] {
        assert!(left.contains(wanted), "{wanted}: {left}");
    }

    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("on-host"), "interface rap1\nprefix fd12:3456:789a::/48\n").unwrap();
    let cleared = namespace.clear(&dir);
    assert!(cleared.status.success(), "{}", String::from_utf8_lossy(&cleared.stderr));
    let left = namespace.left();
    assert!(!left.contains("100.96") && !left.contains("rap_0"), "{left}");
    assert!(left.contains("unreachable fd12:3456:789a::/48"), "the other membership has it: {left}");
    assert!(namespace.clear(&dir).status.success(), "a second time there is nothing to do");
}

#[test]
fn without_ipv6_the_rest_is_applied_and_said() {
    if !is_root() || !Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: needs root and /dev/net/tun");
        return;
    }
    let (namespace, dir, bounds) = (Namespace::new("v"), tempdir().unwrap(), tempdir().unwrap());
    assert!(namespace.run("sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"]).status.success());
    let node = Node { number: 1, underlay: loopback() };
    let plane = namespace.start(&dir, bounds.path());
    let mut agent = plane.agent();
    // The IPv6 address comes first: it must not keep the other back.
    let mut table = node.table(&Authority::new(), 1, &[]);
    table.addresses.reverse();
    agent.apply(table);
    let shown =
        String::from_utf8(namespace.run("ip", &["-o", "address", "show", "dev", "rap0"]).stdout).unwrap();
    assert!(shown.contains("100.96.0.1/32"), "{shown}");
    let routes = String::from_utf8(namespace.run("ip", &["route", "show", "dev", "rap0"]).stdout).unwrap();
    assert!(routes.contains("100.96.0.0/16"), "{routes}");
    let host = agent.stats().host;
    assert!(!host.is_empty() && host.iter().all(|found| !found.degrades), "{host:?}");
    assert!(host.iter().all(|found| found.reason == "interface.incomplete"), "{host:?}");
    assert!(host.iter().any(|found| found.text.contains("IPv6 is switched off")), "{host:?}");
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_rap-dataplane");
