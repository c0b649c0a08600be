//! `status`: what the running agent says about itself.

use rap_runtime::Fault;
use rap_runtime::command_line::Format;
use rap_runtime::output::clean;
use rap_types::ExitCode;
use serde_json::{Value, json};

use super::print::{list, not_running, printed, text, through};
use crate::config::Config;
use crate::local::LocalClient;

/// Prints the status. Exit 0 healthy, 8 degraded, 6 not running.
pub(super) async fn run(config: &Config, form: Format) -> Result<ExitCode, Fault> {
    let Some(mut client) = LocalClient::open(&config.socket, config.asked()).await? else {
        let text = not_running(config);
        let document = json!({
            "schema": "rap.status.v1",
            "state": "not_running",
            "membership": config.membership_given.then_some(&config.membership),
            "socket": config.socket,
            "text": text,
        });
        if !printed(form, &document) {
            println!("{text}");
            eprintln!("next: systemctl start rap-node-agent, or rap-node-agent run");
        }
        return Ok(ExitCode::Unreachable);
    };
    let (document, degraded) = client.status().await?;
    if !printed(form, &document) {
        print!("{}", all_for_people(&document));
    }
    Ok(if degraded { ExitCode::Degraded } else { ExitCode::Ok })
}

/// One status, or one after the other.
fn all_for_people(document: &Value) -> String {
    match document["memberships"].as_array() {
        None => for_people(document),
        Some(all) => all.iter().map(for_people).collect::<Vec<_>>().join("\n"),
    }
}

fn for_people(status: &Value) -> String {
    let mut lines = Vec::new();
    let mut line = |label: &str, text: String| lines.push(format!("{label:<12} {text}\n"));
    let reasons: Vec<String> = list(&status["degraded_reasons"]).iter().map(text).collect();
    let why = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    line("state", format!("{}{why}", text(&status["state"])));
    if status["state"].as_str() == Some("stopped") {
        line("membership", text(&status["membership"]));
        line("why", text(&status["text"]));
        return lines.concat();
    }
    line("node", format!("{} {}", text(&status["node_name"]), text(&status["node_id"])));
    let overlay = &status["overlay"];
    if !overlay.is_null() {
        line("overlay", format!("{} {}", text(&overlay["ipv4"]), text(&overlay["ipv6"])));
    }
    line("cluster", format!("{} {}", text(&status["cluster_name"]), text(&status["cluster"])));
    line("authority", text(&status["authority_fingerprint"]));
    line("", text(&status["authority_words"]));
    line("", format!("authority record {}", text(&status["authority_sequence"])));
    line("agent", format!("{} (membership {})", text(&status["agent_version"]), text(&status["membership"])));
    let control = &status["control"];
    let contact = match (control["connected"].as_bool(), control["last_contact_ms_ago"].as_u64()) {
        (Some(true), Some(ago)) => format!("{}, heard {} ago", text(&control["url"]), duration(ago)),
        (_, Some(ago)) => format!("lost; last heard {} ago from {}", duration(ago), text(&control["url"])),
        _ => "none yet".to_owned(),
    };
    line("control", contact);
    let active = &status["active"];
    if active.is_null() {
        line("snapshot", "none yet".to_owned());
    } else {
        let order = format!("{}.{}.{}", active["incarnation"], active["sequence"], active["refresh"]);
        line(
            "snapshot",
            format!("{order}, {} slots, manifest {}", active["slots"], text(&active["manifest_digest"])),
        );
        let freshness = &status["freshness"];
        line("freshness", clock(freshness));
    }
    let dataplane = &status["dataplane"];
    let plane = if dataplane["up"].as_bool() == Some(true) {
        let tun = if dataplane["tun"].as_bool() == Some(true) {
            text(&dataplane["interface"])
        } else {
            "no TUN".into()
        };
        format!(
            "pid {}, {tun}, table {} of {}",
            dataplane["pid"], dataplane["table_applied"], dataplane["table_version"]
        )
    } else {
        format!("down: {}", text(&dataplane["last_error"]["text"]))
    };
    line("data plane", plane);
    for (tier, peers) in [("active", &status["peers"]["active"]), ("warm", &status["peers"]["warm"])] {
        for peer in list(peers) {
            let address = text(&peer["overlay_ipv4"]);
            let (way, link) = (through(peer), link_of(status, peer));
            line("peer", format!("{} {address} {tier}{way}{link}", text(&peer["name"])));
        }
    }
    for grant in list(&status["break_glass"]) {
        line("break-glass", super::break_glass::line(grant));
    }
    for warning in list(&status["warnings"]) {
        line("warning", format!("[{}] {}", text(&warning["reason"]), text(&warning["text"])));
    }
    lines.concat()
}

