//! The bootstrap contract of an approved node.

use ipnet::{Ipv4Net, Ipv6Net};
use rap_authority::{ContractTerms, sign_contract};
use rap_contract::{PublicKey, Signer};
use rap_planner::addressing;
use rap_store::{JoinRequestRow, NodeRow};
use rap_types::{Reason, Wall};

use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::cluster::Cluster;

/// Builds and signs the contract of an approved request from the node's present rows.
pub(crate) fn contract(
    keys: &Keys,
    cluster: &Cluster,
    signer: &Signer,
    row: &JoinRequestRow,
    node: &NodeRow,
    now: Wall,
) -> Result<Vec<u8>, Failure> {
    tracing::trace!(way = "the contract is signed");
    let installation = &keys.installation;
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
