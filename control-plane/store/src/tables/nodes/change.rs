//! Changes of one node: each holds the row, changes what it names, and writes it with a new MAC.

use rap_authority::RowKeys;
use rap_types::{IdentityStatus, NodeId};

use super::{NewNodeRow, NodeRow, node_hold, node_write};
use crate::Result;
use crate::authentic::Held;
use crate::transaction::SystemTransaction;

/// Makes a gone node a member again, under the next key generation, which is returned. Its key stays.
/// `None` if it is not gone. [`StoreError::Exists`] as for [`node_insert`].
pub async fn node_readmit(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &NewNodeRow,
) -> Result<Option<u64>> {
    let row = node_hold(transaction, keys, new.node).await?;
    let gone =
        |row: &Held<NodeRow>| matches!(row.identity_status, IdentityStatus::Revoked | IdentityStatus::Left);
    let Some(mut row) = row.filter(gone) else { return Ok(None) };
    let key = row.node.node_public_key;
    row.node = NewNodeRow { node_public_key: key, ..new.clone() };
    row.identity_status = IdentityStatus::Active;
    row.key_generation += 1;
    let generation = row.key_generation;
    node_write(transaction, keys, row).await?;
    Ok(Some(generation))
}

/// Moves a node from one status to another; revoked and left give its host number back. False if it
/// is not in status `from`.
pub async fn node_status_set(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    node: NodeId,
    from: IdentityStatus,
    to: IdentityStatus,
) -> Result<bool> {
    let Some(mut row) = node_hold(transaction, keys, node).await? else { return Ok(false) };
    if row.identity_status != from {
        return Ok(false);
    }
    row.identity_status = to;
    node_write(transaction, keys, row).await?;
    Ok(true)
}

/// Replaces a member's identity key under the next generation, which is returned. `None` if the node is
/// not a member.
pub async fn node_identity_key_set(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    node: NodeId,
    node_public_key: &[u8; 32],
) -> Result<Option<u64>> {
    let Some(mut row) = node_hold(transaction, keys, node).await?.filter(|row| is_member(row)) else {
        return Ok(None);
    };
    row.node.node_public_key = *node_public_key;
    row.key_generation += 1;
    let generation = row.key_generation;
    node_write(transaction, keys, row).await?;
    Ok(Some(generation))
}

/// Replaces a member's WireGuard key. False if it is the same or the node is not a member.
pub async fn node_wireguard_key_set(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    node: NodeId,
    wireguard_public_key: &[u8; 32],
) -> Result<bool> {
    let Some(mut row) = node_hold(transaction, keys, node).await?.filter(|row| is_member(row)) else {
        return Ok(false);
    };
    if row.node.wireguard_public_key == *wireguard_public_key {
        return Ok(false);
    }
    row.node.wireguard_public_key = *wireguard_public_key;
    node_write(transaction, keys, row).await?;
    Ok(true)
}

fn is_member(row: &NodeRow) -> bool {
    matches!(row.identity_status, IdentityStatus::Active | IdentityStatus::Draining)
}
