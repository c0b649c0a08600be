//! Approval: a pending request becomes a node with an address, a contract and a configuration change.
//!
//! Owns the order of writes inside the caller's transaction. The roles are those the token's
//! signature says, never those its row says.

use ipnet::{Ipv4Net, Ipv6Net};
use rap_authority::{
    ContractTerms, Decision, choose_node_name, decide_request, ids, reopen_token, sign_contract,
};
use rap_contract::{Document as _, Envelope, KnownRevocations, PublicKey, RevocationChain, Signer};
use rap_planner::addressing;
use rap_store::{
    AuditPen, JoinRequestRow, NewNodeRow, NodeFacts, NodeRow, PgConnection, StoreError, audit_insert,
    config_seq_allocate, host_number_allocate, host_number_reclaim, join_request_approve, node_by_key,
    node_insert, node_names_taken, node_read, outbox_append, token_read,
};
use rap_types::{Digest, KeyId, NodeId, Reason, RequestId, Wall};
use rap_wire::v1;

use super::readmit;
use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::{Failure, audit};

/// Who approves, and why.
#[derive(Debug)]
pub struct Approval {
    /// As the audit log names it.
    pub actor: String,
    /// Words of the operator.
    pub reason: String,
    /// The call.
    pub call: RequestId,
    /// What its audit row is written with.
    pub pen: AuditPen,
    /// A key that a gone node had gets that node's id again.
    pub keep_id: bool,
}

/// Approves one request. The caller holds the cluster's lock and read `known` under it, and holds the
/// request's lock unless it made it. Returns the chain with what was added.
pub async fn approve_request(
    control: &Control,
    connection: &mut PgConnection,
    cluster: &Cluster,
    known: KnownRevocations,
    row: &JoinRequestRow,
    approval: &Approval,
) -> Result<(NodeId, KnownRevocations), Failure> {
    decide_request(row.state, Decision::Approved)?;
    let request = &row.request;
    let facts = &control.installation.facts;
    let token = token_read(connection, &cluster.rows, request.token).await?.ok_or(StoreError::Absent)?;
    let signer = token_signer(cluster, &token.token.envelope)?;
    let terms = reopen_token(facts.id, cluster.id, &signer.public(), facts.dev, &token.token.envelope)?;
    if terms.id != request.token || terms.organization != request.organization {
        return Err(Failure::new(Reason::RowTampered, "join request"));
    }
    if node_by_key(connection, &cluster.rows, &request.node_public_key).await?.is_some() {
        return Err(Failure::new(Reason::EnrollmentKeyInUse, "the key belongs to a node of this cluster"));
    }
    require_key(&known.chain, &request.node_public_key)?;
    let now = control.clock.now().wall;
    let gone = if approval.keep_id {
        readmit::candidate(connection, cluster, &known.chain, &request.node_public_key).await?
    } else {
        None
    };
    let node = match &gone {
        Some(gone) => gone.node.node,
        None => NodeId::from_parts(ids::millis(now), ids::random(&mut rand::rng())),
    };
    let host_number = host_number(connection, cluster, node, gone.as_ref()).await?;
    let new = NewNodeRow {
        node,
        cluster: cluster.id,
        organization: terms.organization,
        name: free_name(connection, cluster, &request.name, host_number).await?,
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
        None => (node_insert(connection, &cluster.rows, &new).await, known),
        Some(gone) => readmit::write(control, connection, cluster, known, gone, &new, approval).await?,
    };
    match written {
        Err(error) if error.is_exists("nodes_wireguard_key") => {
            return Err(Failure::new(Reason::EnrollmentKeyInUse, "another node has this WireGuard key"));
        }
        written => written?,
    }
    let stored = node_read(connection, &cluster.rows, node).await?.ok_or(StoreError::Absent)?;
    let contract = contract(control, cluster, signer, row, &stored, now)?;
    join_request_approve(connection, &cluster.rows, request.request, node, &contract)
        .await?
        .ok_or_else(|| Failure::new(Reason::EnrollmentDecided, "the request was already decided"))?;
    let seq = config_seq_allocate(connection, cluster.id).await?;
    let touched = ["trust".to_owned(), format!("peer/{node}"), format!("assignment/{node}")];
    outbox_append(connection, cluster.id, seq, &touched, false).await?;
    let digest = Some(Digest::of(&[&contract]));
    let object = format!("node/{node}");
    let mut entry = audit(
        &approval.actor,
        "node.approve",
        object,
        Some(cluster.id),
        digest,
        &approval.reason,
        approval.call,
    );
    entry.organization = terms.organization;
    audit_insert(connection, &approval.pen, &entry).await?;
    Ok((node, known))
}

