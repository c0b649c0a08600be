//! Replaces the identity key or the WireGuard key of a node.

use rap_authority::KeyRotation;
use rap_contract::{KnownRevocations, PublicKey, RevocationKind};
use rap_store::{
    NodeRow, StoreError, SystemTransaction, cluster_hold, node_identity_key_set, node_read,
    node_wireguard_key_set,
};
use rap_types::{Digest, KeyId, Reason};

use crate::acts::readmit::require_key;
use crate::acts::remove_node::write_record;
use crate::database::change::{Acting, Change};
use crate::failure::{Failure, refused};
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::watch::handle::Watch;

pub(crate) async fn write_node_key(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    rotation: &KeyRotation,
) -> Result<u64, Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let known = serving.revocations_now(transaction, cluster).await?;
    let row = node_read(transaction, &cluster.rows, rotation.node).await?.ok_or_else(refused)?;
    let present = row.node.node_public_key;
    let owns = |key: PublicKey| present == *key.as_bytes();
    // The answer to an earlier call may have been lost: then the new key is the present one.
    let holder = owns(rotation.key) || rotation.new_key.is_some_and(owns);
    if row.node.cluster != cluster.id || !holder {
        return Err(refused());
    }
    serving.require_member(&row, &known.chain)?;
    let identity = rotation.new_key.filter(|key| !owns(*key));
    let wireguard = rotation.new_wireguard.filter(|key| *key != row.node.wireguard_public_key);
    if identity.is_none() && wireguard.is_none() {
        return Ok(row.key_generation);
    }
    let generation = match identity {
        Some(key) => write_identity(&serving.watch, transaction, acting, cluster, known, &row, key).await?,
        None => row.key_generation,
    };
    if let Some(key) = wireguard {
        match node_wireguard_key_set(transaction, &cluster.rows, rotation.node, &key).await {
            Err(error) if error.is_exists("nodes_wireguard_key") => {
                return Err(Failure::new(Reason::EnrollmentKeyInUse, "another node has this WireGuard key"));
            }
            set => drop(set?),
        }
    }
    let node = rotation.node;
    let what = match (identity, wireguard) {
        (Some(_), Some(_)) => "identity and WireGuard key",
        (Some(_), None) => "identity key",
        _ => "WireGuard key",
    };
    let change = Change::of("node.key_rotate", format!("node/{node}")).inside(cluster.id);
    let change = change.owned_by(row.node.organization).before(Digest::of(&[&present]));
    let change = change.after(Digest::of(&[identity.unwrap_or(rotation.key).as_bytes()])).because(what);
    let scopes = ["trust".to_owned(), format!("peer/{node}"), format!("assignment/{node}")];
    change.touches(cluster.id, scopes, true).record(transaction, acting).await?;
    Ok(generation)
}

async fn write_identity(
    watch: &Watch,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    known: KnownRevocations,
    row: &NodeRow,
    key: PublicKey,
) -> Result<u64, Failure> {
    require_key(&known.chain, key.as_bytes())?;
    let kind = RevocationKind::KeyRotated(KeyId::of(key.as_bytes()));
    let acting = &Acting { reason: "the node rotated its key".to_owned(), ..acting.clone() };
    write_record(watch, transaction, acting, cluster, known, row, kind).await?;
    match node_identity_key_set(transaction, &cluster.rows, row.node.node, key.as_bytes()).await {
        Err(error) if error.is_exists("nodes_public_key") => {
            Err(Failure::new(Reason::EnrollmentKeyInUse, "another node has this key"))
        }
        set => Ok(set?.ok_or(StoreError::Absent)?),
    }
}
