//! A host in two clusters forwards nothing between them, with real packets: host `m` is in clusters A and
//! B, `a` only in A, `b` only in B. Everybody but the data planes of `m` helps the attacker: `m` has
//! forwarding on, routes point the way, and `a` has a data plane table of its own making.

mod support;

/// Needs root, network namespaces and /dev/net/tun.
mod needs_root {
    use std::net::{IpAddr, Ipv4Addr};
    use std::process::{Command, Output};

    use rap_wire::v1::ForwardingTable;
    use tempfile::{TempDir, tempdir};

    use crate::support::*;

    const A: u8 = 1;
    const M: u8 = 2;
    const B: u8 = 3;

    /// Three namespaces: `a` and `b` each have a cable to `m`. They go away when dropped.
    struct Hosts {
        names: [String; 3],
    }

    impl Hosts {
        fn new() -> Self {
            let names = ["a", "m", "b"].map(|end| format!("rapiso{}{end}", std::process::id()));
            let hosts = Self { names };
            let [a, m, b] = &hosts.names;
            for name in [a, m, b] {
                ip(&["netns", "add", name]);
                ip(&["-n", name, "link", "set", "lo", "up"]);
            }
            for (end, device, near, far) in
                [(a, "to-a", underlay(M, A), underlay(A, A)), (b, "to-b", underlay(M, B), underlay(B, B))]
            {
                ip(&["-n", m, "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", end]);
                for (name, device, address) in [(m, device, near), (end, "eth0", far)] {
                    ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", device]);
                    ip(&["-n", name, "link", "set", device, "up"]);
                }
            }
            for setting in [
                "net.ipv4.ip_forward=1",
                "net.ipv6.conf.all.forwarding=1",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0",
                "net.ipv4.conf.to-a.rp_filter=0",
            ] {
                assert!(hosts.run(M, "sysctl", &["-qw", setting]).status.success(), "{setting}");
            }
            hosts
        }

        fn name(&self, host: u8) -> &str {
            &self.names[usize::from(host) - 1]
        }

        fn run(&self, host: u8, program: &str, arguments: &[&str]) -> Output {
            let exec = ["netns", "exec", self.name(host), program];
            Command::new("ip").args(exec).args(arguments).output().unwrap()
        }

        fn pings(&self, host: u8, arguments: &[&str]) -> bool {
            let arguments = ["-c", "3", "-i", "0.2", "-W", "2"].iter().chain(arguments).copied();
            self.run(host, "ping", &arguments.collect::<Vec<_>>()).status.success()
        }

        /// Packets that the kernel took from (`rx`) or gave to (`tx`) a data plane's interface.
        fn packets(&self, host: u8, interface: &str, direction: &str) -> u64 {
            let path = format!("/sys/class/net/{interface}/statistics/{direction}_packets");
            let text = String::from_utf8(self.run(host, "cat", &[&path]).stdout).unwrap();
            text.trim().parse().unwrap()
        }

        /// Packets that the kernel of `m` forwarded, of both families.
        fn forwarded(&self) -> u64 {
            let read = |path: &str| String::from_utf8(self.run(M, "cat", &[path]).stdout).unwrap();
            let (ipv4, ipv6) = (read("/proc/net/snmp"), read("/proc/net/snmp6"));
            let mut lines = ipv4.lines().filter(|line| line.starts_with("Ip:"));
            let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
            let place = names.split(' ').position(|name| name == "ForwDatagrams").unwrap();
            let forwarded: u64 = values.split(' ').nth(place).unwrap().parse().unwrap();
            let line = ipv6.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).unwrap();
            forwarded + line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        }

