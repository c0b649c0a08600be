//! Proofs of key possession for enrollment, key rotation and login.
//!
//! Owns the fields that a proof covers. Refuses to own nonces and exporters: they belong to a TLS connection of the
//! server.

use rap_contract::{
    CERTIFICATE_PROOF, JOIN_PROOF, LEAVE_PROOF, LOGIN_PROOF, POLL_PROOF, PublicKey, ROTATE_KEY_PROOF, Reject,
    check_possession,
};
use rap_types::{ClusterId, Digest, InstallationId, NodeId, PlatformRole, Reason, TokenId};
use rap_wire::v1;

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
    check_possession(JOIN_PROOF, &proof, node_key, signature).map_err(|_| bad_proof())
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
    check_possession(POLL_PROOF, &proof, node_key, signature).map_err(|_| bad_proof())
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
    check_possession(CERTIFICATE_PROOF, &proof, node_key, signature).map_err(|_| bad_proof())
}

/// Checks that the node whose key this is leaves, here.
///
/// # Errors
/// `enrollment.proof`.
pub fn check_leave_proof(
    node: NodeId,
    cluster: ClusterId,
    node_key: &PublicKey,
    channel: &ProofChannel<'_>,
    signature: &[u8],
) -> Result<(), Reject> {
    let proof = v1::LeaveProof {
        node_id: node.to_vec(),
        cluster_id: cluster.to_vec(),
        node_public_key: node_key.to_vec(),
        nonce: channel.nonce.to_vec(),
        exporter: channel.exporter.to_vec(),
    };
    check_possession(LEAVE_PROOF, &proof, node_key, signature).map_err(|_| bad_proof())
}

/// Which keys a node replaces.
#[derive(Debug, Clone, Copy)]
pub struct KeyRotation {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its identity key before.
    pub key: PublicKey,
    /// Its identity key after, if it changes.
    pub new_key: Option<PublicKey>,
    /// Its WireGuard key after, if it changes.
    pub new_wireguard: Option<[u8; 32]>,
}

/// Checks that the holder of the present and of the new identity key replaces keys, here.
///
/// # Errors
/// `enrollment.proof`; also for a rotation that replaces nothing, or an identity by itself.
pub fn check_rotation_proof(
    rotation: &KeyRotation,
    channel: &ProofChannel<'_>,
    signature: &[u8],
    new_signature: &[u8],
) -> Result<(), Reject> {
    let KeyRotation { node, cluster, key, new_key, new_wireguard } = rotation;
    if (new_key.is_none() && new_wireguard.is_none()) || *new_key == Some(*key) {
        return Err(bad_proof());
    }
    let proof = v1::RotateKeyProof {
        node_id: node.to_vec(),
        cluster_id: cluster.to_vec(),
        node_public_key: key.to_vec(),
        new_node_public_key: new_key.map(PublicKey::to_vec).unwrap_or_default(),
        new_wireguard_public_key: new_wireguard.map(Vec::from).unwrap_or_default(),
        nonce: channel.nonce.to_vec(),
        exporter: channel.exporter.to_vec(),
    };
    let holds = |key: &PublicKey, signature: &[u8]| {
        check_possession(ROTATE_KEY_PROOF, &proof, key, signature).map_err(|_| bad_proof())
    };
    holds(key, signature)?;
    match new_key {
        Some(new_key) => holds(new_key, new_signature),
        None if new_signature.is_empty() => Ok(()),
        None => Err(bad_proof()),
    }
}

/// An operator's authority, as a signed document gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorGrant {
    /// The key that proves who it is.
    pub key: PublicKey,
    /// Name for audit and screens.
    pub name: String,
    /// Platform role.
    pub platform_role: PlatformRole,
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
    check_possession(LOGIN_PROOF, &proof, &key, signature).map_err(|_| refused())?;
    Ok(grant)
}

const fn bad_proof() -> Reject {
    Reject::new(Reason::EnrollmentProof, "signature by the node key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_contract::{Signer, sign_possession};

    #[test]
    fn a_login_proof_holds_for_its_connection_and_granted_key_only() {
        let owner = Signer::from_seed(&[1; 32]);
        let installation = InstallationId::from_bytes([9; 16]);
        let grants =
            [OperatorGrant { key: owner.public(), name: "o".into(), platform_role: PlatformRole::Owner }];
        let channel = ProofChannel { nonce: &[2; 32], exporter: &[3; 32] };
        let proof = |signer: &Signer, nonce: [u8; 32], exporter: [u8; 32]| {
            let proof = v1::LoginProof {
                installation_id: installation.to_vec(),
                operator_key: signer.public().to_vec(),
                nonce: nonce.to_vec(),
                exporter: exporter.to_vec(),
            };
            sign_possession(LOGIN_PROOF, &proof, signer)
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
}
