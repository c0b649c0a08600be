//! Removes a node: the row, the signed record, the configuration change and the audit row in one
//! transaction.
//!
//! Owns the order of those writes, whoever asks. Refuses to own what the chain allows (rap-contract).

use rap_authority::{critical, known_features};
use rap_contract::{KnownRevocations, PublicKey, Revocation, RevocationKind};
use rap_store::{
    NodeRow, StoreError, SystemTransaction, cluster_hold, node_read, node_status_set, revocation_insert,
};
use rap_types::{Digest, IdentityStatus, KeyId, NodeId, Reason};

use crate::acts::find_node::find_node;
use crate::database::change::{Acting, Change};
use crate::failure::{Failure, refused};
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::watch::handle::Watch;

pub(crate) async fn write_leave(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    (node, key): (NodeId, &PublicKey),
    removal: NodeRemoval,
) -> Result<Removed, Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let known = serving.revocations_now(transaction, cluster).await?;
    let row = node_read(transaction, &cluster.rows, node).await?.ok_or_else(refused)?;
    if row.node.cluster != cluster.id || row.node.node_public_key != *key.as_bytes() {
        return Err(refused());
    }
    // A node that was thrown out may go too: the answer is that it is gone.
    write_removal(serving, transaction, acting, cluster, known, &row, removal).await
}

/// How a node goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeRemoval {
    /// What the record says.
    pub kind: RevocationKind,
    /// As the audit log names what was done.
    pub action: &'static str,
}

impl NodeRemoval {
    /// An operator throws the node out; one that is evicted may be admitted again.
    pub(crate) fn by_operator(evict: bool) -> Self {
        let kind = if evict { RevocationKind::Evicted } else { RevocationKind::Banned };
        Self { kind, action: "node.revoke" }
    }
}

/// What a removal wrote.
#[derive(Debug, Clone)]
pub(crate) struct Removed {
    /// The chain with it.
    pub known: KnownRevocations,
    /// Configuration version that says it; `None` if it was so before.
    pub version: Option<u64>,
}

pub(crate) async fn write_named_removal(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    name: &str,
    removal: NodeRemoval,
) -> Result<(NodeRow, Removed), Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let known = serving.revocations_now(transaction, cluster).await?;
    let row = find_node(transaction, cluster, name).await?;
    let recorded = write_removal(serving, transaction, acting, cluster, known, &row, removal).await?;
    let row = node_read(transaction, &cluster.rows, row.node.node).await?.ok_or(StoreError::Absent)?;
    Ok((row, recorded))
}

/// Makes a node gone. The caller holds the cluster's lock and read `known` under it. Idempotent: a node
/// that is gone stays as it is, but for a ban, which is added.
pub(crate) async fn write_removal(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    known: KnownRevocations,
    row: &NodeRow,
    removal: NodeRemoval,
) -> Result<Removed, Failure> {
    tracing::trace!(way = "the revocation is signed and written");
    let node = row.node.node;
    match known.chain.gone(node) {
        Some(RevocationKind::Banned) => return Ok(Removed { known, version: None }),
        Some(_) if removal.kind != RevocationKind::Banned => {
            return Ok(Removed { known, version: None });
        }
        Some(_) => {}
        None => serving.require_member(row, &known.chain)?,
    }
    let known = write_record(&serving.watch, transaction, acting, cluster, known, row, removal.kind).await?;
    let to = status_after(removal.kind);
    if row.identity_status != to
        && !node_status_set(transaction, &cluster.rows, node, row.identity_status, to).await?
    {
        return Err(Failure::new(Reason::RequestConflict, "the node changed meanwhile"));
    }
    let change = Change::of(removal.action, format!("node/{node}")).inside(cluster.id);
    let change = change.owned_by(row.node.organization);
    let change = change.before(Digest::of(&[&row.node.node_public_key])).after(known.chain.digest());
    let change = change.because(format!("{}: {}", removal.kind.as_str(), acting.reason));
    let version = change.touches(cluster.id, removal_scopes(node), true).record(transaction, acting).await?;
    Ok(Removed { known, version })
}

/// What the row of a node says once a record of this kind made it gone.
pub(crate) fn status_after(kind: RevocationKind) -> IdentityStatus {
    match kind {
        RevocationKind::Left => IdentityStatus::Left,
        _ => IdentityStatus::Revoked,
    }
}

/// What of the snapshots changes when a node goes.
pub(crate) fn removal_scopes(node: NodeId) -> [String; 3] {
    ["trust".to_owned(), format!("peer/{node}"), format!("assignment/{node}")]
}

/// Signs and stores the next record of the chain, about the node of `row`. In a dry run the chain is as it would be.
pub async fn write_record(
    watch: &Watch,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    known: KnownRevocations,
    row: &NodeRow,
    kind: RevocationKind,
) -> Result<KnownRevocations, Failure> {
    let dev = watch.keys.installation.facts.dev;
    let revocation = Revocation {
        kind,
        node: row.node.node,
        key: KeyId::of(&row.node.node_public_key),
        generation: row.key_generation,
        reason: acting.reason.clone(),
    };
    if known.chain.signer_place() >= cluster.chain.keys_ever().count() {
        // Its successor has spoken: what this authority signed now would hold nowhere.
        return Err(Failure::new(Reason::RequestConflict, "the authority was rotated meanwhile; try again"));
    }
    let now = watch.clock.now().wall;
    if acting.dry_run {
        return Ok(known.supposing(&revocation, now)?);
    }
    let record =
        known.chain.sign_next(&revocation, &cluster.chain, &cluster.authority, &critical(dev), now)?;
    let next = known.with_records(&[&record], &cluster.chain, known_features(dev))?;
    revocation_insert(transaction, cluster.id, next.chain.sequence(), &record).await?;
    transaction.effects.revoked.insert(cluster.id, next.clone());
    Ok(next)
}
