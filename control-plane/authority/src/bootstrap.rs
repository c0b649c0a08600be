//! The bootstrap contract: the signed answer to an approved request.

use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use rap_contract::{Audience, HeaderTerms, PublicKey, Signer, sign};
use rap_types::{
    ClusterId, Digest, InstallationId, JoinRequestId, NodeId, OrganizationId, Role, TokenId, Wall,
};
use rap_wire::v1;

use crate::critical;

/// Life of a bootstrap contract.
pub const CONTRACT_LIFE: Duration = Duration::from_secs(3600);

/// Everything a bootstrap contract says.
#[derive(Debug, Clone)]
pub struct ContractTerms<'a> {
    /// Installation.
    pub installation: InstallationId,
    /// Cluster.
    pub cluster: ClusterId,
    /// Cluster name.
    pub cluster_name: &'a str,
    /// Incarnation of the authority.
    pub incarnation: u64,
    /// True for a development installation.
    pub dev: bool,
    /// Request it answers.
    pub request: JoinRequestId,
    /// Token used.
    pub token: TokenId,
    /// Nonce of the join request.
    pub nonce: &'a [u8],
    /// Id given to the node.
    pub node: NodeId,
    /// The node's own key.
    pub node_key: PublicKey,
    /// The node's own WireGuard key.
    pub wireguard_key: &'a [u8],
    /// Name given to the node.
    pub node_name: &'a str,
    /// Roles.
    pub roles: &'a [Role],
    /// Organization.
    pub organization: Option<OrganizationId>,
    /// Tags.
    pub tags: &'a [String],
    /// The node's IPv4 address with the pool's prefix length.
    pub overlay_ipv4: Ipv4Net,
    /// The node's IPv6 address with the prefix length of the cluster.
    pub overlay_ipv6: Ipv6Net,
    /// Where nodes reach the control plane.
    pub control_urls: &'a [String],
    /// SHA-256 of the TLS CA's SPKI.
    pub server_trust_pin: Digest,
    /// Encoded activation manifest.
    pub activation_manifest: &'a [u8],
    /// Encoded authority records.
    pub authority_records: &'a [Vec<u8>],
    /// DER of the cluster's CA.
    pub cluster_ca: &'a [u8],
}

/// Builds and signs the contract that answers an approved request.
pub fn sign_contract(terms: &ContractTerms<'_>, authority: &Signer, now: Wall) -> Vec<u8> {
    let contract = v1::BootstrapContract {
        header: Some(
            HeaderTerms {
                audience: Audience::Key(terms.node_key.id()),
                incarnation: terms.incarnation,
                expires_at: Some(now.plus(CONTRACT_LIFE)),
                critical: critical(terms.dev),
                ..HeaderTerms::of_cluster(terms.installation, terms.cluster, authority.id(), now)
            }
            .to_wire(),
        ),
        request_id: terms.request.to_vec(),
        token_id: terms.token.to_vec(),
        nonce: terms.nonce.to_vec(),
        node_id: terms.node.to_vec(),
        node_public_key: terms.node_key.to_vec(),
        wireguard_public_key: terms.wireguard_key.to_vec(),
        node_name: terms.node_name.to_owned(),
        roles: terms.roles.iter().map(ToString::to_string).collect(),
        organization_id: terms.organization.map(OrganizationId::to_vec).unwrap_or_default(),
        tags: terms.tags.to_vec(),
        overlay_ipv4: terms.overlay_ipv4.to_string(),
        overlay_ipv6: terms.overlay_ipv6.to_string(),
        control_urls: terms.control_urls.to_vec(),
        server_trust_pin: terms.server_trust_pin.to_vec(),
        activation_manifest: terms.activation_manifest.to_vec(),
        authority_records: terms.authority_records.to_vec(),
        cluster_ca: terms.cluster_ca.to_vec(),
        cluster_name: terms.cluster_name.to_owned(),
    };
    sign(&contract, &[authority])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_contract::{BootstrapExpectation, open_bootstrap};
    use rap_types::Reason;

    const NOW: Wall = Wall(1_800_000_000_000);

    #[test]
    fn a_contract_answers_exactly_its_request() {
        let mut generator = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1);
        let installation = InstallationId::from_bytes([1; 16]);
        let root = Signer::from_seed(&[1; 32]);
        let installation_authority = Signer::from_seed(&[2; 32]);
        let timing = crate::ClusterTiming {
            fresh_for: Duration::from_secs(300),
            degraded_for: Duration::from_secs(43_200),
            refresh_every: Duration::from_secs(30),
            leaf_lifetime: Duration::from_secs(86_400),
        };
        let cluster = crate::create_cluster(
            installation,
            &installation_authority,
            false,
            &crate::ClusterOrder { name: "prod", ipv4_pool: "", timing },
            NOW,
            &mut generator,
        )
        .unwrap();
        let pin = Digest::of(&[b"ca"]);
        let facts = crate::InstallationFacts {
            id: installation,
            authority: installation_authority.public(),
            tls_ca_pin: pin,
            request_nonce: [4; 32],
            dev: false,
        };
        let request = crate::activation_request(&facts, &installation_authority, &[], NOW);
        let owner = Signer::from_seed(&[8; 32]).public();
        let manifest = crate::answer_activation_request(&request, &root, "o", &owner, NOW).unwrap();
        let node = Signer::from_seed(&[7; 32]);
        let terms = ContractTerms {
            installation,
            cluster: cluster.id,
            cluster_name: "prod",
            incarnation: cluster.incarnation,
            dev: false,
            request: JoinRequestId::from_bytes([5; 16]),
            token: TokenId::from_bytes([6; 16]),
            nonce: &[9; 32],
            node: NodeId::from_bytes([10; 16]),
            node_key: node.public(),
            wireguard_key: &[11; 32],
            node_name: "web",
            roles: &[Role::Core],
            organization: None,
            tags: &[],
            overlay_ipv4: "100.96.0.1/16".parse().unwrap(),
            overlay_ipv6: "fd00::1/48".parse().unwrap(),
            control_urls: &["https://h:8443".into()],
            server_trust_pin: pin,
            activation_manifest: &manifest,
            authority_records: std::slice::from_ref(&cluster.record),
            cluster_ca: b"der",
        };
        let bytes = sign_contract(&terms, &cluster.authority, NOW);
        let known = BootstrapExpectation {
            installation,
            cluster: cluster.id,
            authority: cluster.authority.public(),
            server_trust_pin: pin.as_bytes(),
            node_key: node.public(),
            wireguard_key: &[11; 32],
            token: terms.token,
            request: terms.request,
            nonce: &[9; 32],
            now: NOW,
            features: &[],
        };
        let opened = open_bootstrap(&bytes, &known).unwrap();
        assert_eq!(opened.node, terms.node);
        let other = BootstrapExpectation { nonce: &[0; 32], ..known };
        assert_eq!(open_bootstrap(&bytes, &other).unwrap_err().reason, Reason::ContractMismatch);
        let late = BootstrapExpectation { now: NOW.plus(CONTRACT_LIFE), ..known };
        assert_eq!(open_bootstrap(&bytes, &late).unwrap_err().reason, Reason::HeaderExpired);
    }
}
