//! Whether a presented join token is accepted, and the terms of a verified one.

use rap_contract::{Audience, Expectation, KeySet, PublicKey, Reject, Verified, join_secret_hash, verify};
use rap_types::{
    ApprovalMode, ClusterId, Digest, InstallationId, OrganizationId, Reason, Role, TokenId, Wall,
};
use rap_wire::v1;

use crate::known_features;

/// What a verified token grants, typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTerms {
    /// Its id.
    pub id: TokenId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Roles its nodes get.
    pub roles: Vec<Role>,
    /// Organization its nodes belong to.
    pub organization: Option<OrganizationId>,
    /// Tags its nodes get.
    pub tags: Vec<String>,
    /// Who decides on requests.
    pub approval: ApprovalMode,
    /// True if its nodes vanish after absence.
    pub ephemeral: bool,
    /// How many hosts may use it.
    pub max_uses: u32,
    /// When it ends.
    pub expires_at: Wall,
    /// SHA-256 over the signing bytes.
    pub digest: Digest,
}

/// Verifies a presented token with its secret. Says nothing about uses left or revocation.
///
/// # Errors
/// Those of verification, `token.expired`, `token.secret`, `payload.malformed`.
pub fn open_token(
    installation: InstallationId,
    cluster: ClusterId,
    authority: &PublicKey,
    dev: bool,
    envelope: &[u8],
    secret: &[u8],
    now: Wall,
) -> Result<TokenTerms, Reject> {
    let token = verify_token(installation, cluster, authority, dev, envelope, Some(now))?;
    let refused = || Reject::new(Reason::TokenSecret, "secret");
    let secret: &[u8; 32] = secret.try_into().map_err(|_| refused())?;
    let hash = join_secret_hash(secret);
    if !bool::from(subtle::ConstantTimeEq::ct_eq(hash.as_bytes().as_slice(), token.secret_hash.as_slice())) {
        return Err(refused());
    }
    terms(&token)
}

/// Verifies the envelope of a token that was accepted before, for the terms an approval goes by. Times
/// counted when it was first accepted.
///
/// # Errors
/// `row.tampered`: the row holds something the authority did not sign.
pub fn reopen_token(
    installation: InstallationId,
    cluster: ClusterId,
    authority: &PublicKey,
    dev: bool,
    envelope: &[u8],
) -> Result<TokenTerms, Reject> {
    verify_token(installation, cluster, authority, dev, envelope, None)
        .and_then(|token| terms(&token))
        .map_err(|_| Reject::new(Reason::RowTampered, "token envelope"))
}

fn verify_token(
    installation: InstallationId,
    cluster: ClusterId,
    authority: &PublicKey,
    dev: bool,
    envelope: &[u8],
    now: Option<Wall>,
) -> Result<Verified<v1::JoinToken>, Reject> {
    let audience = [Audience::Cluster(cluster)];
    let within = Expectation::within(installation, cluster, known_features(dev));
    let expect = Expectation { now, ..within.for_one_of(&audience) };
    verify(envelope, &KeySet::of::<v1::JoinToken>(*authority), &expect).map_err(|reject| {
        let expired = reject.reason == Reason::HeaderExpired;
        if expired { Reject::new(Reason::TokenExpired, "expires_at") } else { reject }
    })
}

fn terms(token: &Verified<v1::JoinToken>) -> Result<TokenTerms, Reject> {
    let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
    let organization = match token.organization_id.as_slice() {
        [] => None,
        bytes => Some(OrganizationId::from_slice(bytes).map_err(|_| malformed("organization_id"))?),
    };
    Ok(TokenTerms {
        id: TokenId::from_slice(&token.token_id).map_err(|_| malformed("token_id"))?,
        cluster: token.header().cluster,
        roles: token
            .roles
            .iter()
            .map(|role| role.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| malformed("roles"))?,
        organization,
        tags: token.tags.clone(),
        approval: token.approval.parse().map_err(|_| malformed("approval"))?,
        ephemeral: token.ephemeral,
        max_uses: token.max_uses,
        expires_at: token.header().expires_at.ok_or(malformed("expires_at"))?,
        digest: token.digest(),
    })
}
