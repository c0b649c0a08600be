//! Nodes: list, show, decide, update, export.

use std::sync::Arc;

use rap_authority::check_tags;
use rap_contract::{KnownRevocations, encode_export};
use rap_store::{
    Held, JoinRequestRow, NodeRow, PgConnection, RowName, StoreError, audit_insert, cluster_hold,
    config_seq_allocate, join_request_deny, join_request_hold, join_requests_and_tampered, node_by_name,
    node_hold, node_read, node_write, nodes_and_tampered, outbox_append, token_read,
};
use rap_types::{Digest, JoinRequestId, NodeId, Reason, Role};
use rap_wire::v1;

use super::views;
use crate::clusters::Cluster;
use crate::control::Control;
use crate::findings::alarm_about_rows;
use crate::grpc::enrollment::{Approval, approve_request};
use crate::grpc::membership::read_policy;
use crate::grpc::{Actor, Failure, audit};
use crate::tasks::open_head;

pub(super) async fn list(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::NodeListRequest,
) -> Result<v1::NodeListAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let mut transaction = control.store.system().begin_snapshot().await?;
    let mut answer = v1::NodeListAnswer::default();
    let (waiting, mut found) = join_requests_and_tampered(&mut transaction, &cluster.rows).await?;
    answer.pending.extend(found.iter().filter_map(views::tampered_request));
    for row in waiting {
        match token_read(&mut transaction, &cluster.rows, row.request.token).await {
            Ok(token) => {
                let roles = token.map(|token| token.token.roles).unwrap_or_default();
                answer.pending.push(views::pending(&row, &roles));
            }
            Err(StoreError::Tampered { table, key }) => {
                found.push(RowName { table, key });
                answer.pending.push(views::refused_request(row.request.request));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !request.pending {
        let (rows, tampered) = nodes_and_tampered(&mut transaction, &cluster.rows).await?;
        answer.nodes = rows.iter().map(|row| views::node(control, &cluster, row)).collect();
        answer.nodes.extend(tampered.iter().filter_map(|row| views::tampered_node(&cluster, row)));
        found.extend(tampered);
    }
    drop(transaction);
    alarm_about_rows(control, &found).await;
    Ok(answer)
}

pub(super) async fn show(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::NodeRef,
) -> Result<v1::Node, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let mut transaction = control.store.system().begin().await?;
    let row = find(&mut transaction, &cluster, &request.node).await?;
    Ok(views::node(control, &cluster, &row))
}

/// The present node with this name, or any with this id, in `cluster`.
pub(super) async fn find(
    connection: &mut PgConnection,
    cluster: &Cluster,
    text: &str,
) -> Result<NodeRow, Failure> {
    let row = match text.parse::<NodeId>() {
        Ok(id) => {
            node_read(connection, &cluster.rows, id).await?.filter(|row| row.node.cluster == cluster.id)
        }
        Err(_) => node_by_name(connection, &cluster.rows, text).await?,
    };
    let named: String = text.chars().take(64).filter(|letter| !letter.is_control()).collect();
    row.ok_or_else(|| {
        Failure::new(Reason::NodeUnknown, format!("`{named}`: no such node in cluster {}", cluster.name))
    })
}

pub(super) async fn approve(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::NodeDecideRequest,
) -> Result<v1::NodeDecideAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let ids = request_ids(&request.request_ids)?;
    let mut approval = Approval {
        actor: actor.audit_name(),
        reason: request.reason,
        call: actor.call,
        pen: actor.pen.clone(),
        keep_id: request.keep_ids,
    };
    let before = cluster.revocations.known();
    let done: Result<Vec<NodeRow>, Failure> = rap_store::transact!(control.store.system(), |connection| {
        write_approvals(control, connection, &cluster, &before, &ids, &mut approval).await
    });
    let rows = done?;
    control.revoked(&cluster).await?;
    let nodes = rows.iter().map(|row| views::node(control, &cluster, row)).collect();
    Ok(v1::NodeDecideAnswer { decided: Vec::new(), nodes })
}

async fn write_approvals(
    control: &Control,
    connection: &mut PgConnection,
    cluster: &Cluster,
    before: &KnownRevocations,
    ids: &[JoinRequestId],
    approval: &mut Approval,
) -> Result<Vec<NodeRow>, Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let mut known = control.revocations(connection, cluster, before).await?;
    approval.keep_id |= read_policy(connection, cluster).await?.keep_ids;
    let mut nodes = Vec::new();
    for id in ids {
        let request = locked(connection, cluster, *id).await?;
        let (node, next) = approve_request(control, connection, cluster, known, &request, approval).await?;
        known = next;
        nodes.push(node_read(connection, &cluster.rows, node).await?.ok_or(StoreError::Absent)?);
    }
    Ok(nodes)
}

pub(super) async fn deny(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::NodeDecideRequest,
) -> Result<v1::NodeDecideAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let ids = request_ids(&request.request_ids)?;
    let reason: String = request.reason.chars().filter(|c| !c.is_control()).take(256).collect();
    let done: Result<Vec<JoinRequestRow>, Failure> = rap_store::transact!(
        control.store.system(),
        |connection| write_denials(connection, actor, &cluster, &ids, &reason).await
    );
    let decided = done?.iter().map(|row| views::pending(row, &[])).collect();
    Ok(v1::NodeDecideAnswer { decided, nodes: Vec::new() })
}

