//! Nodes: list, show, decide, update, export.

use rap_contract::encode_export;
use rap_runtime::output::bounded;
use rap_store::{
    RowName, StoreError, identity_read, join_requests_and_tampered, nodes_and_tampered, nodes_doubted,
    nodes_elsewhere, token_read,
};
use rap_types::{Digest, JoinRequestId, Reason, Role};
use rap_wire::v1;

use crate::acts::accept_node::write_acceptance;
use crate::acts::approve::{write_approvals, write_denials};
use crate::acts::change::commit;
use crate::acts::find_node::find_node;
use crate::acts::update_node::{NodeUpdate, write_update};
use crate::auth::actor::Actor;
use crate::database::change::{Change, REASON_CAP};
use crate::failure::Failure;
use crate::grpc::answer::Answer;
use crate::publish::head::open_head;
use crate::replica::Replica;
use crate::serve::identity_doubts::note;
use crate::views::cluster::rows;
use crate::watch::raise::alarm_about_rows;

pub(crate) async fn list(
    replica: &Replica,
    _: &Actor,
    request: v1::NodeListRequest,
) -> Answer<v1::NodeListAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let mut answer = v1::NodeListAnswer::default();
    let (waiting, mut found) = join_requests_and_tampered(&mut transaction, &cluster.rows).await?;
    answer.pending.extend(found.iter().filter_map(rows::tampered_request));
    for row in waiting {
        match token_read(&mut transaction, &cluster.rows, row.request.token).await {
            Ok(token) => {
                let roles = token.map(|token| token.token.roles).unwrap_or_default();
                answer.pending.push(rows::pending(&row, &roles));
            }
            Err(StoreError::Tampered { table, key }) => {
                found.push(RowName { table, key });
                answer.pending.push(rows::refused_request(row.request.request));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !request.pending {
        let (rows, tampered) = nodes_and_tampered(&mut transaction, &cluster.rows).await?;
        answer.nodes = rows.iter().map(|row| rows::node(&replica.serving, &cluster, row)).collect();
        let this = replica.watch.replica;
        let elsewhere = nodes_elsewhere(&mut transaction, cluster.id, this).await?;
        rows::mark_elsewhere(&mut answer.nodes, &elsewhere);
        for doubted in nodes_doubted(&mut transaction).await? {
            let node = answer.nodes.iter_mut().find(|node| node.node_id == doubted.node.as_bytes());
            node.into_iter().for_each(|node| node.doubt.clone_from(&doubted.doubt));
        }
        answer.nodes.extend(tampered.iter().filter_map(|row| rows::tampered_node(&cluster, row)));
        found.extend(tampered);
    }
    drop(transaction);
    alarm_about_rows(&replica.watch, &found).await;
    Ok(answer)
}

pub(crate) async fn show(replica: &Replica, _: &Actor, request: v1::NodeRef) -> Answer<v1::Node> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let mut transaction = replica.database.store.system().begin().await?;
    let row = find_node(&mut transaction, &cluster, &request.node).await?;
    let mut node = rows::node(&replica.serving, &cluster, &row);
    let this = replica.watch.replica;
    let elsewhere = nodes_elsewhere(&mut transaction, cluster.id, this).await?;
    rows::mark_elsewhere(std::slice::from_mut(&mut node), &elsewhere);
    let known = identity_read(&mut transaction, row.node.node).await?;
    let known = known.filter(|known| known.key_generation == row.key_generation);
    node.doubt = known.map(|known| known.doubt).unwrap_or_default();
    if let Some(reports) = replica.serving.sessions.reports(cluster.id, row.node.node) {
        reports.fill(&mut node);
    }
    Ok(node)
}

pub(crate) async fn approve(
    replica: &Replica,
    actor: &Actor,
    request: v1::NodeDecideRequest,
) -> Answer<v1::NodeDecideAnswer> {
    tracing::trace!(way = "an operator approves requests");
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let ids = request_ids(&request.request_ids)?;
    let acting = actor.acting(request.reason);
    let rows = commit!(&replica.serving, &acting, |transaction| {
        write_approvals(&replica.serving, transaction, &acting, &cluster, &ids, request.keep_ids).await
    })?;
    let nodes = rows.iter().map(|row| rows::node(&replica.serving, &cluster, row)).collect();
    Ok(v1::NodeDecideAnswer { decided: Vec::new(), nodes })
}

pub(crate) async fn deny(
    replica: &Replica,
    actor: &Actor,
    request: v1::NodeDecideRequest,
) -> Answer<v1::NodeDecideAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let ids = request_ids(&request.request_ids)?;
    let acting = actor.acting(bounded(&request.reason, REASON_CAP));
    let decided = commit!(&replica.serving, &acting, |transaction| {
        write_denials(transaction, &acting, &cluster, &ids).await
    })?;
    let decided = decided.iter().map(|row| rows::pending(row, &[])).collect();
    Ok(v1::NodeDecideAnswer { decided, nodes: Vec::new() })
}

