//! Faults of wires: a host without carrier, two hosts of which one or both do not hear the other, or hear a part. Owns the
//! packet-filter table `raplab` in the switch namespace.

use anyhow::{Result, ensure};

use crate::network::{SWITCH, ip, nft, port};
use crate::run_id::RunId;

/// Takes a host's carrier away.
pub fn unplug(run: &RunId, host: &str) -> Result<()> {
    ip(&["-n", &run.namespace(SWITCH), "link", "set", &port(host), "down"])
}

/// Gives it back.
pub fn plug(run: &RunId, host: &str) -> Result<()> {
    ip(&["-n", &run.namespace(SWITCH), "link", "set", &port(host), "up"])
}

/// Which frames between two hosts are dropped, without a word to either.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drops {
    /// Those of both.
    Both,
    /// Those that the first one sends.
    OneWay,
    /// This share of those of both, 0 to 1.
    Share(f64),
}

/// Drops frames between two hosts. What was dropped between them before counts too.
pub fn separate(run: &RunId, one: &str, other: &str, drops: Drops) -> Result<()> {
    if let Drops::Share(share) = drops {
        ensure!((0.0..=1.0).contains(&share), "a share is 0 to 1, not {share}");
    }
    let mut rules =
        format!("table bridge {TABLE} {{ chain {CHAIN} {{ type filter hook forward priority 0; }}; }}\n");
    // Who may not answer still tells its hardware address: else the other direction would end as well.
    let some = match drops {
        Drops::Both => String::new(),
        Drops::OneWay => "ether type != arp ".to_owned(),
        Drops::Share(share) => format!("numgen random mod 1000 < {:.0} ", share * 1000.0),
    };
    let both = [(one, other), (other, one)];
    for (from, to) in &both[..if drops == Drops::OneWay { 1 } else { 2 }] {
        let (from, to, label) = (port(from), port(to), label(one, other));
        rules.push_str(&format!(
            "add rule bridge {TABLE} {CHAIN} iifname \"{from}\" oifname \"{to}\" {some}drop comment {label}\n"
        ));
    }
    nft(&run.namespace(SWITCH), &[&rules]).map(drop)
}

/// Ends what [`separate`] did to two hosts.
pub fn join(run: &RunId, one: &str, other: &str) -> Result<()> {
    let switch = run.namespace(SWITCH);
    let Ok(rules) = nft(&switch, &["-a", "list", "chain", "bridge", TABLE, CHAIN]) else { return Ok(()) };
    for handle in rule_handles(&rules, &label(one, other)) {
        nft(&switch, &["delete", "rule", "bridge", TABLE, CHAIN, "handle", &handle])?;
    }
    Ok(())
}

/// The same for a pair in either order; nft takes it in quotes.
fn label(one: &str, other: &str) -> String {
    let (first, second) = if one <= other { (one, other) } else { (other, one) };
    format!("\"cut {first} {second}\"")
}

fn rule_handles(rules: &str, label: &str) -> Vec<String> {
    let lines = rules.lines().filter(|line| line.contains(label));
    lines
        .filter_map(|line| line.rsplit_once("# handle ").map(|(_, handle)| handle.trim().to_owned()))
        .collect()
}

const TABLE: &str = "raplab";
const CHAIN: &str = "cuts";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pairs_own_rules_are_removed() {
        let rules = "\tiifname \"p-a\" oifname \"p-b\" drop comment \"cut a b\" # handle 3\n\tiifname \"p-a\" oifname \"p-c\" drop comment \"cut a c\" # handle 5\n";
        assert_eq!(rule_handles(rules, &label("b", "a")), ["3"]);
        assert_eq!(rule_handles(rules, &label("c", "a")), ["5"]);
        assert_eq!(rule_handles(rules, &label("b", "c")), Vec::<String>::new());
    }
}