async fn write_denials(
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &Cluster,
    ids: &[JoinRequestId],
    reason: &str,
) -> Result<Vec<JoinRequestRow>, Failure> {
    let mut denied = Vec::new();
    for id in ids {
        let request = locked(connection, cluster, *id).await?;
        rap_authority::decide_request(request.state, rap_authority::Decision::Denied)?;
        let row =
            join_request_deny(connection, &cluster.rows, *id, reason).await?.ok_or(StoreError::Absent)?;
        let object = format!("join-request/{id}");
        let mut entry =
            audit(&actor.audit_name(), "node.deny", object, Some(cluster.id), None, reason, actor.call);
        entry.organization = row.request.organization;
        audit_insert(connection, &actor.pen, &entry).await?;
        denied.push(row);
    }
    Ok(denied)
}

async fn locked(
    connection: &mut PgConnection,
    cluster: &Cluster,
    id: JoinRequestId,
) -> Result<JoinRequestRow, Failure> {
    let row = join_request_hold(connection, &cluster.rows, id).await?.map(Held::into_inner);
    row.filter(|row| row.request.cluster == cluster.id)
        .ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such join request in this cluster"))
}

fn request_ids(ids: &[Vec<u8>]) -> Result<Vec<JoinRequestId>, Failure> {
    if ids.is_empty() || ids.len() > 1000 {
        return Err(Failure::new(Reason::RequestInvalid, "name 1 to 1000 requests"));
    }
    Ok(ids.iter().map(|id| JoinRequestId::from_slice(id)).collect::<Result<_, _>>()?)
}

pub(super) async fn update(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::NodeUpdateRequest,
) -> Result<v1::Node, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let wanted = Wanted {
        roles: if request.set_roles { Some(Role::parse_all(&request.roles)?) } else { None },
        tags: request.set_tags.then_some(request.tags),
        region: request.set_region.then_some(request.region),
    };
    wanted.check()?;
    let done: Result<NodeRow, Failure> = rap_store::transact!(control.store.system(), |connection| {
        write_update(connection, actor, &cluster, &request.node, &wanted).await
    });
    let row = done?;
    control.changed(&cluster).await;
    Ok(views::node(control, &cluster, &row))
}

/// What an update sets; `None` leaves it.
struct Wanted {
    roles: Option<Vec<Role>>,
    tags: Option<Vec<String>>,
    region: Option<String>,
}

impl Wanted {
    fn check(&self) -> Result<(), Failure> {
        if let Some(tags) = &self.tags {
            check_tags(tags)?;
        }
        let fine =
            |region: &String| region.len() <= 63 && region.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !self.region.as_ref().is_none_or(fine) {
            return Err(Failure::new(Reason::RequestInvalid, "region has at most 63 printable ASCII"));
        }
        Ok(())
    }
}

async fn write_update(
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &Cluster,
    name: &str,
    wanted: &Wanted,
) -> Result<NodeRow, Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let row = find(connection, cluster, name).await?;
    let node = row.node.node;
    let mut held = node_hold(connection, &cluster.rows, node).await?.ok_or(StoreError::Absent)?;
    if let Some(roles) = &wanted.roles {
        held.node.roles.clone_from(roles);
    }
    if let Some(tags) = &wanted.tags {
        held.node.facts.tags.clone_from(tags);
    }
    if let Some(region) = &wanted.region {
        held.node.facts.region.clone_from(region);
    }
    node_write(connection, &cluster.rows, held).await?;
    let seq = config_seq_allocate(connection, cluster.id).await?;
    let touched = [format!("peer/{node}"), format!("assignment/{node}")];
    outbox_append(connection, cluster.id, seq, &touched, false).await?;
    let object = format!("node/{node}");
    let mut entry = audit(&actor.audit_name(), "node.update", object, Some(cluster.id), None, "", actor.call);
    entry.organization = row.node.organization;
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(node_read(connection, &cluster.rows, node).await?.ok_or(StoreError::Absent)?)
}

pub(super) async fn export(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::NodeRef,
) -> Result<v1::NodeExportAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let mut transaction = control.store.system().begin().await?;
    let row = find(&mut transaction, &cluster, &request.node).await?;
    drop(transaction);
    let absent = || Failure::new(Reason::SnapshotAbsent, "no version with this node is published yet");
    let published = cluster.feed.newest().ok_or_else(absent)?;
    let head = open_head(control, &cluster, &published.head)
        .map_err(|error| Failure::new(Reason::ServerInternal, error.to_string()))?;
    let snapshot = published.snapshot(row.node.node, head).ok_or_else(absent)??;
    let manifest = &control.installation.activated()?.manifest;
    let records = cluster.chain.envelopes_until(snapshot.head().order.incarnation.0);
    let export = encode_export(manifest, &records, &snapshot);
    let digest = Some(Digest::of(&[&export]));
    let object = format!("node/{}", row.node.node);
    let mut entry =
        audit(&actor.audit_name(), "node.export", object, Some(cluster.id), digest, "", actor.call);
    entry.organization = row.node.organization;
    let done: Result<u64, Failure> = rap_store::transact!(control.store.system(), |connection| {
        audit_insert(connection, &actor.pen, &entry).await.map_err(Failure::from)
    });
    done?;
    Ok(v1::NodeExportAnswer { export })
}
