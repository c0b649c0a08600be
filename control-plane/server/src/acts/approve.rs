//! Approval: a pending request becomes a node with an address, a contract and a configuration change.
//!
//! Owns the order of writes inside the caller's transaction. The roles are those the token's
//! signature says, never those its row says.

use rap_authority::{Decision, choose_node_name, decide_request, ids, reopen_token};
use rap_contract::KnownRevocations;
use rap_planner::addressing;
use rap_store::{
    Held, JoinRequestRow, NewNodeRow, NodeFacts, NodeRow, PgConnection, StoreError, SystemTransaction,
    cluster_hold, host_number_allocate, host_number_reclaim, join_request_approve, join_request_deny,
    join_request_hold, node_by_key, node_insert, node_names_taken, node_read, plain_scope, token_read,
};
use rap_types::{Digest, JoinRequestId, NodeId, Reason, limits};

use crate::acts::contract::contract;
use crate::acts::policy::read_policy;
use crate::acts::readmit;
use crate::acts::readmit::require_key;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::{Cluster, token_signer};
use crate::serve::handle::Serving;
use crate::watch::handle::Watch;

pub(crate) async fn write_approvals(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    ids: &[JoinRequestId],
    keep_ids: bool,
) -> Result<Vec<NodeRow>, Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let mut known = serving.revocations_now(transaction, cluster).await?;
    let keep_id = keep_ids || read_policy(transaction, cluster).await?.keep_ids;
    let mut nodes = Vec::new();
    for id in ids {
        let request = locked(transaction, cluster, *id).await?;
        let (node, next) =
            approve_request(&serving.watch, transaction, acting, cluster, known, &request, keep_id).await?;
        known = next;
        nodes.push(node_read(transaction, &cluster.rows, node).await?.ok_or(StoreError::Absent)?);
    }
    Ok(nodes)
}

pub(crate) async fn write_denials(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    ids: &[JoinRequestId],
) -> Result<Vec<JoinRequestRow>, Failure> {
    let mut denied = Vec::new();
    for id in ids {
        let request = locked(transaction, cluster, *id).await?;
        rap_authority::decide_request(request.state, rap_authority::Decision::Denied)?;
        let row = join_request_deny(transaction, &cluster.rows, *id, &acting.reason)
            .await?
            .ok_or(StoreError::Absent)?;
        let change = Change::of("node.deny", format!("join-request/{id}")).inside(cluster.id);
        change.owned_by(row.request.organization).record(transaction, acting).await?;
        denied.push(row);
    }
    Ok(denied)
}

async fn locked(
    connection: &mut PgConnection,
    cluster: &Cluster,
    id: JoinRequestId,
) -> Result<JoinRequestRow, Failure> {
    let row = join_request_hold(connection, &cluster.rows, id).await?.map(Held::into_inner);
    row.filter(|row| row.request.cluster == cluster.id)
        .ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such join request in this cluster"))
}

