//! Peers, links and routes in the status document.
//!
//! Owns their fields. Refuses to own facts: it reads the snapshot and the data plane's last report.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_node::{Node, Relays, WayChange};
use rap_trust::PermittedPeer;
use rap_types::{NodeId, Now, Wall};
use rap_wire::v1;
use serde_json::{Value, json};

use super::paths::{decided, relay_document};

/// Active: the link is established. Warm: known and not connected now. Cold: bootstrap peers, of which
/// there are none yet.
///
/// A peer that a break-glass grant admits has the end of the permit. One whose record makes no sense is not here.
pub(super) fn peers(node: &Node, now: Now) -> Value {
    let (mut connected, mut warm) = (Vec::new(), Vec::new());
    let admitted = node.permitted(now);
    for (id, record, admitted_until) in known(node, &admitted) {
        let stats = peer_stats(node, id);
        let taken = node.ways().way(id, now.mono);
        let entry = json!({
            "node_id": id,
            "name": record.name,
            "roles": record.roles,
            "region": record.region,
            "overlay_ipv4": record.overlay_ipv4,
            "overlay_ipv6": record.overlay_ipv6,
            "link_endpoints": record.link_endpoints,
            "wireguard_endpoints": record.wireguard_endpoints,
            "way": way(stats),
            "via": via(node, stats),
            "way_ms": taken.map(|(lasts, _)| lasts.as_millis() as u64),
            "way_before": taken.and_then(|(_, before)| before).map(|relays| way_in_words(node, relays)),
            "unanswered_ms": node.ways().unanswered(id, now.mono).map(|lasts| lasts.as_millis() as u64),
            "bulk_congestion": stats.map(|stats| &stats.bulk_congestion),
            "wireguard_endpoint": stats.map(|stats| &stats.wireguard_endpoint),
            "handshake_age_ms": stats.map(|stats| stats.handshake_age_ms),
            "rx_bytes": stats.map(|stats| stats.rx_bytes),
            "tx_bytes": stats.map(|stats| stats.tx_bytes),
            "admitted_until_ms": admitted_until,
        });
        let established = stats.is_some_and(|stats| stats.link_state == "established");
        if established { connected.push(entry) } else { warm.push(entry) }
    }
    json!({ "active": connected, "warm": warm, "cold": [] })
}

/// Every peer that is used: id, record, and the end of the permit for one that only a grant admits.
fn known<'a>(
    node: &'a Node,
    admitted: &'a [PermittedPeer],
) -> impl Iterator<Item = (NodeId, &'a v1::PeerRecord, Option<Wall>)> {
    let members = node.sense().into_iter().flat_map(|sense| sense.peers());
    let members = members.map(|(id, record)| (id, &**record, None));
    let strangers = admitted.iter().filter_map(move |peer| {
        let id = NodeId::from_slice(&peer.record.node_id).ok()?;
        let member = node.sense().is_some_and(|sense| sense.peer(id).is_some());
        (!member).then_some((id, &peer.record, Some(peer.until)))
    });
    members.chain(strangers)
}

pub(super) fn links(node: &Node, now: Now) -> Value {
    let admitted = node.permitted(now);
    let records: BTreeMap<NodeId, &v1::PeerRecord> =
        known(node, &admitted).map(|(id, record, _)| (id, record)).collect();
    let links = node.stats().peers.iter().filter_map(|stats| {
        let id = NodeId::from_slice(&stats.node_id).ok()?;
        let record = records.get(&id)?;
        let measured = node.observations().measured(id);
        let why = node.observations().why(id);
        Some(json!({
            "peer": id,
            "name": record.name,
            "class": "direct",
            "hops": 1,
            "generation": record.key_generation,
            "state": stats.link_state,
            "reason": if stats.link_reason.is_empty() { why } else { &stats.link_reason },
            "down_ms": node.links().down_for(id, now.mono).map(|lasts| lasts.as_millis() as u64),
            "rtt_us": stats.link_rtt_ns / 1000,
            "rtt_median_us": measured.map(|measured| measured.rtt_median_us),
            "loss_ppm": measured.map(|measured| measured.loss_ppm),
            "peer_version": node.observations().head(id).map(|order| order.version),
        }))
    });
    links.collect()
}