fn link_of(status: &Value, peer: &Value) -> String {
    let link = list(&status["links"]).iter().find(|link| link["peer"] == peer["node_id"]);
    let shown = link.map_or_else(String::new, |link| {
        let state = clean(link["state"].as_str().unwrap_or("-"));
        let reason = link["reason"].as_str().filter(|reason| !reason.is_empty() && state != "established");
        let reason = reason.map(|reason| format!(" [{}]", clean(reason))).unwrap_or_default();
        match link["rtt_us"].as_u64() {
            Some(rtt) if rtt > 0 => format!(", link {state} {:.2} ms{reason}", rtt as f64 / 1e3),
            _ => format!(", link {state}{reason}"),
        }
    });
    // Whom a relay reaches has no link of its own.
    if peer["way"] == "relayed" && link.is_none_or(|link| link["state"] == "closed") {
        return String::new();
    }
    let is_up = link.is_some_and(|link| link["state"] == "established");
    if is_up || !peer["way"].is_null() { shown } else { shown + why_not(status, peer) }
}

/// Why a peer without a link and without a way has none, as far as endpoints tell.
fn why_not(status: &Value, peer: &Value) -> &'static str {
    let dialled = |peer: &Value| !list(&peer["link_endpoints"]).is_empty();
    let is_relay =
        |peer: &Value| list(&peer["roles"]).iter().any(|role| role == "relay-node" || role == "core");
    let known = ["active", "warm"].iter().flat_map(|tier| list(&status["peers"][tier]));
    let relays = known.filter(|peer| is_relay(peer)).count() > 0;
    match (dialled(peer), status["overlay"]["inbound"] == true) {
        (true, _) => "",
        (false, false) if relays => ", no endpoint can be dialled and no relay of both is reached",
        (false, true) => ", it has no endpoint: this node waits for its dial",
        (false, false) => ", neither has an endpoint that the other can dial: --advertise on one, or a relay",
    }
}

fn clock(freshness: &Value) -> String {
    let until = |key: &str| freshness[key].as_i64().unwrap_or(0);
    let in_words = |ms: i64| match u64::try_from(ms) {
        Ok(ms) => format!("in {}", duration(ms)),
        Err(_) => format!("{} ago", duration(ms.unsigned_abs())),
    };
    match freshness["state"].as_str() {
        Some("fresh") => format!("fresh, ends {}", in_words(until("fresh_for_ms"))),
        Some("degraded") => format!(
            "DEGRADED {}; traffic goes on, ends {}",
            // Past: this is why it is degraded.
            format_args!("for {}", duration(until("fresh_for_ms").unsigned_abs())),
            in_words(until("degraded_for_ms"))
        ),
        _ => format!("EXPIRED {}; only the control plane is sought", in_words(until("degraded_for_ms"))),
    }
}

fn duration(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_for_people_says_why_and_how_long() {
        let status = json!({
            "state": "degraded", "degraded_reasons": ["snapshot.stale"], "node_name": "a\u{1b}[2J",
            "active": { "incarnation": 1, "sequence": 7, "refresh": 2, "slots": 5, "manifest_digest": "ab" },
            "freshness": { "state": "degraded", "fresh_for_ms": -61_000, "degraded_for_ms": 7_200_000 },
            "peers": {
                "active": [{ "node_id": "x", "name": "b", "overlay_ipv4": "100.96.0.2", "way": "direct" }],
                "warm": [
                    { "name": "c", "overlay_ipv4": "100.96.0.3", "way": "relayed", "via": [{ "name": "r" }] },
                    { "node_id": "y", "name": "d", "overlay_ipv4": "100.96.0.4", "link_endpoints": ["d:1"] },
                    { "name": "e", "overlay_ipv4": "100.96.0.5" },
                ],
            },
            "overlay": { "ipv4": "100.96.0.1/16", "ipv6": "fd00::1/48", "inbound": false },
            "links": [
                { "peer": "x", "state": "established", "rtt_us": 1500 },
                { "peer": "y", "state": "dialing", "reason": "link.refused" },
            ],
            "warnings": [{ "reason": "server.unreachable", "text": "no contact" }],
        });
        let text = for_people(&status);
        assert!(text.contains("overlay      100.96.0.1/16 fd00::1/48"), "{text}");
        assert!(text.contains("d 100.96.0.4 warm, link dialing [link.refused]\n"), "{text}");
        assert!(
            text.contains("e 100.96.0.5 warm, neither has an endpoint that the other can dial"),
            "{text}"
        );
        assert!(text.contains("degraded (snapshot.stale)"), "{text}");
        assert!(text.contains("DEGRADED for 61 s; traffic goes on, ends in 2 h"), "{text}");
        assert!(text.contains("b 100.96.0.2 active, direct, link established 1.50 ms"), "{text}");
        assert!(text.contains("c 100.96.0.3 warm, through r"), "{text}");
        assert!(text.contains("[server.unreachable] no contact"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
