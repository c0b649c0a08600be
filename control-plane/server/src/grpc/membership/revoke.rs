//! Revoking a node: the row, the signed record, the configuration change and the audit row in one
//! transaction.
//!
//! Owns the order of those writes, whoever asks. Refuses to own what the chain allows (rap-contract).

use std::sync::Arc;

use rap_authority::{critical, known_features};
use rap_contract::{KnownRevocations, Revocation, RevocationKind};
use rap_store::{
    AuditPen, NodeRow, PgConnection, StoreError, audit_insert, cluster_hold, config_seq_allocate,
    node_by_name, node_read, node_status_set, outbox_append, revocation_insert,
};
use rap_types::{Digest, IdentityStatus, KeyId, NodeId, Reason, RequestId};
use rap_wire::v1;

use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::admin::node_view;
use crate::grpc::{Actor, Failure, audit};

/// Why a node goes, and who says so.
#[derive(Debug, Clone)]
pub struct Departure {
    /// What the record says.
    pub kind: RevocationKind,
    /// As the audit log names whoever did it.
    pub actor: String,
    /// As the audit log names what was done.
    pub action: &'static str,
    /// Words for record and audit log.
    pub reason: String,
    /// The call.
    pub call: RequestId,
    /// What its audit row is written with.
    pub pen: AuditPen,
}

/// What a departure wrote.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The chain with it.
    pub known: KnownRevocations,
    /// Configuration version that says it; `None` if it was so before.
    pub version: Option<u64>,
}

pub(super) async fn revoke(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::NodeRevokeRequest,
) -> Result<v1::NodeRevokeAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let words = request.reason.chars().filter(|c| !c.is_control()).take(256).collect();
    let departure = Departure {
        kind: if request.evict { RevocationKind::Evicted } else { RevocationKind::Banned },
        actor: actor.audit_name(),
        action: "node.revoke",
        reason: words,
        call: actor.call,
        pen: actor.pen.clone(),
    };
    let before = cluster.revocations.known();
    let done: Result<(NodeId, Recorded), Failure> =
        rap_store::transact!(control.store.system(), |connection| {
            write(control, connection, &cluster, &before, &request.node, &departure).await
        });
    let (node, recorded) = done?;
    control.revoked(&cluster).await?;
    control.sessions.end(cluster.id, node);
    let mut transaction = control.store.system().begin().await?;
    let row = node_read(&mut transaction, &cluster.rows, node).await?.ok_or(StoreError::Absent)?;
    Ok(v1::NodeRevokeAnswer {
        node: Some(node_view(control, &cluster, &row)),
        revocation_sequence: recorded.known.chain.sequence(),
        version: recorded.version.unwrap_or(0),
        already: recorded.version.is_none(),
    })
}

async fn write(
    control: &Control,
    connection: &mut PgConnection,
    cluster: &Cluster,
    before: &KnownRevocations,
    name: &str,
    departure: &Departure,
) -> Result<(NodeId, Recorded), Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let known = control.revocations(connection, cluster, before).await?;
    let row = find(connection, cluster, name).await?;
    let recorded = write_departure(control, connection, cluster, known, &row, departure).await?;
    Ok((row.node.node, recorded))
}

/// The present node with this name, or any with this id, in `cluster`.
async fn find(connection: &mut PgConnection, cluster: &Cluster, text: &str) -> Result<NodeRow, Failure> {
    let unknown = |text: &str| Failure::new(Reason::NodeUnknown, text);
    match text.parse::<NodeId>() {
        Ok(id) => node_read(connection, &cluster.rows, id)
            .await?
            .ok_or_else(|| unknown("no node of this cluster has this id")),
        Err(_) => node_by_name(connection, &cluster.rows, text)
            .await?
            .ok_or_else(|| unknown("no present node has this name; gone ones go by id")),
    }
}

/// Makes a node gone. The caller holds the cluster's lock and read `known` under it. Idempotent: a node
/// that is gone stays as it is, but for a ban, which is added.
pub async fn write_departure(
    control: &Control,
    connection: &mut PgConnection,
    cluster: &Cluster,
    known: KnownRevocations,
    row: &NodeRow,
    departure: &Departure,
) -> Result<Recorded, Failure> {
    let node = row.node.node;
    match known.chain.gone(node) {
        Some(RevocationKind::Banned) => return Ok(Recorded { known, version: None }),
        Some(_) if departure.kind != RevocationKind::Banned => {
            return Ok(Recorded { known, version: None });
        }
        Some(_) => {}
        None => control.require_member(row, &known.chain)?,
    }
    let known =
        write_record(control, connection, cluster, known, row, departure.kind, &departure.reason).await?;
    let to = match departure.kind {
        RevocationKind::Left => IdentityStatus::Left,
        _ => IdentityStatus::Revoked,
    };
    if row.identity_status != to
        && !node_status_set(connection, &cluster.rows, node, row.identity_status, to).await?
    {
        return Err(Failure::new(Reason::RequestConflict, "the node changed meanwhile"));
    }
    let version = config_seq_allocate(connection, cluster.id).await?;
    let touched = ["trust".to_owned(), format!("peer/{node}"), format!("assignment/{node}")];
    outbox_append(connection, cluster.id, version, &touched, true).await?;
    let object = format!("node/{node}");
    let said = format!("{}: {}", departure.kind.as_str(), departure.reason);
    let digest = known.chain.digest();
    let mut entry =
        audit(&departure.actor, departure.action, object, Some(cluster.id), digest, &said, departure.call);
    entry.before_digest = Some(Digest::of(&[&row.node.node_public_key]));
    entry.organization = row.node.organization;
    audit_insert(connection, &departure.pen, &entry).await?;
    Ok(Recorded { known, version: Some(version) })
}

/// Signs and stores the next record of the chain, about the node of `row`.
pub async fn write_record(
    control: &Control,
    connection: &mut PgConnection,
    cluster: &Cluster,
    known: KnownRevocations,
    row: &NodeRow,
    kind: RevocationKind,
    reason: &str,
) -> Result<KnownRevocations, Failure> {
    let dev = control.installation.facts.dev;
    let revocation = Revocation {
        kind,
        node: row.node.node,
        key: KeyId::of(&row.node.node_public_key),
        generation: row.key_generation,
        reason: reason.to_owned(),
    };
    if known.chain.signer_place() >= cluster.chain.keys_ever().count() {
        // Its successor has spoken: what this authority signed now would hold nowhere.
        return Err(Failure::new(Reason::RequestConflict, "the authority was rotated meanwhile; try again"));
    }
    let now = control.clock.now().wall;
    let record =
        known.chain.sign_next(&revocation, &cluster.chain, &cluster.authority, &critical(dev), now)?;
    let next = known.with_records(&[&record], &cluster.chain, known_features(dev))?;
    revocation_insert(connection, cluster.id, next.chain.sequence(), &record).await?;
    Ok(next)
}
