//! Sites: networks behind a router that translates addresses, each new connection to another port. Owns the router's bridge,
//! its translation and packet filter (tables `raplab`), and lines between two sites.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::network::{BRIDGE, INTERFACE, ip, nft, port, run};
use crate::run_id::RunId;

/// Makes a host the router of a network of its own. What its network asks for goes out from another port for each
/// destination, answers come back, and nothing else comes in.
pub fn make_router(run: &RunId, router: &str, outside: Ipv4Addr) -> Result<()> {
    let namespace = run.namespace(router);
    ip(&["-n", &namespace, "link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["-n", &namespace, "address", "add", &format!("{}/24", address(outside, 1)), "dev", BRIDGE])?;
    ip(&["-n", &namespace, "link", "set", BRIDGE, "up"])?;
    let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
    self::run("ip", &["netns", "exec", &namespace, "sh", "-c", forward])?;
    let rules = format!(
        "table ip {TABLE} {{
           counter outside {{}}
           counter line {{}}
           chain translate {{ type nat hook postrouting priority srcnat; oifname {INTERFACE} masquerade fully-random; }}
           chain heard {{ type filter hook prerouting priority raw; iifname {LINE} meta l4proto udp counter name line; }}
           chain pass {{
             type filter hook forward priority filter; policy drop;
             ct state established,related accept
             iifname {BRIDGE} accept
             iifname {LINE} accept
           }}
           chain own {{ type filter hook input priority filter; policy drop; iifname != {INTERFACE} accept; ct state established,related accept; }}
         }}"
    );
    nft(&namespace, &[&rules]).map(drop)
}

/// Makes a host's namespace and plugs it into a router's network.
pub fn make_host(
    run: &RunId,
    router: &str,
    host: &str,
    (outside, inside): (Ipv4Addr, Ipv4Addr),
) -> Result<()> {
    let (router, namespace, port) = (run.namespace(router), run.namespace(host), port(host));
    ip(&["netns", "add", &namespace])?;
    ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
    ip(&[
        "-n", &router, "link", "add", &port, "type", "veth", "peer", "name", INTERFACE, "netns", &namespace,
    ])?;
    ip(&["-n", &router, "link", "set", &port, "master", BRIDGE, "up"])?;
    ip(&["-n", &namespace, "address", "add", &format!("{inside}/24"), "dev", INTERFACE])?;
    ip(&["-n", &namespace, "link", "set", INTERFACE, "up"])?;
    ip(&["-n", &namespace, "route", "add", "default", "via", &address(outside, 1).to_string()])
}

/// Counts from now on the UDP packets that reach a router from `other`, the outside address of another router.
pub fn count_from(run: &RunId, router: &str, other: Ipv4Addr) -> Result<()> {
    let other = other.to_string();
    let rule = ["add", "rule", "ip", TABLE, "heard", "iifname", INTERFACE, "meta", "l4proto", "udp"];
    let counted = ["ip", "saddr", &other, "counter", "name", "outside"];
    nft(&run.namespace(router), &[&rule[..], &counted].concat()).map(drop)
}

/// UDP packets that reached a router from another one: from outside, and over a line.
pub fn udp_heard(run: &RunId, router: &str) -> Result<[u64; 2]> {
    let namespace = run.namespace(router);
    let count = |name: &str| -> Result<u64> {
        Ok(number(&nft(&namespace, &["list", "counter", "ip", TABLE, name])?, "packets"))
    };
    Ok([count("outside")?, count("line")?])
}

/// Counts from now on what comes to a host over TCP connections of which this is the port of either end.
pub fn count_port(run: &RunId, host: &str, port: u16) -> Result<()> {
    let rules = format!(
        "table ip {TABLE} {{
           counter heard {{}}
           chain heard {{ type filter hook prerouting priority raw; tcp dport {port} counter name heard; tcp sport {port} counter name heard; }}
         }}"
    );
    nft(&run.namespace(host), &[&rules]).map(drop)
}

/// Bytes that came over them.
pub fn bytes_to(run: &RunId, host: &str) -> Result<u64> {
    let text = nft(&run.namespace(host), &["list", "counter", "ip", TABLE, "heard"])?;
    Ok(number(&text, "bytes"))
}

/// A line between two routers: each reaches the other's network over it, without translation.
pub fn lay_line(run: &RunId, one: (&str, Ipv4Addr), other: (&str, Ipv4Addr)) -> Result<()> {
    let (first, second) = (run.namespace(one.0), run.namespace(other.0));
    ip(&["-n", &first, "link", "add", LINE, "type", "veth", "peer", "name", LINE, "netns", &second])?;
    for (namespace, own, far, to) in [(&first, 1, 2, other.1), (&second, 2, 1, one.1)] {
        ip(&["-n", namespace, "address", "add", &format!("10.76.0.{own}/30"), "dev", LINE])?;
        ip(&["-n", namespace, "link", "set", LINE, "up"])?;
        let network = format!("{}/24", address(to, 0));
        ip(&["-n", namespace, "route", "add", &network, "via", &format!("10.76.0.{far}")])?;
    }
    Ok(())
}

/// Takes the line of a router away, at both ends.
pub fn take_line(run: &RunId, one: &str) -> Result<()> {
    ip(&["-n", &run.namespace(one), "link", "delete", LINE])
}

/// Address number `host` of the network behind the router with this outside address.
pub fn address(outside: Ipv4Addr, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, outside.octets()[3], host)
}

/// Whether an address is in the network behind that router.
pub fn is_behind(outside: Ipv4Addr, address: Ipv4Addr) -> bool {
    address.octets()[..3] == self::address(outside, 0).octets()[..3]
}

fn number(text: &str, of: &str) -> u64 {
    let number = text.split_once(&format!("{of} ")).and_then(|(_, rest)| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

const TABLE: &str = "raplab";
const LINE: &str = "line";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_router_has_a_network_of_its_own() {
        let (one, other) = (Ipv4Addr::new(10, 77, 0, 4), Ipv4Addr::new(10, 77, 0, 5));
        assert_eq!(address(one, 2), Ipv4Addr::new(10, 78, 4, 2));
        assert!(is_behind(one, address(one, 9)) && !is_behind(one, address(other, 9)));
    }

    #[test]
    fn a_counter_is_read() {
        let text = "table ip raplab {\n\tcounter outside {\n\t\tpackets 12 bytes 99\n\t}\n}";
        assert_eq!((number(text, "packets"), number(text, "bytes"), number("", "bytes")), (12, 99, 0));
    }
}
