//! Nodes and the requests of hosts that want to become nodes.

use rap_runtime::Fault;
use rap_types::{JoinRequestId, Reason};
use rap_wire::v1;
use serde_json::json;
use v1::plan_diff_request::Act;

use super::node_view::{fingerprint, id, nodes_answer, pending_answer, request_id, shown};
use super::{node_removal, plan_diff};
use crate::args::{Decide, Global, Node as Command};
use crate::client::{Connection, ask};
use crate::files;
use crate::output::{Answer, all_hold, clean, complain, confirm};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let cluster = connection.cluster(None).await?;
    match command {
        Command::List { pending: true, .. } => {
            let pending = pending(&mut connection, &cluster).await?;
            pending_answer(&pending).print(global)?;
            all_hold(pending.iter().filter(|one| !one.refused.is_empty()).map(request_id))
        }
        Command::List { pending: false, all } => {
            let nodes = ask!(
                connection.admin.node_list(v1::NodeListRequest { cluster: cluster.clone(), pending: false })
            )
            .nodes;
            let present = |node: &v1::Node| !["revoked", "left"].contains(&node.identity_status.as_str());
            let shown: Vec<v1::Node> = nodes.into_iter().filter(|node| all || present(node)).collect();
            nodes_answer(&shown).print(global)?;
            let waiting = pending(&mut connection, &cluster).await?;
            if !waiting.is_empty() && !global.quiet {
                complain(&waiting_text(&waiting));
            }
            all_hold(shown.iter().filter(|node| !node.refused.is_empty()).map(id))
        }
        Command::Revoke(revoke) => node_removal::revoke(global, &mut connection, cluster, revoke).await,
        Command::Revocations => node_removal::revocations(global, &mut connection, cluster).await,
        Command::Show { node } => {
            shown(&ask!(connection.admin.node_show(v1::NodeRef { cluster, node }))).print(global)
        }
        Command::Approve { decide, keep_id } => {
            let Some(request_ids) = chosen(global, &mut connection, &cluster, &decide, "Approve").await?
            else {
                return Ok(());
            };
            let answer = ask!(connection.admin.node_approve(v1::NodeDecideRequest {
                cluster,
                request_ids,
                reason: String::new(),
                keep_ids: keep_id,
            }));
            let ping = match answer.nodes.as_slice() {
                [one, other, ..] => format!("rapctl ping {} {}", one.name, other.name),
                _ => "rapctl node list".to_owned(),
            };
            nodes_answer(&answer.nodes).next(ping).print(global)
        }
        Command::Deny { decide, reason } => {
            let Some(request_ids) = chosen(global, &mut connection, &cluster, &decide, "Deny").await? else {
                return Ok(());
            };
            let answer = ask!(connection.admin.node_deny(v1::NodeDecideRequest {
                cluster,
                request_ids,
                reason,
                keep_ids: false,
            }));
            pending_answer(&answer.decided).print(global)
        }
        Command::Update { node, roles, clear_roles, tags, clear_tags, region, dry_run, mistaken: _ } => {
            let nothing =
                roles.is_none() && !clear_roles && tags.is_none() && !clear_tags && region.is_none();
            if nothing {
                let text = "nothing to change: give --role, --clear-roles, --tags, --clear-tags or --region";
                return Err(Fault::new(Reason::RequestInvalid, text).into());
            }
            let update = v1::NodeUpdateRequest {
                cluster,
                node,
                set_roles: roles.is_some() || clear_roles,
                roles: roles.unwrap_or_default(),
                set_tags: clear_tags || tags.is_some(),
                tags: tags.unwrap_or_default(),
                set_region: region.is_some(),
                region: region.unwrap_or_default(),
            };
            if dry_run.is_wanted() {
                return plan_diff::show(global, &mut connection, Act::NodeUpdate(update)).await;
            }
            shown(&ask!(connection.admin.node_update(update))).print(global)
        }
        Command::Accept { node } => {
            let question = format!("Take node {node} as it is? Be sure that only one host has its identity.");
            confirm(global, &question)?;
            shown(&ask!(connection.admin.node_accept(v1::NodeRef { cluster, node }))).print(global)
        }
        Command::Export { node, out, force } => {
            let export = ask!(connection.admin.node_export(v1::NodeRef { cluster, node })).export;
            files::write(&out, &export, force)?;
            Answer::new("rap.export.v1", json!({ "file": files::shown(&out), "bytes": export.len() }))
                .properties([("file", out.display().to_string())])
                .next(format!("rapctl verify {} --root product-root.pub", out.display()))
                .print(global)
        }
    }
}

