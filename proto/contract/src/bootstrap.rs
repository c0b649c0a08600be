//! The bootstrap contract: the signed answer to an approved join.

use rap_types::{ClusterId, InstallationId, JoinRequestId, NodeId, Reason, TokenId, Wall};
use rap_wire::v1;

use crate::{Audience, AuthorityChain, Expectation, KeySet, PublicKey, Reject, Verified, verify};

/// What the applicant knows before the answer.
#[derive(Debug, Clone, Copy)]
pub struct BootstrapExpectation<'a> {
    /// Installation named by the token.
    pub installation: InstallationId,
    /// Cluster named by the token.
    pub cluster: ClusterId,
    /// Authority key pinned by the token.
    pub authority: PublicKey,
    /// SHA-256 of the server's TLS CA SPKI, pinned by the token.
    pub server_trust_pin: &'a [u8],
    /// Own node key.
    pub node_key: PublicKey,
    /// Own WireGuard public key.
    pub wireguard_key: &'a [u8],
    /// Token used.
    pub token: TokenId,
    /// Request made.
    pub request: JoinRequestId,
    /// Nonce of the join request.
    pub nonce: &'a [u8],
    /// Time of acceptance.
    pub now: Wall,
    /// Critical features known.
    pub features: &'a [&'a str],
}

/// A contract that answers this applicant's request, with its chain verified.
#[derive(Debug, Clone)]
pub struct VerifiedBootstrap {
    /// The contract.
    pub contract: Verified<v1::BootstrapContract>,
    /// The id given to this node.
    pub node: NodeId,
    /// The cluster's authority records.
    pub chain: AuthorityChain,
    /// The installation authority key, pinned from the activation manifest.
    pub installation_authority: PublicKey,
}

/// Verifies a contract and that it answers exactly this request.
///
/// The activation manifest inside is not checked against a Product Root here (a node need not hold it);
/// it must name the pinned server CA and an authority whose records lead to the pinned cluster key, or over
/// it to the key that replaced it.
///
/// # Errors
/// Those of [`verify`], `contract.mismatch`, `authority.mismatch`, `pin.mismatch`, those of the chain.
pub fn open_bootstrap(bytes: &[u8], known: &BootstrapExpectation<'_>) -> Result<VerifiedBootstrap, Reject> {
    let audience = [Audience::Key(known.node_key.id())];
    let within = Expectation::within(known.installation, known.cluster, known.features);
    let expect = Expectation { now: Some(known.now), ..within.for_one_of(&audience) };
    let keys = KeySet::of::<v1::BootstrapContract>(known.authority);
    let contract: Verified<v1::BootstrapContract> = verify(bytes, &keys, &expect)?;
    let mismatch = |what| Reject::new(Reason::ContractMismatch, what);
    if contract.request_id != known.request.as_bytes() {
        return Err(mismatch("request_id"));
    }
    if contract.token_id != known.token.as_bytes() {
        return Err(mismatch("token_id"));
    }
    if contract.nonce != known.nonce {
        return Err(mismatch("nonce"));
    }
    if contract.node_public_key != known.node_key.as_bytes()
        || contract.wireguard_public_key != known.wireguard_key
    {
        return Err(mismatch("node keys"));
    }
    if contract.server_trust_pin != known.server_trust_pin {
        return Err(Reject::new(Reason::PinMismatch, "server_trust_pin"));
    }
    let node = NodeId::from_slice(&contract.node_id).map_err(|_| mismatch("node_id"))?;
    let installation_authority = authority_of_manifest(&contract, known)?;
    let chain = AuthorityChain::verify(
        &contract.authority_records,
        &installation_authority,
        known.installation,
        known.cluster,
        known.features,
    )?;
    // A token outlives a rotation: its key vouches for the records that lead on from it.
    Reject::when(!chain.contains(&known.authority), Reason::AuthorityMismatch, "authority_records")?;
    Ok(VerifiedBootstrap { contract, node, chain, installation_authority })
}

/// The contract is signed by the pinned authority, so the manifest bytes in it are that authority's word.
fn authority_of_manifest(
    contract: &Verified<v1::BootstrapContract>,
    known: &BootstrapExpectation<'_>,
) -> Result<PublicKey, Reject> {
    let envelope = crate::Envelope::decode(&contract.activation_manifest, 16 * 1024)?;
    let manifest: v1::ActivationManifest = prost::Message::decode(envelope.payload())
        .map_err(|_| Reject::new(Reason::PayloadMalformed, "activation_manifest"))?;
    let header = manifest.header.as_ref();
    if header.is_none_or(|header| header.installation_id != known.installation.as_bytes()) {
        return Err(Reject::new(Reason::ActivationMismatch, "installation_id"));
    }
    if manifest.tls_ca_spki_sha256 != known.server_trust_pin {
        return Err(Reject::new(Reason::ActivationMismatch, "tls_ca_spki_sha256"));
    }
    PublicKey::from_slice(&manifest.installation_authority_key)
}
