//! The host's own network beside the overlay: who keeps which addresses, what is put right, what outlives a device.

use crate::lab::{Lab, Underlay, key};

const TABLE: &str = "table 100.96.0.1/16,fd12:3456:789a::1/48";

/// Needed parts and inside parts are left to the host, at the start at once and later after five seconds.
pub fn keeps_its_part() {
    let lab = Lab::new(Underlay::V4);
    let mut a = lab.start(0);
    lab.run_in(0, "ip route add 100.96.64.0/18 via 10.77.0.2");
    a.ask_ok(TABLE);
    let routes = lab.output_in(0, "ip route show dev rap0");
    assert!(!routes.contains("100.96.0.0/16") && routes.contains("100.96.128.0/17"), "{routes}");
    assert!(lab.output_in(0, "ip route get 100.96.64.9").contains("via 10.77.0.2"));
    assert!(lab.output_in(0, "ip route get 100.96.63.9").contains("dev rap0"));
    let said = a.ask("findings");
    assert!(said.contains("overlay.host_conflict:100.96.64.0/18") && !said.contains('|'), "{said}");

    // Gone: five seconds later the overlay has it back. The control plane's address is never taken.
    lab.run_in(0, "ip route del 100.96.64.0/18");
    let routes = lab.wait_in(0, "ip route show dev rap0", |shown| shown.contains("100.96.0.0/16"));
    assert!(routes.contains("proto 82") && routes.contains("src 100.96.0.1"), "{routes}");
    a.ask_ok("control 100.96.200.7");
    lab.wait_in(0, "ip route show dev rap0", |shown| !shown.contains("100.96.0.0/16"));
    lab.run_in(0, "ip route add default via 10.77.0.2");
    assert!(lab.output_in(0, "ip route get 100.96.200.7").contains("via 10.77.0.2"));
    assert!(lab.output_in(0, "ip route get 100.96.200.8").contains("dev rap0"));
    assert!(a.ask("findings").contains("the control plane's address 100.96.200.7"));

    // An address of the host whose subnet covers the pool takes all of it, the own address too.
    lab.run_in(0, "ip address add 100.64.3.3/10 dev under");
    lab.wait_in(0, "ip -4 -o address show", |shown| !shown.contains("100.96.0.1/32"));
    assert!(!lab.output_in(0, "ip route show dev rap0").contains("100.96"));
    assert!(lab.output_in(0, "ip -6 -o address show dev rap0").contains("fd12:3456:789a::1/128"));
    lab.run_in(0, "ip address del 100.64.3.3/10 dev under");
    lab.wait_in(0, "ip -4 -o address show", |shown| shown.contains("100.96.0.1/32"));
}

/// A route around the pool is named; a default in two halves is not even that.
pub fn wider_routes() {
    let lab = Lab::new(Underlay::V4);
    let (mut a, mut b) = (lab.start(0), lab.start(1));
    lab.run_in(0, "ip route add 100.0.0.0/8 via 10.77.0.2");
    a.ask_ok(&lab.table(0));
    b.ask_ok(&lab.table(1));
    lab.run_in(0, "ip route add 0.0.0.0/1 via 10.77.0.2");
    lab.run_in(0, "ip route add 128.0.0.0/1 via 10.77.0.2");
    lab.run_in(0, "ping -n -c 3 -i 0.2 -W 20 100.96.0.2");
    let said = a.ask("findings");
    assert!(said.starts_with("overlay.shadows_route:") && said.contains("100.0.0.0/8"), "{said}");
    assert!(!said.contains('|'), "{said}");
}