/// `direct` or `relayed`; null while the data plane uses no way.
fn way(stats: Option<&v1::PeerStats>) -> Option<&str> {
    stats.map(|stats| stats.way.as_str()).filter(|way| !way.is_empty())
}

/// The relays of the way that traffic to a peer takes, from this node on.
fn via(node: &Node, stats: Option<&v1::PeerStats>) -> Vec<Value> {
    let relays = stats.map(|stats| stats.via.as_slice()).unwrap_or_default();
    let sense = node.sense().map(|sense| &**sense);
    relays.iter().map(|relay| relay_document(sense, relay)).collect()
}

/// Name of a peer; its id if this node does not know it.
pub fn name_of(node: &Node, peer: NodeId) -> String {
    let record = node.sense().and_then(|sense| sense.peer(peer));
    record.map_or_else(|| peer.to_string(), |record| record.name.clone())
}

/// A way as people are told of it.
pub fn way_in_words(node: &Node, relays: &Relays) -> String {
    match relays.as_slice() {
        [] => "direct".to_owned(),
        relays => {
            let names: Vec<_> = relays.iter().map(|relay| name_of(node, *relay)).collect();
            format!("through {}", names.join(", "))
        }
    }
}

/// Why traffic takes another way, as far as this node sees it.
pub fn why_changed(node: &Node, change: &WayChange) -> String {
    let Some(relay) = change.from.first() else { return "nothing came directly".to_owned() };
    let link = peer_stats(node, *relay).filter(|stats| stats.link_state != "established");
    match link {
        Some(link) => {
            let why = Some(node.observations().why(*relay)).filter(|why| !why.is_empty());
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            format!("the link with {} is {}{why}", name_of(node, *relay), link.link_state)
        }
        None if change.to.is_empty() => "the direct way works".to_owned(),
        None => format!("{} stopped carrying it, or another relay is faster", name_of(node, *relay)),
    }
}

/// How each peer is reached.
pub(super) fn routes(node: &Node, now: Now) -> Value {
    let generation = node.snapshot().map(|snapshot| snapshot.parts().leaf.node_generation);
    let peers = node.sense().into_iter().flat_map(|sense| sense.peers());
    let routes = peers.map(|(id, record)| {
        let stats = peer_stats(node, id);
        let via = via(node, stats);
        let mut route = json!({
            "destination": id,
            "name": record.name,
            "prefixes": [format!("{}/32", record.overlay_ipv4), format!("{}/128", record.overlay_ipv6)],
            "class": way(stats).unwrap_or("direct"),
            "hops": via.len() + 1,
            "via": via,
            "generation": generation,
        });
        if let (Some(decision), Value::Object(route)) = (node.decision(id), &mut route) {
            route.extend(decided(node, &decision, now));
        }
        route
    });
    routes.collect()
}

fn peer_stats(node: &Node, id: NodeId) -> Option<&v1::PeerStats> {
    node.stats().peers.iter().find(|stats| stats.node_id == id.as_bytes())
}

/// How a person is told of the wanted links that are down for long: how many of how many, the first names, and why.
pub(super) fn links_down(node: &Node, now: Now) -> Option<String> {
    let down: Vec<_> = node.links().long_down(now.mono).collect();
    let one = |(peer, lasts): &(NodeId, Duration)| {
        let name = name_of(node, *peer);
        let why = match node.observations().why(*peer) {
            "" => "nothing was tried",
            why => why,
        };
        format!("{name} for {} s ({why})", lasts.as_secs())
    };
    let named: Vec<_> = down.iter().take(NAMED).map(one).collect();
    let more = match down.len().checked_sub(NAMED) {
        None | Some(0) => String::new(),
        Some(more) => format!(", and {more} more"),
    };
    (!down.is_empty()).then(|| {
        format!("{} of {} links are down: {}{more}", down.len(), node.links().wanted(), named.join(", "))
    })
}

/// Links that are down and named.
const NAMED: usize = 3;