fn request_ids(ids: &[Vec<u8>]) -> Result<Vec<JoinRequestId>, Failure> {
    if ids.is_empty() || ids.len() > 1000 {
        return Err(Failure::new(Reason::RequestInvalid, "name 1 to 1000 requests"));
    }
    Ok(ids.iter().map(|id| JoinRequestId::from_slice(id)).collect::<Result<_, _>>()?)
}

pub(crate) async fn update(
    replica: &Replica,
    actor: &Actor,
    request: v1::NodeUpdateRequest,
) -> Answer<v1::Node> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let wanted = wanted(&request)?;
    let acting = actor.acting("");
    let (row, version) = commit!(&replica.serving, &acting, |transaction| {
        write_update(transaction, &acting, &cluster, &request.node, &wanted).await
    })?;
    Ok(v1::Node { version, ..rows::node(&replica.serving, &cluster, &row) })
}

/// What an update sets.
pub(crate) fn wanted(request: &v1::NodeUpdateRequest) -> Result<NodeUpdate, Failure> {
    let wanted = NodeUpdate {
        roles: if request.set_roles { Some(Role::parse_all(&request.roles)?) } else { None },
        tags: request.set_tags.then(|| request.tags.clone()),
        region: request.set_region.then(|| request.region.clone()),
    };
    wanted.check()?;
    Ok(wanted)
}

pub(crate) async fn accept(replica: &Replica, actor: &Actor, request: v1::NodeRef) -> Answer<v1::Node> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let acting = actor.acting("");
    let row = commit!(&replica.serving, &acting, |transaction| {
        write_acceptance(transaction, &acting, &cluster, &request.node).await
    })?;
    note(&replica.serving, cluster.id, row.node.node, None);
    Ok(rows::node(&replica.serving, &cluster, &row))
}

pub(crate) async fn export(
    replica: &Replica,
    actor: &Actor,
    request: v1::NodeRef,
) -> Answer<v1::NodeExportAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let mut transaction = replica.database.store.system().begin().await?;
    let row = find_node(&mut transaction, &cluster, &request.node).await?;
    drop(transaction);
    let absent = || Failure::new(Reason::SnapshotAbsent, "no version with this node is published yet");
    let published = cluster.feed.newest().ok_or_else(absent)?;
    let head =
        open_head(&replica.keys, &cluster, &published.head).map_err(Failure::of(Reason::ServerInternal))?;
    let snapshot = published.snapshot(row.node.node, head).ok_or_else(absent)??;
    let manifest = &replica.keys.installation.activated()?.manifest;
    let records = cluster.chain.envelopes_until(snapshot.head().order.incarnation.0);
    let export = encode_export(manifest, &records, &snapshot);
    let acting = actor.acting("");
    let change = Change::of("node.export", format!("node/{}", row.node.node)).inside(cluster.id);
    let change = change.owned_by(row.node.organization).after(Digest::of(&[&export]));
    commit!(&replica.serving, &acting, |transaction| Ok(change
        .clone()
        .record(transaction, &acting)
        .await?))?;
    Ok(v1::NodeExportAnswer { export })
}