        fn plane(&self, host: u8, interface: &str, ip: IpAddr) -> (DataPlane, TempDir) {
            let dir = tempdir().unwrap();
            let mut command = Command::new("ip");
            command.args(["netns", "exec", self.name(host), env!("CARGO_BIN_EXE_rap-dataplane")]);
            command.args(arguments(&dir, ip)).arg(format!("--interface={interface}"));
            (DataPlane::start_as(&mut command, &dir), dir)
        }
    }

    impl Drop for Hosts {
        fn drop(&mut self) {
            for name in &self.names {
                let _absent = Command::new("ip").args(["netns", "delete", name]).output();
            }
        }
    }

    fn ip(arguments: &[&str]) {
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Address of a host on the cable to `end`.
    fn underlay(host: u8, end: u8) -> IpAddr {
        Ipv4Addr::new(10, 90 + end, 0, host).into()
    }

    fn node(number: u8, end: u8) -> Node {
        Node { number, underlay: underlay(number, end) }
    }

    /// The same table in cluster B's pools.
    fn in_b(mut table: ForwardingTable) -> ForwardingTable {
        let moved = |text: &mut String| {
            *text = text.replace("100.96.", "100.97.").replace("fd12:3456:789a", "fd12:3456:789b");
        };
        table.addresses.iter_mut().for_each(moved);
        table.peers.iter_mut().flat_map(|peer| &mut peer.allowed_ips).for_each(moved);
        table
    }

    fn drops(agent: &mut Agent, reason: &str) -> u64 {
        let stats = agent.stats();
        stats.drops.iter().find(|drop| drop.reason == reason).map_or(0, |drop| drop.count)
    }

    #[test]
    #[ignore = "needs root"]
    fn nothing_passes_from_one_cluster_of_a_host_into_the_other() {
        let (hosts, authority) = (Hosts::new(), Authority::new());
        let (plane_a, _dir_a) = hosts.plane(A, "rap0", underlay(A, A));
        let (plane_ma, _dir_ma) = hosts.plane(M, "rap0", underlay(M, A));
        let (plane_mb, _dir_mb) = hosts.plane(M, "rap1", underlay(M, B));
        let (plane_b, _dir_b) = hosts.plane(B, "rap0", underlay(B, B));
        let [mut a, mut ma, mut mb, mut b] = [&plane_a, &plane_ma, &plane_mb, &plane_b].map(DataPlane::agent);
        ma.apply(node(M, A).table(&authority, 1, &[node(A, A)]));
        mb.apply(in_b(node(M, B).table(&authority, 1, &[node(B, B)])));
        b.apply(in_b(node(B, B).table(&authority, 1, &[node(M, B)])));
        // The attacker: what is b's goes to m, and b's address counts as its own.
        let mut table = node(A, A).table(&authority, 1, &[node(M, A)]);
        table.addresses.push("100.97.0.9/32".into());
        let beyond = ["100.97.0.2/32", "100.97.0.3/32", "fd12:3456:789b::3/128"];
        table.peers[0].allowed_ips.extend(beyond.map(str::to_owned));
        a.apply(table);

        // Each cluster works.
        assert!(hosts.pings(A, &["100.96.0.2"]) && hosts.pings(M, &["100.97.0.3"]));
        let (arrived, forwarded) = (hosts.packets(B, "rap0", "rx"), hosts.forwarded());

        // Through the tunnel to b, and to m's own address in the other cluster.
        for target in ["100.97.0.3", "fd12:3456:789b::3", "100.97.0.2"] {
            let (sent, before) =
                (hosts.packets(A, "rap0", "tx"), drops(&mut ma, "wireguard.bad_destination"));
            assert!(!hosts.pings(A, &[target]), "{target}");
            assert!(hosts.packets(A, "rap0", "tx") >= sent + 3, "the attacker did send to {target}");
            assert!(
                drops(&mut ma, "wireguard.bad_destination") >= before + 3,
                "{target} is refused where it arrives"
            );
        }
        // Under an address of the other cluster, towards m's own.
        let before = drops(&mut ma, "wireguard.bad_source");
        assert!(!hosts.pings(A, &["-I", "100.97.0.9", "100.96.0.2"]));
        assert!(drops(&mut ma, "wireguard.bad_source") >= before + 3);
        assert_eq!(hosts.forwarded(), forwarded, "the kernel of m had nothing to forward");

        // Past the tunnel: m's kernel does forward it to the interface of cluster B; its data plane refuses.
        ip(&[
            "-n",
            hosts.name(A),
            "route",
            "replace",
            "100.97.0.3/32",
            "via",
            "10.91.0.2",
            "src",
            "10.91.0.1",
        ]);
        let before = drops(&mut mb, "wireguard.bad_source");
        assert!(!hosts.pings(A, &["100.97.0.3"]));
        assert!(hosts.forwarded() >= forwarded + 3, "the kernel of m did forward");
        assert!(drops(&mut mb, "wireguard.bad_source") >= before + 3);
        assert_eq!(hosts.packets(B, "rap0", "rx"), arrived, "nothing arrived at b");

        // And each cluster still works.
        assert!(hosts.pings(A, &["100.96.0.2"]) && hosts.pings(M, &["100.97.0.3"]));
        assert!(hosts.packets(B, "rap0", "rx") > arrived, "what does arrive is counted");
    }
}
