//! Updates roles, tags and region of a node.

use rap_authority::check_tags;
use rap_store::{NodeRow, StoreError, SystemTransaction, cluster_hold, node_hold, node_read, node_write};
use rap_types::{Reason, Role};

use crate::acts::find_node::find_node;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::Cluster;

/// What an update sets; `None` leaves it.
pub(crate) struct NodeUpdate {
    pub(crate) roles: Option<Vec<Role>>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) region: Option<String>,
}

impl NodeUpdate {
    pub(crate) fn check(&self) -> Result<(), Failure> {
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

/// Updates the node with this name or id. Gives the node, and the version of the cluster that has the change.
///
/// # Errors
/// `node.unknown`; those of writing.
pub(crate) async fn write_update(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    name: &str,
    wanted: &NodeUpdate,
) -> Result<(NodeRow, u64), Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let row = find_node(transaction, cluster, name).await?;
    let node = row.node.node;
    let mut held = node_hold(transaction, &cluster.rows, node).await?.ok_or(StoreError::Absent)?;
    if let Some(roles) = &wanted.roles {
        held.node.roles.clone_from(roles);
    }
    if let Some(tags) = &wanted.tags {
        held.node.facts.tags.clone_from(tags);
    }
    if let Some(region) = &wanted.region {
        held.node.facts.region.clone_from(region);
    }
    node_write(transaction, &cluster.rows, held).await?;
    let change = Change::of("node.update", format!("node/{node}")).inside(cluster.id);
    let change = change.owned_by(row.node.organization);
    let scopes = [format!("peer/{node}"), format!("assignment/{node}")];
    let version = change.touches(cluster.id, scopes, false).record(transaction, acting).await?;
    let row = node_read(transaction, &cluster.rows, node).await?.ok_or(StoreError::Absent)?;
    Ok((row, version.unwrap_or_default()))
}
