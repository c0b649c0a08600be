//! The planner's input for one cluster, as of one `config_seq`.

use rap_authority::RowKeys;
use rap_types::IdentityStatus;
use sqlx::PgConnection;

use super::cluster_keys::{ClusterCaRow, authority_sequence, cluster_cas_trusted};
use super::clusters::{ClusterRow, PolicyRow, cluster_read, policies_list};
use super::heads::{HeadRow, head_newest, head_newest_first};
use super::leaves::{LeafRow, leaves_changed, leaves_list};
use super::nodes::{NodeRow, nodes_among, nodes_list};
use super::outbox::nodes_touched;
use super::revocations::{RevocationRow, revocations_from};
use crate::StoreError;

/// One cluster at one version.
#[derive(Debug, Clone)]
pub struct PlannerRows {
    /// Whether `nodes`, `gone` and `leaves` are all of them, and not only those that changed.
    pub whole: bool,
    /// The cluster with its `config_seq` and incarnation.
    pub cluster: ClusterRow,
    /// The certificate authorities that nodes trust, older first: one or two.
    pub cas: Vec<ClusterCaRow>,
    /// Present nodes (active, draining) with their roles, by id.
    pub nodes: Vec<NodeRow>,
    /// Nodes whose rows say that they are gone (revoked, left), by id.
    pub gone: Vec<NodeRow>,
    /// Links of the chain of revocations from the position that was asked for.
    pub revocations: Vec<RevocationRow>,
    /// Policies by kind.
    pub policies: Vec<PolicyRow>,
    /// What the newest head said of each node, by node.
    pub leaves: Vec<LeafRow>,
    /// Place of the newest authority record.
    pub authority_sequence: u64,
    /// The newest head.
    pub head: Option<HeadRow>,
    /// The newest refresh-0 head.
    pub first_head: Option<HeadRow>,
}

/// Reads a cluster. The transaction is a REPEATABLE READ one, or holds the cluster's row: so the rows are exactly
/// those of the `config_seq` that comes with them. Each is as it was written: one tampered row is the answer
/// [`StoreError::Tampered`]. Of the chain of revocations only links from `revoked_from` on; of nodes and leaves
/// only what changed after the version `since` of an incarnation, if the outbox says which those are. `None` if
/// there is no such cluster or it has no CA yet.
pub async fn planner_rows(
    connection: &mut PgConnection,
    keys: &RowKeys,
    revoked_from: u64,
    since: Option<(u64, u64)>,
) -> Result<Option<PlannerRows>, StoreError> {
    let Some(row) = cluster_read(connection, keys).await? else { return Ok(None) };
    let cas = cluster_cas_trusted(connection, keys).await?;
    if cas.is_empty() {
        return Ok(None);
    }
    let since = since.filter(|(incarnation, version)| {
        *incarnation == row.cluster.incarnation && *version <= row.config_seq
    });
    let touched = match since {
        Some((_, version)) => nodes_touched(connection, keys.cluster(), version, row.config_seq).await?,
        None => None,
    };
    let (all, leaves) = match since.zip(touched.as_ref()) {
        Some(((incarnation, version), touched)) => (
            nodes_among(connection, keys, touched).await?,
            leaves_changed(connection, keys.cluster(), touched, incarnation, version).await?,
        ),
        None => (nodes_list(connection, keys).await?, leaves_list(connection, keys.cluster()).await?),
    };
    let policies = policies_list(connection, keys).await?;
    let authority_sequence = authority_sequence(connection, keys.cluster()).await?;
    let head = head_newest(connection, keys.cluster()).await?;
    let first_head = head_newest_first(connection, keys.cluster()).await?;
    let revocations = revocations_from(connection, keys.cluster(), revoked_from, REVOCATIONS_MOST).await?;

    let (mut nodes, mut gone) = (Vec::new(), Vec::new());
    for node in all {
        match node.identity_status {
            IdentityStatus::Active | IdentityStatus::Draining => nodes.push(node),
            IdentityStatus::Revoked | IdentityStatus::Left => gone.push(node),
            IdentityStatus::Pending => {}
        }
    }
    Ok(Some(PlannerRows {
        whole: touched.is_none(),
        cluster: row,
        cas,
        nodes,
        gone,
        revocations,
        policies,
        leaves,
        authority_sequence,
        head,
        first_head,
    }))
}

/// A chain longer than this is read in several goes.
pub const REVOCATIONS_MOST: u32 = 100_000;
