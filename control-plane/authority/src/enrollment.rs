//! Enrollment: proofs of possession, the decision on a request, the bootstrap contract, login.
//!
//! Owns what a proof covers and which transitions a request may make. Refuses to own nonces and
//! exporters: those belong to one TLS connection in the server.

use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use rap_contract::{
    Audience, CERTIFICATE_PROOF, HeaderTerms, JOIN_PROOF, LOGIN_PROOF, POLL_PROOF, PublicKey, Reject, Signer,
    check_proof, sign,
};
use rap_types::{
    ClusterId, Digest, InstallationId, JoinRequestId, JoinState, NodeId, OrganizationId, Reason, Role,
    TokenId, Wall,
};
use rap_wire::v1;

use crate::{check_name, critical};

/// Life of a bootstrap contract.
pub const CONTRACT_LIFE: Duration = Duration::from_secs(3600);

/// The TLS connection a proof is bound to.
#[derive(Debug, Clone, Copy)]
pub struct ProofChannel<'a> {
    /// Nonce that this connection gave out.
    pub nonce: &'a [u8; 32],
    /// Exporter of this connection.
    pub exporter: &'a [u8; 32],
}

/// Checks that the holder of `node_key` asks to join with this token, here.
///
/// # Errors
/// `enrollment.proof`.
pub fn check_join_proof(
    token: TokenId,
    cluster: ClusterId,
    node_key: &PublicKey,
    wireguard_key: &[u8],
    channel: &ProofChannel<'_>,
    signature: &[u8],
) -> Result<(), Reject> {
    let proof = v1::JoinProof {
        token_id: token.to_vec(),
        cluster_id: cluster.to_vec(),
        node_public_key: node_key.to_vec(),
        wireguard_public_key: wireguard_key.to_vec(),
        nonce: channel.nonce.to_vec(),
        exporter: channel.exporter.to_vec(),
    };
    check_proof(JOIN_PROOF, &proof, node_key, signature).map_err(|_| bad_proof())
}

/// Checks that the holder of `node_key` asks about this request, here. `request` and `cluster` are
/// taken as sent: an unknown request fails the same way as a wrong key.
///
/// # Errors
/// `enrollment.proof`.
pub fn check_poll_proof(
    request: &[u8],
    cluster: &[u8],
    node_key: &PublicKey,
    wireguard_key: &[u8],
    channel: &ProofChannel<'_>,
    signature: &[u8],
) -> Result<(), Reject> {
    let proof = v1::PollProof {
        request_id: request.to_vec(),
        cluster_id: cluster.to_vec(),
        node_public_key: node_key.to_vec(),
        wireguard_public_key: wireguard_key.to_vec(),
        nonce: channel.nonce.to_vec(),
        exporter: channel.exporter.to_vec(),
    };
    check_proof(POLL_PROOF, &proof, node_key, signature).map_err(|_| bad_proof())
}

/// Checks that the node whose key this is asks for a certificate on this request, here.
///
/// # Errors
/// `enrollment.proof`.
pub fn check_certificate_proof(
    node: NodeId,
    cluster: ClusterId,
    node_key: &PublicKey,
    csr: &[u8],
    channel: &ProofChannel<'_>,
    signature: &[u8],
) -> Result<(), Reject> {
    let proof = v1::CertificateProof {
        node_id: node.to_vec(),
        cluster_id: cluster.to_vec(),
        node_public_key: node_key.to_vec(),
        csr_sha256: Digest::of(&[csr]).to_vec(),
        nonce: channel.nonce.to_vec(),
        exporter: channel.exporter.to_vec(),
    };
    check_proof(CERTIFICATE_PROOF, &proof, node_key, signature).map_err(|_| bad_proof())
}

/// An operator's authority, as a signed document gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorGrant {
    /// The key that proves who it is.
    pub key: PublicKey,
    /// Name for audit and screens.
    pub name: String,
    /// Platform role.
    pub platform_role: &'static str,
}

