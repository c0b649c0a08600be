//! `peers`: by which way traffic to each peer goes.

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_types::ExitCode;
use serde_json::{Value, json};

use super::print::{list, print_status, text, through};
use crate::config::Config;

/// Prints the peers. Exit 0, 6 not running.
pub(super) async fn run(config: &Config, form: Format) -> Result<ExitCode, Fault> {
    print_status(config, form, "peers", document, line).await
}

/// The peers of every membership in a status.
fn document(status: &Value) -> Value {
    let one = std::slice::from_ref(status);
    let memberships = status["memberships"].as_array().map_or(one, Vec::as_slice);
    let peers = memberships.iter().flat_map(|status| {
        ["active", "warm"].into_iter().flat_map(|tier| list(&status["peers"][tier])).map(|peer| {
            let link = list(&status["links"]).iter().find(|link| link["peer"] == peer["node_id"]);
            let mut peer = peer.clone();
            peer["membership"] = status["membership"].clone();
            peer["link"] = link.map_or(Value::Null, |link| link["state"].clone());
            peer
        })
    });
    json!({ "schema": "rap.peers.v1", "peers": peers.collect::<Vec<_>>() })
}

fn line(peer: &Value) -> String {
    let (name, address, link) = (text(&peer["name"]), text(&peer["overlay_ipv4"]), text(&peer["link"]));
    let way = match through(peer).strip_prefix(", ") {
        Some(way) => way.to_owned(),
        // Nothing was sent: whether a way works is not known.
        None if peer["tx_bytes"].as_u64().unwrap_or_default() == 0 => "idle".to_owned(),
        None => "no way".to_owned(),
    };
    if peer["way"] == "relayed" && link == "closed" {
        return format!("{name:<20} {address:<15} {way}");
    }
    format!("{name:<20} {address:<15} {way}, link {link}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_way_and_its_link() {
        let status = json!({
            "membership": "default",
            "peers": {
                "active": [{ "node_id": "x", "name": "r", "overlay_ipv4": "100.96.0.2", "way": "direct" }],
                "warm": [
                    { "node_id": "y", "name": "b", "overlay_ipv4": "100.96.0.3", "way": "relayed", "via": [{ "name": "r" }] },
                    { "node_id": "z", "name": "c", "overlay_ipv4": "100.96.0.4", "way": null, "tx_bytes": 148 },
                    { "node_id": "u", "name": "d", "overlay_ipv4": "100.96.0.5", "way": null, "tx_bytes": 0 },
                    { "node_id": "v", "name": "e", "overlay_ipv4": "100.96.0.6", "way": "direct", "unanswered_ms": 42_000, "way_ms": 60_000, "way_before": "through r" },
                ],
            },
            "links": [{ "peer": "x", "state": "established" }],
        });
        let several = json!({ "memberships": [status, status] });
        assert_eq!(document(&several)["peers"].as_array().unwrap().len(), 10);
        let lines: Vec<String> = list(&document(&status)["peers"]).iter().map(line).collect();
        let ends = [
            "direct, link established",
            "through r, link -",
            "no way, link -",
            "idle, link -",
            "direct for 60 s (before: through r), no answer for 42 s, link -",
        ];
        for (line, end) in lines.iter().zip(ends) {
            assert!(line.ends_with(end), "{line}");
        }
    }
}
