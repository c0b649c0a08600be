//! Puts signed documents back that the database had and lost, and what they say of a node into its row: an ordinary
//! failover that loses one commit locks nobody out, and stops no publication.
//!
//! Owns when a copy is put back: up to this replica's floor, and kept after the last restore from a backup. Who restores
//! means what the backup says, and confirms the floors.

use rap_authority::{FloorOf, ReplicaFloors};
use rap_contract::RevocationKind;
use rap_store::{
    NodeRow, SignedCopy, SystemTransaction, cluster_hold, node_status_set, nodes_and_tampered,
    restore_newest, revocations_from, signed_copy_is_stored, signed_copy_put,
};
use rap_types::{IdentityStatus, Reason};

use crate::acts::change::commit;
use crate::acts::remove_node::{removal_scopes, status_after};
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::watch::raise::alarm_about;

/// Puts back what is missing, and puts right the rows that contradict it. Gives how many documents and rows that were.
///
/// # Errors
/// Errors of the database; `row.tampered` if the database undoes what is put back.
pub(crate) async fn heal(serving: &Serving) -> Result<usize, Failure> {
    let documents = heal_documents(serving).await?;
    let mut rows = 0;
    for cluster in serving.clusters.all() {
        rows += heal_rows(serving, &cluster).await?;
    }
    Ok(documents + rows)
}

async fn heal_documents(serving: &Serving) -> Result<usize, Failure> {
    let floors = serving.database.floors.current().unwrap_or_default();
    let mut snapshot = serving.database.store.system().begin_snapshot().await?;
    let restored = restore_newest(&mut snapshot).await?;
    let mut lost = Vec::new();
    for copy in serving.database.copies.since(restored) {
        if counts(&copy, &floors) && !signed_copy_is_stored(&mut snapshot, &copy).await? {
            lost.push(copy);
        }
    }
    drop(snapshot);
    if lost.is_empty() {
        return Ok(0);
    }
    lost.sort_by_key(order);
    let acting = Acting::alone("system", serving.keys.pen.clone(), serving.watch.clock.now().wall);
    let put_back = commit!(serving, &acting, |transaction| put_back(transaction, &acting, &lost).await);
    for copy in &lost {
        let row = copy.row();
        let what = match &put_back {
            Ok(()) => "it was signed, the database had lost it, and it was put back",
            Err(_) => "it was signed, the database lost it, and it cannot be put back",
        };
        alarm_about(&serving.watch, Reason::FloorHealed, &format!("{}/{}", row.table, row.key), what).await;
        if let SignedCopy::Revocation { cluster, .. } = copy
            && let Some(cluster) = serving.clusters.by_id(*cluster)
        {
            cluster.wake.urgent();
        }
    }
    put_back.map(|()| lost.len())
}

/// Puts right the rows of nodes that are members by their rows and gone by the records in force.
async fn heal_rows(serving: &Serving, cluster: &Cluster) -> Result<usize, Failure> {
    let chain = cluster.revocations.known().chain;
    if chain.sequence() == 0 {
        return Ok(0);
    }
    let mut snapshot = serving.database.store.system().begin_snapshot().await?;
    // A database without the newest record was restored, or gets it back first.
    let newest = revocations_from(&mut snapshot, cluster.id, chain.sequence(), 1).await?;
    if newest.is_empty() {
        return Ok(0);
    }
    let (rows, _) = nodes_and_tampered(&mut snapshot, &cluster.rows).await?;
    drop(snapshot);
    let is_member =
        |row: &NodeRow| matches!(row.identity_status, IdentityStatus::Active | IdentityStatus::Draining);
    let wrong = rows.into_iter().filter(is_member);
    let wrong: Vec<(NodeRow, RevocationKind)> =
        wrong.filter_map(|row| chain.gone(row.node.node).map(|kind| (row, kind))).collect();
    if wrong.is_empty() {
        return Ok(0);
    }
    let acting = Acting::alone("system", serving.keys.pen.clone(), serving.watch.clock.now().wall);
    let put_right =
        commit!(serving, &acting, |transaction| put_right(transaction, &acting, cluster, &wrong).await);
    for (row, _) in &wrong {
        let what = match &put_right {
            Ok(()) => {
                "its revocation is in force, its row said that it is a member, and the row was put right"
            }
            Err(_) => "its revocation is in force, its row says that it is a member, and cannot be put right",
        };
        alarm_about(&serving.watch, Reason::FloorHealed, &format!("node/{}", row.node.node), what).await;
    }
    put_right.map(|()| wrong.len())
}

async fn put_right(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    wrong: &[(NodeRow, RevocationKind)],
) -> Result<(), Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    for (row, kind) in wrong {
        let (node, to) = (row.node.node, status_after(*kind));
        if !node_status_set(transaction, &cluster.rows, node, row.identity_status, to).await? {
            return Err(Failure::new(Reason::RequestConflict, "the node changed meanwhile"));
        }
        let change = Change::of("floor.healed", format!("node/{node}")).inside(cluster.id);
        let change = change.owned_by(row.node.organization);
        change.touches(cluster.id, removal_scopes(node), true).record(transaction, acting).await?;
    }
    Ok(())
}

async fn put_back(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    lost: &[SignedCopy],
) -> Result<(), Failure> {
    for copy in lost {
        signed_copy_put(transaction, copy).await?;
        let (row, cluster) = (
            copy.row(),
            match copy {
                SignedCopy::Revocation { cluster, .. } => Some(*cluster),
                SignedCopy::RoleGrantSet { .. } | SignedCopy::RoleGrant { .. } => None,
            },
        );
        let change = Change::of("floor.healed", format!("{}/{}", row.table, row.key)).inside(cluster);
        change.record(transaction, acting).await?;
    }
    Ok(())
}

/// A document above the floor was never in force here.
fn counts(copy: &SignedCopy, floors: &ReplicaFloors) -> bool {
    let up_to = |of, sequence| floors.of(of).is_some_and(|floor| sequence <= floor.sequence);
    match copy {
        SignedCopy::RoleGrantSet { sequence, .. } => up_to(FloorOf::GrantSet, *sequence),
        // It counts only if a set names it.
        SignedCopy::RoleGrant { .. } => true,
        SignedCopy::Revocation { cluster, sequence, .. } => up_to(FloorOf::Revocations(*cluster), *sequence),
    }
}

/// Grants before the sets that name them; records in their order.
fn order(copy: &SignedCopy) -> (bool, u64) {
    match copy {
        SignedCopy::RoleGrant { .. } => (false, 0),
        SignedCopy::RoleGrantSet { sequence, .. } | SignedCopy::Revocation { sequence, .. } => {
            (true, *sequence)
        }
    }
}