async fn pending(connection: &mut Connection, cluster: &str) -> anyhow::Result<Vec<v1::PendingNode>> {
    Ok(ask!(connection.admin.node_list(v1::NodeListRequest { cluster: cluster.to_owned(), pending: true }))
        .pending)
}

/// Who waits, and how to approve it. A name that several hosts have names none of them.
fn waiting_text(waiting: &[v1::PendingNode]) -> String {
    let names: Vec<String> = waiting.iter().map(|one| clean(&one.name)).collect();
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    match names.as_slice() {
        [name] => format!("1 waits for approval: rapctl node approve {name}"),
        _ => format!(
            "{} wait for approval ({}): rapctl node approve {}, or --all-pending",
            names.len(),
            names.join(", "),
            if distinct.len() == names.len() { "NAME" } else { "REQUEST, as node list --pending prints it" }
        ),
    }
}

/// The request ids a decision is about; `None` if the operator said no.
async fn chosen(
    global: &Global,
    connection: &mut Connection,
    cluster: &str,
    decide: &Decide,
    verb: &str,
) -> anyhow::Result<Option<Vec<Vec<u8>>>> {
    let mut pending = pending(connection, cluster).await?;
    if !decide.all_pending {
        let found = decide.requests.iter().map(|text| requested(&pending, text));
        return Ok(Some(found.collect::<Result<_, _>>()?));
    }
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

/// The request that an operator names: by its id, which the control plane judges, else by the name of its host or the
/// beginning of its id among those that wait.
fn requested(pending: &[v1::PendingNode], text: &str) -> Result<Vec<u8>, Fault> {
    if let Ok(id) = text.parse::<JoinRequestId>() {
        return Ok(id.to_vec());
    }
    let is_named = |request: &&v1::PendingNode| {
        request.name == text || (text.len() >= SHORTEST && request_id(request).starts_with(text))
    };
    let found: Vec<&v1::PendingNode> = pending.iter().filter(is_named).collect();
    match found.as_slice() {
        [request] => Ok(request.request_id.clone()),
        [] => Err(Fault::new(Reason::ResourceNotFound, format!("no request of `{text}` waits"))),
        _ => {
            let ids: Vec<String> = found.iter().map(|request| request_id(request)).collect();
            let text = format!("several requests of `{text}` wait: name one by its id: {}", ids.join(", "));
            Err(Fault::new(Reason::RequestInvalid, text))
        }
    }
}

/// Fewest characters of an id that name a request.
const SHORTEST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_its_host_its_id_or_the_beginning_of_it() {
        let one = |name: &str, byte: u8| v1::PendingNode {
            name: name.to_owned(),
            request_id: vec![byte; 16],
            ..Default::default()
        };
        let waiting = [one("web", 1), one("db", 2), one("db", 3)];
        let id = request_id(&waiting[1]);
        assert_eq!(requested(&waiting, "web").unwrap(), [1; 16]);
        assert_eq!(requested(&waiting, &id).unwrap(), [2; 16]);
        assert_eq!(requested(&waiting, &id[..6]).unwrap(), [2; 16]);
        assert_eq!(requested(&waiting, "db").unwrap_err().reason, Reason::RequestInvalid);
        assert_eq!(requested(&waiting, &id[..2]).unwrap_err().reason, Reason::ResourceNotFound);
        assert_eq!(requested(&waiting, "other").unwrap_err().reason, Reason::ResourceNotFound);
        assert_eq!(waiting_text(&waiting[..1]), "1 waits for approval: rapctl node approve web");
        assert!(waiting_text(&waiting[..2]).contains("(web, db): rapctl node approve NAME"));
        assert!(
            waiting_text(&waiting)
                .contains("(web, db, db): rapctl node approve REQUEST, as node list --pending")
        );
    }
}