/// Refuses keys that never return.
///
/// # Errors
/// `node.revoked`.
pub(super) fn require_key(chain: &RevocationChain, node_public_key: &[u8; 32]) -> Result<(), Failure> {
    if chain.bars(&KeyId::of(node_public_key)) {
        return Err(Failure::new(Reason::NodeRevoked, "this key was banned or replaced and never returns"));
    }
    Ok(())
}

/// The number a gone node had, if nobody else has it by now; else a free one.
async fn host_number(
    connection: &mut PgConnection,
    cluster: &Cluster,
    node: NodeId,
    gone: Option<&NodeRow>,
) -> Result<u32, Failure> {
    if let Some(gone) = gone {
        let number = gone.node.host_number;
        if host_number_reclaim(connection, &cluster.rows, node, number).await? {
            return Ok(number);
        }
    }
    let capacity = addressing::capacity(cluster.ipv4_pool);
    host_number_allocate(connection, &cluster.rows, node, capacity)
        .await?
        .ok_or_else(|| Failure::new(Reason::OverlayExhausted, "the address pool has no free host number"))
}

/// The authority that signed a stored token: the key that its holder pinned, and so the one that signs
/// the answer.
pub fn token_signer<'a>(cluster: &'a Cluster, envelope: &[u8]) -> Result<&'a Signer, Failure> {
    let tampered = || Failure::new(Reason::RowTampered, "token envelope");
    let envelope = Envelope::decode(envelope, v1::JoinToken::SIZE_CAP).map_err(|_| tampered())?;
    cluster.token_authority(envelope.key_ids().next().ok_or_else(tampered)?)
}

/// Builds and signs the contract of an approved request from the node's present rows.
pub(super) fn contract(
    control: &Control,
    cluster: &Cluster,
    signer: &Signer,
    row: &JoinRequestRow,
    node: &NodeRow,
    now: Wall,
) -> Result<Vec<u8>, Failure> {
    let installation = &control.installation;
    let activation = installation.activated()?;
    let stored = &node.node;
    let (overlay_ipv4, overlay_ipv6) = overlay(cluster, stored.host_number)?;
    let terms = ContractTerms {
        installation: installation.facts.id,
        cluster: cluster.id,
        cluster_name: &cluster.name,
        incarnation: cluster.chain.incarnation(),
        dev: installation.facts.dev,
        request: row.request.request,
        token: row.request.token,
        nonce: &row.request.nonce,
        node: stored.node,
        node_key: PublicKey::from_slice(&stored.node_public_key)?,
        wireguard_key: &stored.wireguard_public_key,
        node_name: &stored.name,
        roles: &stored.roles,
        organization: stored.organization,
        tags: &stored.facts.tags,
        overlay_ipv4,
        overlay_ipv6,
        control_urls: &installation.control_urls,
        server_trust_pin: installation.facts.tls_ca_pin,
        activation_manifest: &activation.manifest,
        authority_records: &cluster.chain.envelopes(),
        cluster_ca: cluster.ca.certificate(),
    };
    Ok(sign_contract(&terms, signer, now))
}

fn overlay(cluster: &Cluster, host_number: u32) -> Result<(Ipv4Net, Ipv6Net), Failure> {
    let outside = || Failure::new(Reason::RowTampered, "host number outside the pool");
    let (ipv4, ipv6) =
        addressing::addresses(cluster.id, cluster.ipv4_pool, host_number).ok_or_else(outside)?;
    let ipv4 = Ipv4Net::new(ipv4, cluster.ipv4_pool.prefix_len()).map_err(|_| outside())?;
    let prefix = addressing::ipv6_prefix(cluster.id).prefix_len();
    Ok((ipv4, Ipv6Net::new(ipv6, prefix).map_err(|_| outside())?))
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
