//! Cuts: a host without carrier, or two hosts that do not hear each other. Owns the packet-filter table `raplab` in the switch
//! namespace.

use anyhow::Result;

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

/// Drops every frame between two hosts, both ways, without a word to either.
pub fn separate(run: &RunId, one: &str, other: &str) -> Result<()> {
    let switch = run.namespace(SWITCH);
    nft(&switch, &["add", "table", "bridge", TABLE])?;
    nft(&switch, &["add", "chain", "bridge", TABLE, CHAIN, "{ type filter hook forward priority 0 ; }"])?;
    for (from, to) in [(one, other), (other, one)] {
        let (from, to, label) = (port(from), port(to), label(one, other));
        nft(
            &switch,
            &[
                "add", "rule", "bridge", TABLE, CHAIN, "iifname", &from, "oifname", &to, "drop", "comment",
                &label,
            ],
        )?;
    }
    Ok(())
}

/// Ends the cut between two hosts.
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
