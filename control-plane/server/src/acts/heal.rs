//! Puts signed documents back that the database had and lost: an ordinary failover that loses one commit locks nobody out.
//!
//! Owns when a copy is put back: up to this replica's floor, and kept after the last restore from a backup. Who restores
//! means what the backup says, and confirms the floors.

use rap_authority::{FloorOf, ReplicaFloors};
use rap_store::{SignedCopy, SystemTransaction, restore_newest, signed_copy_is_stored, signed_copy_put};
use rap_types::Reason;

use crate::acts::change::commit;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::handle::Serving;
use crate::watch::raise::alarm_about;

/// Puts back what is missing. Gives how many documents that were.
///
/// # Errors
/// Errors of the database; `row.tampered` if the database undoes what is put back.
pub(crate) async fn heal(serving: &Serving) -> Result<usize, Failure> {
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
