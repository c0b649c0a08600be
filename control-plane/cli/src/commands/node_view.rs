//! Nodes and pending requests as they are shown: tables and JSON.

use std::collections::BTreeMap;

use rap_types::{JoinRequestId, KeyId, NodeId};
use rap_wire::v1;
use serde_json::{Value, json};

use crate::output::{Answer, id_text, time};

pub(super) fn pending_answer(pending: &[v1::PendingNode]) -> Answer {
    let rows = pending.iter().map(|request| {
        [
            request_id(request),
            if request.refused.is_empty() { &request.name } else { &request.refused }.clone(),
            fingerprint(&request.node_public_key),
            request.source.clone(),
            time(request.requested_at_ms),
            request.roles.join(","),
        ]
    });
    let document = |request: &v1::PendingNode| {
        json!({
            "request_id": request_id(request), "name": request.name, "refused": request.refused,
            "node_fingerprint": fingerprint(&request.node_public_key),
            "source": request.source, "requested_at_ms": request.requested_at_ms, "roles": request.roles,
        })
    };
    Answer::list("rap.pending.v1", "pending", pending, document).table(
        ["REQUEST", "NAME", "FINGERPRINT", "SOURCE", "REQUESTED", "ROLES"],
        1,
        rows,
    )
}

pub(super) fn nodes_answer(nodes: &[v1::Node]) -> Answer {
    let rows = nodes.iter().map(|node| {
        [
            if node.refused.is_empty() { node.name.clone() } else { id(node) },
            status(node),
            contact(node).to_owned(),
            node.overlay_ipv4.clone(),
            node.roles.join(","),
            node.acked_version.to_string(),
            id(node),
            node.overlay_ipv6.clone(),
            node.agent_version.clone(),
        ]
    });
    let headers = ["NAME", "STATUS", "CONTACT", "IPV4", "ROLES", "VERSION", "ID", "IPV6", "AGENT"];
    Answer::list("rap.nodes.v1", "nodes", nodes, document).table(headers, 3, rows)
}

pub(super) fn request_id(request: &v1::PendingNode) -> String {
    id_text(JoinRequestId::from_slice(&request.request_id))
}

/// Whether a node has a stream, and whether that is to the replica that was asked.
fn contact(node: &v1::Node) -> &'static str {
    match (node.connected, node.elsewhere) {
        (true, true) => "another replica",
        (true, false) => "connected",
        (false, _) => "offline",
    }
}

/// The status, and why a node is gone; that its row does not hold, if so.
fn status(node: &v1::Node) -> String {
    if !node.refused.is_empty() {
        return node.refused.clone();
    }
    if !node.doubt.is_empty() {
        return format!("{} ({})", node.identity_status, node.doubt);
    }
    match node.revocation.as_str() {
        "" | "left" => node.identity_status.clone(),
        kind => format!("{} ({kind})", node.identity_status),
    }
}

pub(super) fn shown(node: &v1::Node) -> Answer {
    let rows = vec![
        ("name", node.name.clone()),
        ("id", id(node)),
        ("status", status(node)),
        ("key generation", node.key_generation.to_string()),
        ("contact", contact(node).to_owned()),
        ("fingerprint", fingerprint(&node.node_public_key)),
        ("overlay", format!("{} {}", node.overlay_ipv4, node.overlay_ipv6)),
        ("roles", node.roles.join(",")),
        ("tags", node.tags.join(",")),
        ("region", node.region.clone()),
        ("link endpoints", node.link_endpoints.join(" ")),
        ("wireguard endpoints", node.wireguard_endpoints.join(" ")),
        ("acknowledged", node.acked_version.to_string()),
        ("last seen", time(node.last_seen_at_ms)),
        ("agent", node.agent_version.clone()),
        ("last reject", node.last_reject.clone()),
        ("links", links(node)),
        ("not used", unused(node)),
        ("data plane", node.dataplane_exit.as_ref().map(ended).unwrap_or_default()),
    ];
    let mut body = document(node);
    body["links"] = node.links.iter().map(link).collect();
    body["peer_heads"] = node.peer_heads.iter().map(head).collect();
    body["unused_slots"] = node.unused_slots.iter().map(unused_slot).collect();
    body["dataplane_exit"] = node.dataplane_exit.as_ref().map_or(Value::Null, |exit| {
        json!({ "at_ms": exit.at_ms, "status": exit.status, "reason": exit.reason, "text": exit.text })
    });
    if node.version > 0 {
        body["version"] = node.version.into();
    }
    // What a node has nothing of is no row.
    let told = rows.into_iter().filter(|(_, value)| !value.is_empty());
    Answer::new("rap.node.v1", body).properties(told)
}

