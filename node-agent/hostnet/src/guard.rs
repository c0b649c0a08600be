//! The packet filter that keeps the overlay's addresses to the overlay interface.
//!
//! A host takes packets for any of its addresses on any of its interfaces. Without these rules a service that
//! listens on an overlay address is open to every neighbour of the host.

use std::fmt::Write as _;

use crate::applied::Applied;

/// The text that makes `nft -f` replace the table by one with the rules for what is applied, in one transaction.
/// `interface` is a checked interface name.
pub fn ruleset(table: &str, interface: &str, applied: &Applied) -> String {
    // Declared first, so that the removal never fails.
    let mut text = format!("table inet {table} {{}}\ndelete table inet {table}\ntable inet {table} {{\n");
    for (family, kind, is_v4) in [("ip", "ipv4_addr", true), ("ip6", "ipv6_addr", false)] {
        let pools = applied.routes.iter().filter(|route| route.addr().is_ipv4() == is_v4);
        set(&mut text, &format!("pools_{family}"), &format!("type {kind}; flags interval;"), pools);
        let own = applied.addresses.iter().filter(|address| address.is_ipv4() == is_v4);
        set(&mut text, &format!("own_{family}"), &format!("type {kind};"), own);
    }
    let others = format!("iifname != \"lo\" iifname != \"{interface}\"");
    text.push_str("  chain guard {\n    type filter hook prerouting priority raw; policy accept;\n");
    for family in ["ip", "ip6"] {
        let rules = [
            format!("{others} {family} daddr @pools_{family} fib daddr type local counter drop"),
            format!("{others} {family} saddr @pools_{family} counter drop"),
            format!(
                "iifname \"{interface}\" {family} daddr != @own_{family} fib daddr type local counter drop"
            ),
        ];
        for rule in rules {
            let _ = writeln!(text, "    {rule}");
        }
    }
    text.push_str("  }\n}\n");
    text
}

fn set<'a, T: ToString + 'a>(text: &mut String, name: &str, kind: &str, all: impl Iterator<Item = &'a T>) {
    let elements: Vec<String> = all.map(ToString::to_string).collect();
    // An empty list of elements does not parse.
    let elements = if elements.is_empty() {
        String::new()
    } else {
        format!(" elements = {{ {} }};", elements.join(", "))
    };
    let _ = writeln!(text, "  set {name} {{ {kind}{elements} }}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;

    fn applied(own: &[&str]) -> Applied {
        let own: Vec<IpNet> = own.iter().map(|text| text.parse().unwrap()).collect();
        Applied::of(&own, &[], [])
    }

    #[test]
    fn the_table_is_replaced_whole_and_names_what_is_applied() {
        let text = ruleset("rap_0", "rap0", &applied(&["100.96.0.5/16", "fd00::5/48"]));
        assert!(
            text.starts_with("table inet rap_0 {}\ndelete table inet rap_0\ntable inet rap_0 {\n"),
            "{text}"
        );
        for line in [
            "set pools_ip { type ipv4_addr; flags interval; elements = { 100.96.0.0/16 }; }",
            "set own_ip6 { type ipv6_addr; elements = { fd00::5 }; }",
            "iifname != \"lo\" iifname != \"rap0\" ip daddr @pools_ip fib daddr type local counter drop",
            "iifname != \"lo\" iifname != \"rap0\" ip6 saddr @pools_ip6 counter drop",
            "iifname \"rap0\" ip daddr != @own_ip fib daddr type local counter drop",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn a_family_without_anything_has_empty_sets() {
        let text = ruleset("rap_0", "rap0", &applied(&["100.96.0.5/16"]));
        assert!(text.contains("set pools_ip6 { type ipv6_addr; flags interval; }"), "{text}");
    }
}