/// Decides on a login: the presented key must be one that a verified document grants, and its holder
/// must be at the other end of this connection.
///
/// # Errors
/// `login.refused`, for whatever cause.
pub fn decide_login<'a>(
    installation: InstallationId,
    grants: &'a [OperatorGrant],
    operator_key: &[u8],
    channel: &ProofChannel<'_>,
    signature: &[u8],
) -> Result<&'a OperatorGrant, Reject> {
    let refused = || Reject::new(Reason::LoginRefused, "operator key or proof");
    let key = PublicKey::from_slice(operator_key).map_err(|_| refused())?;
    let grant = grants.iter().find(|grant| grant.key == key).ok_or_else(refused)?;
    let proof = v1::LoginProof {
        installation_id: installation.to_vec(),
        operator_key: key.to_vec(),
        nonce: channel.nonce.to_vec(),
        exporter: channel.exporter.to_vec(),
    };
    check_proof(LOGIN_PROOF, &proof, &key, signature).map_err(|_| refused())?;
    Ok(grant)
}

/// What an operator, or the token itself, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The host becomes a node.
    Approved,
    /// It does not.
    Denied,
}

/// The state a request goes to. Only a pending one goes anywhere; deciding the same again is refused
/// too, so that nobody believes to have decided what another did.
///
/// # Errors
/// `enrollment.decided`.
pub fn decide_request(state: JoinState, decision: Decision) -> Result<JoinState, Reject> {
    match (state, decision) {
        (JoinState::Pending, Decision::Approved) => Ok(JoinState::Approved),
        (JoinState::Pending, Decision::Denied) => Ok(JoinState::Denied),
        (JoinState::Approved | JoinState::Denied, Decision::Approved | Decision::Denied) => {
            Err(Reject::new(Reason::EnrollmentDecided, "join request"))
        }
    }
}

/// The name a node gets: the wished one if it is a label and free, else one with its host number.
pub fn choose_node_name(wished: &str, free: impl Fn(&str) -> bool, host_number: u32) -> String {
    let wished = wished.to_ascii_lowercase();
    let wished = wished.split('.').next().unwrap_or_default();
    if check_name(wished).is_ok() && free(wished) {
        return wished.to_owned();
    }
    let stem = if check_name(wished).is_ok() && wished.len() <= 50 { wished } else { "node" };
    let numbered = format!("{stem}-{host_number}");
    if free(&numbered) { numbered } else { format!("{stem}-{host_number}-{}", stem.len()) }
}

/// Admits endpoints a host advertises: at most 16, each HOST:PORT.
///
/// # Errors
/// `request.invalid`.
pub fn check_endpoints(endpoints: &[String]) -> Result<(), Reject> {
    let fine = |endpoint: &String| {
        endpoint.len() <= 255
            && endpoint.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty()
                    && port.parse::<u16>().is_ok_and(|port| port != 0)
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
            })
    };
    if endpoints.len() <= 16 && endpoints.iter().all(fine) {
        Ok(())
    } else {
        Err(Reject::new(Reason::RequestInvalid, "endpoints"))
    }
}

/// Admits a WireGuard public key: 32 bytes, not zero.
///
/// # Errors
/// `key.invalid`.
pub fn check_wireguard_key(key: &[u8]) -> Result<[u8; 32], Reject> {
    let invalid = |what| Reject::new(Reason::KeyInvalid, what);
    let key: [u8; 32] = key.try_into().map_err(|_| invalid("a WireGuard key has 32 bytes"))?;
    // The points of small order under any clamped scalar lead to an all-zero secret.
    if SMALL_ORDER.contains(&key) { Err(invalid("WireGuard key of small order")) } else { Ok(key) }
}

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
                installation: terms.installation,
                cluster: terms.cluster,
                audience: Audience::Key(terms.node_key.id()),
                issuer: authority.id(),
                incarnation: terms.incarnation,
                sequence: 1,
                issued_at: now,
                expires_at: Some(now.plus(CONTRACT_LIFE)),
                critical: critical(terms.dev),
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

