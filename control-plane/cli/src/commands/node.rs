//! Nodes and the requests of hosts that want to become nodes.

use rap_rpc::Refusal;
use rap_runtime::Fault;
use rap_types::{JoinRequestId, KeyId, NodeId, Reason};
use rap_wire::v1;
use serde_json::{Value, json};

use super::membership;
use crate::args::{Decide, Global, Node as Command};
use crate::client::Connection;
use crate::files;
use crate::output::{Answer, all_hold, clean, complain, confirm, properties, time};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    match command {
        Command::List { cluster, pending: true, .. } => {
            let pending = pending(&mut connection, &cluster).await?;
            pending_answer(&pending).print(global)?;
            all_hold(pending.iter().filter(|one| !one.refused.is_empty()).map(request_id))
        }
        Command::List { cluster, pending: false, all } => {
            let request = connection.request(v1::NodeListRequest { cluster, pending: false })?;
            let nodes = connection.admin.node_list(request).await.map_err(Refusal::from)?.into_inner().nodes;
            let present = |node: &v1::Node| !["revoked", "left"].contains(&node.identity_status.as_str());
            let shown: Vec<v1::Node> = nodes.into_iter().filter(|node| all || present(node)).collect();
            nodes_answer(&shown).print(global)?;
            all_hold(shown.iter().filter(|node| !node.refused.is_empty()).map(id))
        }
        Command::Revoke(revoke) => membership::revoke(global, &mut connection, revoke).await,
        Command::Revocations { cluster } => membership::revocations(global, &mut connection, cluster).await,
        Command::Show { node, cluster } => {
            let request = connection.request(v1::NodeRef { cluster, node })?;
            shown(&connection.admin.node_show(request).await.map_err(Refusal::from)?.into_inner())
                .print(global)
        }
        Command::Approve { decide, keep_id } => {
            let Some(request_ids) = chosen(global, &mut connection, &decide, "Approve").await? else {
                return Ok(());
            };
            let request = connection.request(v1::NodeDecideRequest {
                cluster: decide.cluster,
                request_ids,
                reason: String::new(),
                keep_ids: keep_id,
            })?;
            let answer = connection.admin.node_approve(request).await.map_err(Refusal::from)?.into_inner();
            nodes_answer(&answer.nodes).next("rapctl ping A B").print(global)
        }
        Command::Deny { decide, reason } => {
            let Some(request_ids) = chosen(global, &mut connection, &decide, "Deny").await? else {
                return Ok(());
            };
            let request = connection.request(v1::NodeDecideRequest {
                cluster: decide.cluster,
                request_ids,
                reason,
                keep_ids: false,
            })?;
            let answer = connection.admin.node_deny(request).await.map_err(Refusal::from)?.into_inner();
            pending_answer(&answer.decided).print(global)
        }
        Command::Update { node, cluster, roles, tags, clear_tags, region } => {
            let request = connection.request(v1::NodeUpdateRequest {
                cluster,
                node,
                set_roles: roles.is_some(),
                roles: roles.unwrap_or_default(),
                set_tags: clear_tags || tags.is_some(),
                tags: tags.unwrap_or_default(),
                set_region: region.is_some(),
                region: region.unwrap_or_default(),
            })?;
            shown(&connection.admin.node_update(request).await.map_err(Refusal::from)?.into_inner())
                .print(global)
        }
        Command::Export { node, cluster, out, force } => {
            let request = connection.request(v1::NodeRef { cluster, node })?;
            let export =
                connection.admin.node_export(request).await.map_err(Refusal::from)?.into_inner().export;
            files::write(&out, &export, force)?;
            Answer::new("rap.export.v1", json!({ "file": out, "bytes": export.len() }))
                .table(&["PROPERTY", "VALUE"], 0, properties(&[("file", out.display().to_string())]))
                .next(format!("rapctl verify {} --root product-root.pub", out.display()))
                .print(global)
        }
    }
}

async fn pending(connection: &mut Connection, cluster: &str) -> anyhow::Result<Vec<v1::PendingNode>> {
    let request = connection.request(v1::NodeListRequest { cluster: cluster.to_owned(), pending: true })?;
    Ok(connection.admin.node_list(request).await.map_err(Refusal::from)?.into_inner().pending)
}