/// What IPv4 needs is applied, what IPv6 would need is named, and it comes when IPv6 is switched on.
pub fn without_ipv6() {
    let lab = Lab::new(Underlay::V4);
    for node in 0..2 {
        lab.run_in(node, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    }
    let (mut a, mut b) = (lab.start(0), lab.start(1));
    a.ask_ok(&lab.table(0));
    b.ask_ok(&lab.table(1));
    lab.run_in(0, "ping -n -c 3 -i 0.2 -W 20 100.96.0.2");
    let said = a.ask("findings");
    assert!(
        said.contains("interface.incomplete:rap0: address fd12:3456:789a::1 not applied: IPv6 is"),
        "{said}"
    );
    assert!(!said.contains("contested") && !said.contains("100.96"), "{said}");
    for node in 0..2 {
        lab.run_in(node, "sysctl -qw net.ipv6.conf.rap0.disable_ipv6=0");
        lab.wait_in(node, "ip -6 route show dev rap0", |shown| shown.contains("fd12:3456:789a::/48"));
    }
    lab.run_in(0, "ping -n -c 3 -i 0.2 -W 20 fd12:3456:789a::2");
    assert_eq!(a.ask("findings"), "");
}

/// Set down, a route removed, IPv6 off and on: back at once. After five corrections it is left alone.
pub fn put_right() {
    let lab = Lab::new(Underlay::V4);
    let mut a = lab.start(0);
    a.ask_ok(TABLE);
    let all = "ip -o address show dev rap0";
    let whole = |shown: &str| shown.contains("100.96.0.1/32") && shown.contains("fd12:3456:789a::1/128");
    lab.run_in(0, "ip link set rap0 down");
    lab.wait_in(0, "ip link show rap0", |shown| shown.contains(",UP"));
    lab.wait_in(0, all, whole);
    lab.wait_in(0, "ip route show dev rap0", |shown| shown.contains("100.96.0.0/16"));
    lab.run_in(0, "ip route del 100.96.0.0/16 dev rap0");
    lab.wait_in(0, "ip route show dev rap0", |shown| shown.contains("100.96.0.0/16"));
    lab.run_in(0, "sysctl -qw net.ipv6.conf.rap0.disable_ipv6=1");
    lab.run_in(0, "sysctl -qw net.ipv6.conf.rap0.disable_ipv6=0");
    lab.wait_in(0, all, whole);
    lab.wait_in(0, "ip -6 route show dev rap0", |shown| shown.contains("fd12:3456:789a::/48"));
    for _ in 0..6 {
        lab.run_in(0, "ip address flush dev rap0");
        if a.ask("contested") == "true" {
            break;
        }
    }
    let said = a.ask("findings");
    assert!(said.starts_with("interface.contested:"), "{said}");
    assert!(!whole(&lab.output_in(0, all)), "hands off");
}

/// Packets for a pool never leave by the default route, not even without a device.
pub fn unreachable() {
    let lab = Lab::new(Underlay::V4);
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("host");
    lab.run_in(0, "ip route add default via 10.77.0.2");
    lab.run_in(0, "ip route add 100.96.64.0/18 via 10.77.0.2");
    let mut a = lab.start_with_record(0, &record);
    a.ask_ok(TABLE);
    a.stop();
    let left = lab.output_in(0, "ip route show proto 82") + &lab.output_in(0, "ip -6 route show proto 82");
    for prefix in ["100.96.0.0/18", "100.96.128.0/17", "fd12:3456:789a::/48"] {
        assert!(left.contains(&format!("unreachable {prefix}")), "{left}");
    }
    assert!(!left.contains("100.96.64.0") && left.contains("metric 1000000"), "{left}");
    assert!(!lab.try_in(0, "ip route get 100.96.0.9"));
    assert!(lab.output_in(0, "ip route get 100.96.64.9").contains("via 10.77.0.2"));
    assert!(lab.output_in(0, "ip route get 192.0.2.1").contains("via 10.77.0.2"));

    // The next device takes them over, and what is wanted no more goes.
    let mut a = lab.start_with_record(0, &record);
    a.ask_ok("table 100.96.0.1/16");
    let left = lab.output_in(0, "ip -6 route show proto 82");
    assert!(!left.contains("unreachable"), "{left}");
    a.ask_ok(&format!("table 100.97.0.1/16 {}||100.97.0.2/32", key(1)));
    let left = lab.output_in(0, "ip route show proto 82");
    assert!(left.contains("unreachable 100.97.0.0/16") && !left.contains("100.96."), "{left}");
}

/// A neighbour on the underlay cannot reach a service on an overlay address, nor pretend to be a peer.
pub fn neighbours() {
    let lab = Lab::new(Underlay::V4);
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("host");
    lab.run_in(1, "ip route add 100.96.0.0/16 via 10.77.0.1");
    lab.run_in(1, "ip address add 100.96.0.77/32 dev under");
    let mut a = lab.start(0);
    a.ask_ok(TABLE);
    lab.run_in(1, "ping -n -c 1 -W 5 -I 10.77.0.2 100.96.0.1");
    a.stop();
    let mut a = lab.start_with_record(0, &record);
    a.ask_ok(TABLE);
    assert_eq!(a.ask("findings"), "");
    for line in ["ping -n -c 1 -W 1 -I 10.77.0.2 100.96.0.1", "ping -n -c 1 -W 1 -I 100.96.0.77 10.77.0.1"] {
        assert!(!lab.try_in(1, line), "{line}");
    }
    lab.run_in(1, "ping -n -c 1 -W 5 10.77.0.1");
    lab.run_in(0, "ping -n -c 1 -W 5 100.96.0.1");
    let rules = lab.output_in(0, "nft list table inet rap_0");
    assert_eq!(rules.matches("counter packets 1 ").count(), 2, "{rules}");

    // Another manager of the packet filter removes everything: the rules come back.
    lab.run_in(0, "nft flush ruleset");
    lab.wait_in(0, "nft list ruleset", |shown| shown.contains("table inet rap_0"));
    assert!(!lab.try_in(1, "ping -n -c 1 -W 1 -I 10.77.0.2 100.96.0.1"));
}
