//! Devices with a TUN in network namespaces of their own: the kernel's ping, TCP, addresses, clean up.
//!
//! Needs root; otherwise says so and ends well. Has its own `main` because it runs itself again, as the
//! process inside a namespace.

mod host;
mod lab;
mod process;

use std::process::ExitCode;

use lab::{Lab, Underlay, key};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == process::ARGUMENT) {
        return process::run();
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Some(missing) = lab::missing() {
        println!("skipped: namespaces ({missing})");
        return ExitCode::SUCCESS;
    }
    let cases: [(&str, fn()); 12] = [
        ("kernel_traffic_over_ipv4", || kernel_traffic(Underlay::V4)),
        ("kernel_traffic_over_ipv6_only", || kernel_traffic(Underlay::V6)),
        ("a_hardened_process_pings_and_makes_no_other_address", a_hardened_process),
        ("a_new_table_changes_the_interface", a_new_table_changes_the_interface),
        ("a_prefix_behind_a_node_is_reached_through_it", a_prefix_behind_a_node_is_reached_through_it),
        ("a_lost_interface_ends_the_device", a_lost_interface_ends_the_device),
        ("the_network_of_the_host_keeps_its_part_of_a_pool", host::keeps_its_part),
        ("a_wider_route_and_two_halves_of_a_default_cut_nothing", host::wider_routes),
        ("without_ipv6_ipv4_works", host::without_ipv6),
        ("what_others_change_is_put_right_five_times", host::put_right),
        ("unreachable_routes_outlive_the_device", host::unreachable),
        ("neighbours_do_not_reach_overlay_addresses", host::neighbours),
    ];
    // As with the harness of other tests: arguments are parts of names.
    let named: Vec<&String> = arguments.iter().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_asked = |name: &str| named.is_empty() || named.iter().any(|part| name.contains(part.as_str()));
    for (name, case) in cases.into_iter().filter(|(name, _)| is_asked(name)) {
        case();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// Ping of the system, ping of the device, TCP with its content compared, foreign sources refused.
fn kernel_traffic(underlay: Underlay) {
    let lab = Lab::new(underlay);
    let (mut a, mut b) = (lab.start(0), lab.start(1));
    a.ask_ok(&lab.table(0));
    b.ask_ok(&lab.table(1));

    lab.run_in(0, "ping -n -c 3 -i 0.2 -W 20 100.96.0.2");
    lab.run_in(1, "ping -n -c 3 -i 0.2 -W 20 fd12:3456:789a::1");
    // Exactly the MTU: 1,280 = 20 + 8 + 1,252 and 40 + 8 + 1,232.
    lab.run_in(0, "ping -n -c 2 -i 0.2 -W 20 -M do -s 1252 100.96.0.2");
    lab.run_in(0, "ping -n -c 2 -i 0.2 -W 20 -M do -s 1232 fd12:3456:789a::2");
    for destination in ["100.96.0.2", "fd12:3456:789a::2"] {
        let rtt: u64 = a.ask(&format!("ping {destination}")).strip_prefix("rtt ").unwrap().parse().unwrap();
        assert!(rtt > 0);
        b.ask_ok(&format!("serve {destination}"));
        a.ask_ok(&format!("echo {destination} 3000000"));
    }
    assert_eq!(a.ask("ping 100.96.0.200"), "error link.peer_unknown");

    assert_eq!(a.ask("count bad_source"), "0");
    lab.run_in(0, "ip address add 100.96.0.99/32 dev rap0");
    assert!(!lab.try_in(0, "ping -n -c 1 -W 1 -I 100.96.0.99 100.96.0.2"));
    assert_eq!(a.ask("count bad_source"), "1", "an address that the table does not give may not be used");
    assert_eq!(b.ask("count bad_source"), "0");

    a.stop();
    assert!(!lab.try_in(0, "ip link show dev rap0"), "the interface went away");
    drop(b);
}

/// Without CAP_NET_RAW, where the kernel gives nobody an ICMP socket, and without a writable /proc/sys.
fn a_hardened_process() {
    let lab = Lab::new(Underlay::V4);
    let (mut a, mut b) = (lab.start_hardened(0), lab.start(1));
    a.ask_ok(&lab.table(0));
    b.ask_ok(&lab.table(1));
    let groups = lab.output_in(0, "cat /proc/sys/net/ipv4/ping_group_range");
    assert_eq!(groups.split_whitespace().collect::<Vec<_>>(), ["1", "0"], "nobody's");
    for destination in ["100.96.0.2", "fd12:3456:789a::2"] {
        let answer = a.ask(&format!("ping {destination}"));
        assert!(answer.starts_with("rtt "), "{destination}: {answer}");
        // The host's own pings are not taken for those of the process.
        lab.run_in(0, &format!("ping -n -c 2 -i 0.2 -W 20 {destination}"));
    }
    let shown = lab.output_in(0, "ip -o address show dev rap0");
    assert!(shown.contains("fd12:3456:789a::1/128") && !shown.contains("fe80"), "{shown}");
}

fn a_new_table_changes_the_interface() {
    let lab = Lab::new(Underlay::V4);
    let mut a = lab.start(0);
    a.ask_ok(&lab.table(0));
    let shown = lab.output_in(0, "ip -o address show dev rap0");
    assert!(shown.contains("100.96.0.1/32") && shown.contains("fd12:3456:789a::1/128"), "{shown}");
    assert!(!shown.contains("fe80"), "no link-local address: {shown}");
    assert!(lab.output_in(0, "ip link show dev rap0").contains("mtu 1280"));

    // Another address of the same pool, and a prefix outside it.
    let other = key(1);
    a.ask_ok(&format!(
        "table 100.96.0.7/16,fd12:3456:789a::7/48 {other}||100.96.0.2/32,10.9.0.0/24,fd99::/64"
    ));
    let shown = lab.output_in(0, "ip -o address show dev rap0");
    assert!(shown.contains("100.96.0.7/32") && shown.contains("fd12:3456:789a::7/128"), "{shown}");
    assert!(!shown.contains("100.96.0.1/") && !shown.contains("789a::1/"), "{shown}");
    let routes = lab.output_in(0, "ip route show dev rap0") + &lab.output_in(0, "ip -6 route show dev rap0");
    for route in ["100.96.0.0/16", "10.9.0.0/24", "fd12:3456:789a::/48", "fd99::/64"] {
        assert!(routes.contains(route), "{route} in {routes}");
    }

    // A route that the host has already: it stays the host's, everything else is applied.
    lab.run_in(0, "ip route add 10.8.0.0/24 dev lo scope link");
    a.ask_ok(&format!("table 100.96.0.8/16,fd12:3456:789a::7/48 {other}||10.7.0.0/24,10.8.0.0/24"));
    let shown = lab.output_in(0, "ip -o address show dev rap0");
    assert!(shown.contains("100.96.0.8/32") && !shown.contains("100.96.0.7"), "{shown}");
    let routes = lab.output_in(0, "ip route show dev rap0");
    assert!(routes.contains("10.7.0.0/24") && !routes.contains("10.8.0.0"), "{routes}");
    assert!(!routes.contains("10.9.0.0"), "{routes}");
    assert!(lab.output_in(0, "ip route show dev lo").contains("10.8.0.0/24"));
    assert_eq!(
        a.ask("findings"),
        "overlay.host_conflict:10.8.0.0/24 of the overlay is routed by this host: the route 10.8.0.0/24"
    );

    a.ask_ok("table 100.96.0.7/16");
    let routes = lab.output_in(0, "ip route show dev rap0") + &lab.output_in(0, "ip -6 route show dev rap0");
    assert!(!routes.contains("10.9.0.0") && !routes.contains("fd99"), "{routes}");
    assert!(!lab.output_in(0, "ip -o address show dev rap0").contains("fd12"));
}

/// The kernel forwards what the device hands it: here to an address on the loopback interface.
fn a_prefix_behind_a_node_is_reached_through_it() {
    let lab = Lab::new(Underlay::V4);
    let (mut a, mut b) = (lab.start(0), lab.start(1));
    lab.run_in(0, "ip address add 10.50.0.9/32 dev lo");
    let behind = |table: String, from: &str, to: &str| table.replacen(from, to, 1);
    let own = lab.table(0);
    b.ask_ok(&behind(lab.table(1), "100.96.0.1/32", "100.96.0.1/32,10.50.0.0/24"));
    a.ask_ok(&own);
    assert!(!lab.try_in(1, "ping -n -c 1 -W 1 10.50.0.9"));
    assert_eq!(a.ask("count bad_destination"), "1");
    a.ask_ok(&behind(own, "fd12:3456:789a::1/48", "fd12:3456:789a::1/48;10.50.0.0/24"));
    lab.run_in(1, "ping -n -c 3 -i 0.2 -W 20 10.50.0.9");
    // The answers have a forwarded prefix as their source, and so has what that host sends itself.
    lab.run_in(0, "ping -n -c 2 -i 0.2 -W 20 -I 10.50.0.9 100.96.0.2");
    assert_eq!((a.ask("count bad_source"), b.ask("count bad_source")), ("0".to_owned(), "0".to_owned()));
}

fn a_lost_interface_ends_the_device() {
    let lab = Lab::new(Underlay::V4);
    let mut a = lab.start(0);
    a.ask_ok(&lab.table(0));
    lab.run_in(0, "ip link delete rap0");
    let failure = a.ask("ended");
    assert_eq!(failure, "failed interface rap0 is gone");
    assert_eq!(a.ask(&lab.table(0)), "error dataplane.unavailable");
}
