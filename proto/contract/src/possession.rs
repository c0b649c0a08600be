//! Proofs of key possession, each with its own context and bound to one TLS connection.

use prost::Message;

use crate::envelope::pre_authentication_encoding;
use crate::{PublicKey, Reject, Signer};

/// Label of the TLS exporter (32 bytes, empty context) that proofs are bound to.
pub const EXPORTER_LABEL: &str = "EXPORTER-rap-enroll-v1";

/// Context of `JoinProof`.
pub const JOIN_PROOF: &str = "application/vnd.rap.join-proof.v1+protobuf";
/// Context of `PollProof`.
pub const POLL_PROOF: &str = "application/vnd.rap.bootstrap-poll.v1+protobuf";
/// Context of `CertificateProof`.
pub const CERTIFICATE_PROOF: &str = "application/vnd.rap.certificate-proof.v1+protobuf";
/// Context of `LeaveProof`.
pub const LEAVE_PROOF: &str = "application/vnd.rap.leave-proof.v1+protobuf";
/// Context of `RotateKeyProof`.
pub const ROTATE_KEY_PROOF: &str = "application/vnd.rap.rotate-key-proof.v1+protobuf";
/// Context of `LoginProof`.
pub const LOGIN_PROOF: &str = "application/vnd.rap.login-proof.v1+protobuf";

/// Signs a proof message under its context.
pub fn sign_possession<M: Message>(context: &str, message: &M, signer: &Signer) -> Vec<u8> {
    signer.sign(&pre_authentication_encoding(context, &message.encode_to_vec())).to_vec()
}

/// Checks a proof that the verifier rebuilt from what it knows itself (nonce and exporter above all).
///
/// # Errors
/// `signature.invalid`.
pub fn check_possession<M: Message>(
    context: &str,
    message: &M,
    key: &PublicKey,
    signature: &[u8],
) -> Result<(), Reject> {
    key.verify(&pre_authentication_encoding(context, &message.encode_to_vec()), signature)
}