/// The request ids a decision is about; `None` if the operator said no.
async fn chosen(
    global: &Global,
    connection: &mut Connection,
    decide: &Decide,
    verb: &str,
) -> anyhow::Result<Option<Vec<Vec<u8>>>> {
    if !decide.all_pending {
        let parse = |text: &String| {
            let id: JoinRequestId = text.parse().map_err(|_| {
                Fault::new(Reason::RequestInvalid, format!("`{text}`: a request id is a UUID"))
            })?;
            Ok::<_, Fault>(id.to_vec())
        };
        return Ok(Some(decide.requests.iter().map(parse).collect::<Result<_, _>>()?));
    }
    let mut pending = pending(connection, &decide.cluster).await?;
    for request in pending.extract_if(.., |request| !request.refused.is_empty()) {
        complain(&format!("{}  {}: left out", request_id(&request), request.refused));
    }
    if pending.is_empty() {
        return Err(Fault::new(Reason::ResourceNotFound, "no request waits for approval").into());
    }
    for request in &pending {
        complain(&format!(
            "{}  {}  {}",
            clean(&request.name),
            fingerprint(&request.node_public_key),
            clean(&request.source)
        ));
    }
    confirm(global, &format!("{verb} {} request(s)?", pending.len()))?;
    Ok(Some(pending.into_iter().map(|request| request.request_id).collect()))
}

fn pending_answer(pending: &[v1::PendingNode]) -> Answer {
    let rows = pending
        .iter()
        .map(|request| {
            vec![
                request_id(request),
                if request.refused.is_empty() { &request.name } else { &request.refused }.clone(),
                fingerprint(&request.node_public_key),
                request.source.clone(),
                time(request.requested_at_ms),
                request.roles.join(","),
            ]
        })
        .collect();
    let documents: Vec<Value> = pending
        .iter()
        .map(|request| {
            json!({
                "request_id": request_id(request), "name": request.name, "refused": request.refused,
                "node_fingerprint": fingerprint(&request.node_public_key),
                "source": request.source, "requested_at_ms": request.requested_at_ms, "roles": request.roles,
            })
        })
        .collect();
    Answer::new("rap.pending.v1", json!({ "pending": documents })).table(
        &["REQUEST", "NAME", "FINGERPRINT", "SOURCE", "REQUESTED", "ROLES"],
        1,
        rows,
    )
}

fn nodes_answer(nodes: &[v1::Node]) -> Answer {
    let rows = nodes
        .iter()
        .map(|node| {
            vec![
                if node.refused.is_empty() { node.name.clone() } else { id(node) },
                status(node),
                if node.connected { "connected" } else { "offline" }.to_owned(),
                node.overlay_ipv4.clone(),
                node.roles.join(","),
                node.acked_version.to_string(),
                id(node),
                node.overlay_ipv6.clone(),
                node.agent_version.clone(),
            ]
        })
        .collect();
    let documents: Vec<Value> = nodes.iter().map(document).collect();
    let headers = &["NAME", "STATUS", "CONTACT", "IPV4", "ROLES", "VERSION", "ID", "IPV6", "AGENT"];
    Answer::new("rap.nodes.v1", json!({ "nodes": documents })).table(headers, 3, rows)
}

fn request_id(request: &v1::PendingNode) -> String {
    JoinRequestId::from_slice(&request.request_id).map(|id| id.to_string()).unwrap_or_default()
}

/// The status, and why a node is gone; that its row does not hold, if so.
fn status(node: &v1::Node) -> String {
    if !node.refused.is_empty() {
        return node.refused.clone();
    }
    match node.revocation.as_str() {
        "" | "left" => node.identity_status.clone(),
        kind => format!("{} ({kind})", node.identity_status),
    }
}

pub(super) fn shown(node: &v1::Node) -> Answer {
    let rows = properties(&[
        ("name", node.name.clone()),
        ("id", id(node)),
        ("status", status(node)),
        ("key generation", node.key_generation.to_string()),
        ("contact", if node.connected { "connected" } else { "offline" }.to_owned()),
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
    ]);
    Answer::new("rap.node.v1", document(node)).table(&["PROPERTY", "VALUE"], 0, rows)
}

pub(super) fn document(node: &v1::Node) -> Value {
    json!({
        "node_id": id(node), "name": node.name, "identity_status": node.identity_status,
        "node_fingerprint": fingerprint(&node.node_public_key), "connected": node.connected,
        "overlay_ipv4": node.overlay_ipv4, "overlay_ipv6": node.overlay_ipv6, "roles": node.roles,
        "tags": node.tags, "region": node.region, "link_endpoints": node.link_endpoints,
        "wireguard_endpoints": node.wireguard_endpoints, "acked_version": node.acked_version,
        "last_seen_at_ms": node.last_seen_at_ms, "agent_version": node.agent_version,
        "last_reject": node.last_reject, "revocation": node.revocation,
        "key_generation": node.key_generation, "ephemeral": node.ephemeral, "refused": node.refused,
    })
}

fn id(node: &v1::Node) -> String {
    NodeId::from_slice(&node.node_id).map(|id| id.to_string()).unwrap_or_default()
}

fn fingerprint(key: &[u8]) -> String {
    if key.is_empty() { "-".to_owned() } else { KeyId::of(key).to_string() }
}
