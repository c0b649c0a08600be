//! A gone node that comes back under its own id: the next key generation, said by the chain.

use rap_contract::{KnownRevocations, RevocationChain, RevocationKind};
use rap_store::{NewNodeRow, NodeRow, PgConnection, StoreError, node_readmit, nodes_gone_by_key};
use rap_types::{KeyId, Reason};

use super::Approval;
use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::Failure;
use crate::grpc::membership::write_record;

/// The gone node whose id a key may have again.
pub(super) async fn candidate(
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
pub(super) async fn write(
    control: &Control,
    connection: &mut PgConnection,
    cluster: &Cluster,
    known: KnownRevocations,
    gone: &NodeRow,
    new: &NewNodeRow,
    approval: &Approval,
) -> Result<(Result<(), StoreError>, KnownRevocations), Failure> {
    let kind = RevocationKind::Readmitted(KeyId::of(&new.node_public_key));
    let known = write_record(control, connection, cluster, known, gone, kind, &approval.reason).await?;
    match node_readmit(connection, &cluster.rows, new).await {
        Ok(Some(generation)) if generation == gone.key_generation + 1 => Ok((Ok(()), known)),
        Ok(_) => Err(Failure::new(Reason::RequestConflict, "the node changed meanwhile")),
        Err(error) => Ok((Err(error), known)),
    }
}
