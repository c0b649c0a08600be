//! A gone node that comes back under its own id: the next key generation, said by the chain.

use rap_contract::{KnownRevocations, RevocationChain, RevocationKind};
use rap_store::{
    NewNodeRow, NodeRow, PgConnection, StoreError, SystemTransaction, node_readmit, nodes_gone_by_key,
};
use rap_types::{KeyId, Reason};

use crate::acts::remove_node::write_record;
use crate::database::change::Acting;
use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::watch::handle::Watch;

/// Refuses keys that never return.
///
/// # Errors
/// `node.revoked`.
pub(crate) fn require_key(chain: &RevocationChain, node_public_key: &[u8; 32]) -> Result<(), Failure> {
    if chain.bars(&KeyId::of(node_public_key)) {
        return Err(Failure::new(Reason::NodeRevoked, "this key was banned or replaced and never returns"));
    }
    Ok(())
}

/// The gone node whose id a key may have again.
pub(crate) async fn candidate(
    connection: &mut PgConnection,
    cluster: &Cluster,
    chain: &RevocationChain,
    node_public_key: &[u8; 32],
) -> Result<Option<NodeRow>, Failure> {
    let gone = nodes_gone_by_key(connection, &cluster.rows, node_public_key).await?;
    let may = |row: &NodeRow| chain.gone(row.node.node).is_some_and(|kind| kind != RevocationKind::Banned);
    Ok(gone.into_iter().find(may))
}

/// Records the return and writes the row. The inner error is of a name, number or key that is taken.
pub(crate) async fn write(
    watch: &Watch,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    known: KnownRevocations,
    gone: &NodeRow,
    new: &NewNodeRow,
) -> Result<(Result<(), StoreError>, KnownRevocations), Failure> {
    let kind = RevocationKind::Readmitted(KeyId::of(&new.node_public_key));
    let known = write_record(watch, transaction, acting, cluster, known, gone, kind).await?;
    match node_readmit(transaction, &cluster.rows, new).await {
        Ok(Some(generation)) if generation == gone.key_generation + 1 => Ok((Ok(()), known)),
        Ok(_) => Err(Failure::new(Reason::RequestConflict, "the node changed meanwhile")),
        Err(error) => Ok((Err(error), known)),
    }
}