/// Approves one request. The caller holds the cluster's lock and read `known` under it, and holds the
/// request's lock unless it made it. Returns the chain with what was added.
pub(crate) async fn approve_request(
    watch: &Watch,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    known: KnownRevocations,
    row: &JoinRequestRow,
    keep_id: bool,
) -> Result<(NodeId, KnownRevocations), Failure> {
    tracing::trace!(way = "a request becomes a node");
    decide_request(row.state, Decision::Approved)?;
    let request = &row.request;
    let facts = &watch.keys.installation.facts;
    let token = token_read(transaction, &cluster.rows, request.token).await?.ok_or(StoreError::Absent)?;
    let signer = token_signer(cluster, &token.token.envelope)?;
    let terms = reopen_token(facts.id, cluster.id, &signer.public(), facts.dev, &token.token.envelope)?;
    if terms.id != request.token || terms.organization != request.organization {
        return Err(Failure::new(Reason::RowTampered, "join request"));
    }
    if node_by_key(transaction, &cluster.rows, &request.node_public_key).await?.is_some() {
        return Err(Failure::new(Reason::EnrollmentKeyInUse, "the key belongs to a node of this cluster"));
    }
    require_key(&known.chain, &request.node_public_key)?;
    let now = watch.clock.now().wall;
    let gone = if keep_id {
        readmit::candidate(transaction, cluster, &known.chain, &request.node_public_key).await?
    } else {
        None
    };
    let node = match &gone {
        Some(gone) => gone.node.node,
        None => NodeId::from_parts(ids::millis(now), ids::random(&mut rand::rng())),
    };
    let host_number = host_number(transaction, cluster, node, gone.as_ref()).await?;
    let new = NewNodeRow {
        node,
        cluster: cluster.id,
        organization: terms.organization,
        name: free_name(transaction, cluster, &request.name, host_number).await?,
        node_public_key: request.node_public_key,
        wireguard_public_key: request.wireguard_public_key,
        host_number,
        roles: terms.roles.clone(),
        ephemeral: terms.ephemeral,
        facts: NodeFacts {
            link_endpoints: strings(&request.advertise["link"]),
            wireguard_endpoints: strings(&request.advertise["wireguard"]),
            region: request.facts["region"].as_str().unwrap_or_default().to_owned(),
            tags: terms.tags.clone(),
            capabilities: strings(&request.facts["capabilities"]),
        },
    };
    let (written, known) = match &gone {
        None => (node_insert(transaction, &cluster.rows, &new).await, known),
        Some(gone) => readmit::write(watch, transaction, acting, cluster, known, gone, &new).await?,
    };
    match written {
        Err(error) if error.is_exists("nodes_wireguard_key") => {
            return Err(Failure::new(Reason::EnrollmentKeyInUse, "another node has this WireGuard key"));
        }
        written => written?,
    }
    check_scope(plain_scope(transaction, cluster.id, terms.organization).await?)?;
    let stored = node_read(transaction, &cluster.rows, node).await?.ok_or(StoreError::Absent)?;
    let contract = contract(&watch.keys, cluster, signer, row, &stored, now)?;
    join_request_approve(transaction, &cluster.rows, request.request, node, &contract)
        .await?
        .ok_or_else(|| Failure::new(Reason::EnrollmentDecided, "the request was already decided"))?;
    let change = Change::of("node.approve", format!("node/{node}")).inside(cluster.id);
    let change = change.owned_by(terms.organization).after(Digest::of(&[&contract]));
    let scopes = ["trust".to_owned(), format!("peer/{node}"), format!("assignment/{node}")];
    change.touches(cluster.id, scopes, false).record(transaction, acting).await?;
    Ok((node, known))
}

/// Refuses what would make a node without a role know too many peers.
fn check_scope((known, plain): (u64, u64)) -> Result<(), Failure> {
    if plain == 0 || known <= limits::PLAIN_PEERS_MAX as u64 + 1 {
        return Ok(());
    }
    let what = "a node without a role would know more than 2,048 peers: give new nodes a role, or another organization";
    Err(Failure::new(Reason::PlannerScopeTooLarge, what))
}

/// The number a gone node had, if nobody else has it by now; else a free one.
pub(crate) async fn host_number(
    transaction: &mut SystemTransaction,
    cluster: &Cluster,
    node: NodeId,
    gone: Option<&NodeRow>,
) -> Result<u32, Failure> {
    if let Some(gone) = gone {
        let number = gone.node.host_number;
        if host_number_reclaim(transaction, &cluster.rows, node, number).await? {
            return Ok(number);
        }
    }
    let capacity = addressing::capacity(cluster.ipv4_pool);
    host_number_allocate(transaction, &cluster.rows, node, capacity)
        .await?
        .ok_or_else(|| Failure::new(Reason::OverlayExhausted, "the address pool has no free host number"))
}

async fn free_name(
    connection: &mut PgConnection,
    cluster: &Cluster,
    wished: &str,
    host_number: u32,
) -> Result<String, Failure> {
    let candidates =
        vec![wished.to_owned(), format!("{wished}-{host_number}"), format!("node-{host_number}")];
    let taken = node_names_taken(connection, cluster.id, &candidates).await?;
    Ok(choose_node_name(wished, |name| !taken.iter().any(|taken| taken == name), host_number))
}

fn strings(value: &serde_json::Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_role_knows_2048_peers_and_not_one_more() {
        assert!(check_scope((2049, 1)).is_ok());
        assert_eq!(check_scope((2050, 1)).unwrap_err().reason, Reason::PlannerScopeTooLarge);
        assert!(check_scope((5000, 0)).is_ok(), "nobody without a role");
    }
}