pub(super) fn document(node: &v1::Node) -> Value {
    json!({
        "node_id": id(node), "name": node.name, "identity_status": node.identity_status,
        "node_fingerprint": fingerprint(&node.node_public_key), "connected": node.connected, "elsewhere": node.elsewhere,
        "overlay_ipv4": node.overlay_ipv4, "overlay_ipv6": node.overlay_ipv6, "roles": node.roles,
        "tags": node.tags, "region": node.region, "link_endpoints": node.link_endpoints,
        "wireguard_endpoints": node.wireguard_endpoints, "acked_version": node.acked_version,
        "last_seen_at_ms": node.last_seen_at_ms, "agent_version": node.agent_version,
        "last_reject": node.last_reject, "revocation": node.revocation,
        "key_generation": node.key_generation, "ephemeral": node.ephemeral, "refused": node.refused, "doubt": node.doubt,
    })
}

fn link(link: &v1::LinkReport) -> Value {
    json!({
        "peer": peer_of(link), "lane": lane(link), "state": link.state,
        "reason": link.reason, "rtt_us": link.rtt_us, "loss_ppm": link.loss_ppm, "samples": link.samples,
    })
}

fn head(head: &v1::PeerHeadReport) -> Value {
    json!({
        "peer": id_text(NodeId::from_slice(&head.peer)), "incarnation": head.incarnation,
        "version": head.version, "refresh": head.refresh,
    })
}

/// How many links are in which state: "2 established, 1 closed".
fn links(node: &v1::Node) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for link in &node.links {
        *states.entry(&link.state).or_default() += 1;
    }
    states.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

fn unused_slot(unused: &v1::UnusedSlot) -> Value {
    json!({ "slot": unused.slot, "reason": unused.reason, "text": unused.what })
}

/// What of its snapshot the node does not use: "peer/<id>: an overlay address is outside the cluster's pools".
fn unused(node: &v1::Node) -> String {
    let one = |unused: &v1::UnusedSlot| format!("{}: {}", unused.slot, unused.what);
    node.unused_slots.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// How the data plane last ended, with the time.
fn ended(exit: &v1::DataplaneExit) -> String {
    let fault =
        if exit.reason.is_empty() { String::new() } else { format!(": [{}] {}", exit.reason, exit.text) };
    let status = if exit.status.is_empty() { "status not known" } else { &exit.status };
    format!("ended {} ({status}){fault}", time(exit.at_ms))
}

fn lane(link: &v1::LinkReport) -> &'static str {
    match link.lane() {
        v1::LinkLane::B => "b",
        v1::LinkLane::C => "c",
        v1::LinkLane::A | v1::LinkLane::Unspecified => "a",
    }
}

/// Id of the peer of a link.
pub(super) fn peer_of(link: &v1::LinkReport) -> String {
    id_text(NodeId::from_slice(&link.peer))
}

pub(super) fn id(node: &v1::Node) -> String {
    id_text(NodeId::from_slice(&node.node_id))
}

pub(super) fn fingerprint(key: &[u8]) -> String {
    if key.is_empty() { "-".to_owned() } else { KeyId::of(key).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_counted_by_state_and_an_end_says_what_is_known() {
        let link = |state: &str| v1::LinkReport { state: state.into(), ..Default::default() };
        let all = vec![link("established"), link("closed"), link("established")];
        assert_eq!(links(&v1::Node { links: all, ..Default::default() }), "1 closed, 2 established");
        let exit = v1::DataplaneExit { at_ms: 1_700_000_000_000, ..Default::default() };
        assert!(ended(&exit).ends_with("(status not known)"), "{}", ended(&exit));
        let (status, reason, text) = ("exit status: 1".into(), "dataplane.busy".into(), "locked".into());
        let exit = v1::DataplaneExit { status, reason, text, ..exit };
        assert!(ended(&exit).ends_with("(exit status: 1): [dataplane.busy] locked"), "{}", ended(&exit));
    }
}
