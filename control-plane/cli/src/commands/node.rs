//! Nodes and the requests of hosts that want to become nodes.

use rap_runtime::Fault;
use rap_types::{JoinRequestId, Reason};
use rap_wire::v1;
use serde_json::json;

use super::node_removal;
use super::node_view::{fingerprint, id, nodes_answer, pending_answer, request_id, shown};
use crate::args::{Decide, Global, Node as Command};
use crate::client::{Connection, ask};
use crate::files;
use crate::output::{Answer, all_hold, clean, complain, confirm, properties};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    match command {
        Command::List { cluster, pending: true, .. } => {
            let pending = pending(&mut connection, &cluster).await?;
            pending_answer(&pending).print(global)?;
            all_hold(pending.iter().filter(|one| !one.refused.is_empty()).map(request_id))
        }
        Command::List { cluster, pending: false, all } => {
            let nodes =
                ask!(connection.admin.node_list(v1::NodeListRequest { cluster, pending: false })).nodes;
            let present = |node: &v1::Node| !["revoked", "left"].contains(&node.identity_status.as_str());
            let shown: Vec<v1::Node> = nodes.into_iter().filter(|node| all || present(node)).collect();
            nodes_answer(&shown).print(global)?;
            all_hold(shown.iter().filter(|node| !node.refused.is_empty()).map(id))
        }
        Command::Revoke(revoke) => node_removal::revoke(global, &mut connection, revoke).await,
        Command::Revocations { cluster } => node_removal::revocations(global, &mut connection, cluster).await,
        Command::Show { node, cluster } => {
            shown(&ask!(connection.admin.node_show(v1::NodeRef { cluster, node }))).print(global)
        }
        Command::Approve { decide, keep_id } => {
            let Some(request_ids) = chosen(global, &mut connection, &decide, "Approve").await? else {
                return Ok(());
            };
            let answer = ask!(connection.admin.node_approve(v1::NodeDecideRequest {
                cluster: decide.cluster,
                request_ids,
                reason: String::new(),
                keep_ids: keep_id,
            }));
            nodes_answer(&answer.nodes).next("rapctl ping A B").print(global)
        }
        Command::Deny { decide, reason } => {
            let Some(request_ids) = chosen(global, &mut connection, &decide, "Deny").await? else {
                return Ok(());
            };
            let answer = ask!(connection.admin.node_deny(v1::NodeDecideRequest {
                cluster: decide.cluster,
                request_ids,
                reason,
                keep_ids: false,
            }));
            pending_answer(&answer.decided).print(global)
        }
        Command::Update { node, cluster, roles, tags, clear_tags, region } => {
            shown(&ask!(connection.admin.node_update(v1::NodeUpdateRequest {
                cluster,
                node,
                set_roles: roles.is_some(),
                roles: roles.unwrap_or_default(),
                set_tags: clear_tags || tags.is_some(),
                tags: tags.unwrap_or_default(),
                set_region: region.is_some(),
                region: region.unwrap_or_default(),
            })))
            .print(global)
        }
        Command::Export { node, cluster, out, force } => {
            let export = ask!(connection.admin.node_export(v1::NodeRef { cluster, node })).export;
            files::write(&out, &export, force)?;
            Answer::new("rap.export.v1", json!({ "file": out, "bytes": export.len() }))
                .properties(properties(&[("file", out.display().to_string())]))
                .next(format!("rapctl verify {} --root product-root.pub", out.display()))
                .print(global)
        }
    }
}

async fn pending(connection: &mut Connection, cluster: &str) -> anyhow::Result<Vec<v1::PendingNode>> {
    Ok(ask!(connection.admin.node_list(v1::NodeListRequest { cluster: cluster.to_owned(), pending: true }))
        .pending)
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
