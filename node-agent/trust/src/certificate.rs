//! Asking for a leaf certificate: the proof by the identity key, and when to ask again.
//!
//! Owns the request and the schedule. Refuses to own X.509 and TLS keys.

use std::time::Duration;

use rap_contract::{CERTIFICATE_PROOF, LEAVE_PROOF, ROTATE_KEY_PROOF, Signer, sign_possession};
use rap_types::{ClusterId, Digest, NodeId, Reason, Wall};
use rap_wire::v1;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateSubject {
    /// Cluster of the membership.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// Builds the request for `csr` (DER PKCS#10), bound to one connection by nonce and exporter.
pub fn request(
    subject: CertificateSubject,
    identity: &Signer,
    csr: Vec<u8>,
    nonce: &[u8],
    exporter: &[u8; 32],
) -> v1::CertificateRequest {
    let proof = v1::CertificateProof {
        node_id: subject.node.to_vec(),
        cluster_id: subject.cluster.to_vec(),
        node_public_key: identity.public().to_vec(),
        csr_sha256: Digest::of(&[&csr]).to_vec(),
        nonce: nonce.to_vec(),
        exporter: exporter.to_vec(),
    };
    v1::CertificateRequest {
        signature: sign_possession(CERTIFICATE_PROOF, &proof, identity),
        cluster_id: proof.cluster_id,
        node_id: proof.node_id,
        node_public_key: proof.node_public_key,
        csr,
        nonce: proof.nonce,
    }
}

/// Builds the request by which a node leaves its cluster, bound to one connection by nonce and exporter.
pub fn leave_request(
    subject: CertificateSubject,
    identity: &Signer,
    nonce: &[u8],
    exporter: &[u8; 32],
) -> v1::LeaveRequest {
    let proof = v1::LeaveProof {
        node_id: subject.node.to_vec(),
        cluster_id: subject.cluster.to_vec(),
        node_public_key: identity.public().to_vec(),
        nonce: nonce.to_vec(),
        exporter: exporter.to_vec(),
    };
    v1::LeaveRequest {
        signature: sign_possession(LEAVE_PROOF, &proof, identity),
        cluster_id: proof.cluster_id,
        node_id: proof.node_id,
        node_public_key: proof.node_public_key,
        nonce: proof.nonce,
    }
}

/// The keys that a node replaces; at least one of the two.
#[derive(Debug, Clone, Copy)]
pub struct NewKeys<'a> {
    /// The new identity key.
    pub identity: Option<&'a Signer>,
    /// The new WireGuard public key.
    pub wireguard: Option<[u8; 32]>,
}

/// Builds the request by which a node replaces keys: signed by the present identity key and by the new one.
pub fn rotation_request(
    subject: CertificateSubject,
    identity: &Signer,
    new: NewKeys<'_>,
    nonce: &[u8],
    exporter: &[u8; 32],
) -> v1::RotateKeyRequest {
    let proof = v1::RotateKeyProof {
        node_id: subject.node.to_vec(),
        cluster_id: subject.cluster.to_vec(),
        node_public_key: identity.public().to_vec(),
        new_node_public_key: new.identity.map(|key| key.public().to_vec()).unwrap_or_default(),
        new_wireguard_public_key: new.wireguard.map(Vec::from).unwrap_or_default(),
        nonce: nonce.to_vec(),
        exporter: exporter.to_vec(),
    };
    let by_new = new.identity.map(|key| sign_possession(ROTATE_KEY_PROOF, &proof, key));
    v1::RotateKeyRequest {
        signature: sign_possession(ROTATE_KEY_PROOF, &proof, identity),
        new_signature: by_new.unwrap_or_default(),
        cluster_id: proof.cluster_id,
        node_id: proof.node_id,
        node_public_key: proof.node_public_key,
        new_node_public_key: proof.new_node_public_key,
        new_wireguard_public_key: proof.new_wireguard_public_key,
        nonce: proof.nonce,
    }
}

/// When to renew a leaf: at half its life.
pub fn renew_at(not_before: Wall, not_after: Wall) -> Wall {
    not_before.plus(not_after.since(not_before) / 2)
}

/// How long to wait after the `failures`-th failed attempt in a row: 1 s doubling, to 15 s while nobody
/// answers, because without a leaf the node is away until somebody does, and to 5 min after a refusal;
/// 5 min at once if the node is out of its cluster, which trying again does not change.
pub fn retry_after(failures: u32, reason: Reason) -> Duration {
    let doubled = Duration::from_secs(1u64 << failures.saturating_sub(1).min(9));
    if matches!(reason, Reason::NodeRevoked | Reason::NodeUnknown) {
        return LONGEST_RETRY;
    }
    doubled.min(if reason == Reason::ServerUnreachable { LONGEST_UNANSWERED } else { LONGEST_RETRY })
}

const LONGEST_UNANSWERED: Duration = Duration::from_secs(15);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use rap_contract::check_possession;

    #[test]
    fn the_proof_holds_for_this_connection_and_csr_only() {
        let identity = Signer::from_seed(&[3; 32]);
        let subject =
            CertificateSubject { cluster: ClusterId::from_bytes([1; 16]), node: NodeId::from_bytes([2; 16]) };
        let request = request(subject, &identity, b"csr".to_vec(), &[4; 32], &[5; 32]);
        let proof = |csr: &[u8], exporter: u8| v1::CertificateProof {
            node_id: subject.node.to_vec(),
            cluster_id: subject.cluster.to_vec(),
            node_public_key: identity.public().to_vec(),
            csr_sha256: Digest::of(&[csr]).to_vec(),
            nonce: vec![4; 32],
            exporter: vec![exporter; 32],
        };
        let holds = |csr: &[u8], exporter| {
            check_possession(CERTIFICATE_PROOF, &proof(csr, exporter), &identity.public(), &request.signature)
                .is_ok()
        };
        assert!(holds(b"csr", 5));
        assert!(!holds(b"other", 5));
        assert!(!holds(b"csr", 6));
    }

    #[test]
    fn renewal_is_due_at_half_life_and_retries_slow_down() {
        assert_eq!(renew_at(Wall(1_000), Wall(3_000)), Wall(2_000));
        let retry = |failures| retry_after(failures, Reason::ServerUnreachable);
        assert_eq!(retry(1), Duration::from_secs(1));
        assert_eq!(retry(4), Duration::from_secs(8));
        assert_eq!(retry(100), Duration::from_secs(15));
        assert_eq!(retry_after(100, Reason::RequestTimeout), Duration::from_secs(300));
        assert_eq!(retry_after(1, Reason::NodeRevoked), Duration::from_secs(300));
    }
}