const fn bad_proof() -> Reject {
    Reject::new(Reason::EnrollmentProof, "signature by the node key")
}

/// X25519 points of small order below 2^255 (RFC 7748 section 7; list from the curve's definition).
const SMALL_ORDER: [[u8; 32]; 2] = {
    let mut one = [0; 32];
    one[0] = 1;
    [[0; 32], one]
};

#[cfg(test)]
mod tests {
    use super::*;
    use rap_contract::{BootstrapExpectation, open_bootstrap, sign_proof};

    const NOW: Wall = Wall(1_800_000_000_000);

    #[test]
    fn only_a_pending_request_can_be_decided() {
        let table = [
            (JoinState::Pending, Decision::Approved, Some(JoinState::Approved)),
            (JoinState::Pending, Decision::Denied, Some(JoinState::Denied)),
            (JoinState::Approved, Decision::Approved, None),
            (JoinState::Approved, Decision::Denied, None),
            (JoinState::Denied, Decision::Approved, None),
            (JoinState::Denied, Decision::Denied, None),
        ];
        assert_eq!(table.len(), JoinState::ALL.len() * 2);
        for (state, decision, next) in table {
            assert_eq!(decide_request(state, decision).ok(), next, "{state} {decision:?}");
        }
    }

    #[test]
    fn a_login_proof_holds_for_its_connection_and_granted_key_only() {
        let owner = Signer::from_seed(&[1; 32]);
        let installation = InstallationId::from_bytes([9; 16]);
        let grants =
            [OperatorGrant { key: owner.public(), name: "o".into(), platform_role: "platform_owner" }];
        let channel = ProofChannel { nonce: &[2; 32], exporter: &[3; 32] };
        let proof = |signer: &Signer, nonce: [u8; 32], exporter: [u8; 32]| {
            let proof = v1::LoginProof {
                installation_id: installation.to_vec(),
                operator_key: signer.public().to_vec(),
                nonce: nonce.to_vec(),
                exporter: exporter.to_vec(),
            };
            sign_proof(LOGIN_PROOF, &proof, signer)
        };
        let login = |signer: &Signer, signature: &[u8]| {
            decide_login(installation, &grants, &signer.public().to_vec(), &channel, signature).is_ok()
        };
        assert!(login(&owner, &proof(&owner, [2; 32], [3; 32])));
        assert!(!login(&owner, &proof(&owner, [2; 32], [4; 32])));
        assert!(!login(&owner, &proof(&owner, [4; 32], [3; 32])));
        let stranger = Signer::from_seed(&[5; 32]);
        assert!(!login(&stranger, &proof(&stranger, [2; 32], [3; 32])));
    }

    #[test]
    fn node_names_fall_back_to_the_host_number() {
        let taken = |name: &str| name != "web";
        assert_eq!(choose_node_name("db", taken, 7), "db");
        assert_eq!(choose_node_name("DB.example.com", taken, 7), "db");
        assert_eq!(choose_node_name("web", taken, 7), "web-7");
        assert_eq!(choose_node_name("", taken, 7), "node-7");
        assert_eq!(choose_node_name("a b;c", taken, 7), "node-7");
    }

    #[test]
    fn endpoints_and_wireguard_keys_are_bounded() {
        assert!(check_endpoints(&["h:1".into(), "[fd00::1]:7443".into(), "10.0.0.1:7443".into()]).is_ok());
        for bad in ["h", "h:0", "h:70000", ":1", "a b:1", "h:1\n"] {
            assert!(check_endpoints(&[bad.into()]).is_err(), "{bad:?}");
        }
        assert!(check_endpoints(&vec!["h:1".to_owned(); 17]).is_err());
        assert!(check_wireguard_key(&[7; 32]).is_ok());
        assert!(check_wireguard_key(&[7; 31]).is_err());
        assert!(check_wireguard_key(&[0; 32]).is_err());
    }

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
