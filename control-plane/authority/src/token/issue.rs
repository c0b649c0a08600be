//! Join tokens as they are ordered and issued: bounds of an order, and the one text that holds the secret.

use std::time::Duration;

use rand_core::CryptoRng;
use rap_contract::{HeaderTerms, JoinTokenText, Reject, Signer, join_secret_hash, sign};
use rap_types::{
    ApprovalMode, ClusterId, Digest, InstallationId, OrganizationId, Reason, Role, TokenId, Wall,
};
use rap_wire::v1;

use crate::{critical, ids};

/// What an operator asks of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOrder {
    /// Roles its nodes get.
    pub roles: Vec<Role>,
    /// How many hosts may use it.
    pub max_uses: u32,
    /// How long it lives.
    pub ttl: Duration,
    /// Who decides on requests.
    pub approval: ApprovalMode,
    /// Tags its nodes get.
    pub tags: Vec<String>,
    /// Organization its nodes belong to.
    pub organization: Option<OrganizationId>,
    /// Profile name for the host.
    pub profile: String,
    /// True if its nodes vanish after absence.
    pub ephemeral: bool,
}

impl TokenOrder {
    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// `request.invalid`.
    pub fn check(&self) -> Result<(), Reject> {
        let invalid = |what| Err(Reject::new(Reason::RequestInvalid, what));
        if self.max_uses == 0 || self.max_uses > USES_CAP {
            return invalid("uses must be 1 to 10000");
        }
        if self.ttl < Duration::from_secs(1) || self.ttl > Duration::from_secs(30 * 86_400) {
            return invalid("ttl must be 1 s to 30 days");
        }
        if self.roles.len() > Role::ALL.len() {
            return invalid("roles");
        }
        check_tags(&self.tags)?;
        if self.profile.len() > 63 {
            return invalid("profile is longer than 63 bytes");
        }
        Ok(())
    }
}

/// Admits tags: at most 32, each 1 to 63 printable ASCII bytes without space.
///
/// # Errors
/// `request.invalid`.
pub fn check_tags(tags: &[String]) -> Result<(), Reject> {
    let fine =
        |tag: &String| (1..=63).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_graphic());
    if tags.len() <= 32 && tags.iter().all(fine) {
        Ok(())
    } else {
        Err(Reject::new(
            Reason::RequestInvalid,
            "at most 32 tags, each 1 to 63 printable ASCII without space",
        ))
    }
}

/// Everything around a token that its order does not say.
#[derive(Debug, Clone, Copy)]
pub struct TokenScope<'a> {
    /// Installation.
    pub installation: InstallationId,
    /// Cluster.
    pub cluster: ClusterId,
    /// Cluster name, for people.
    pub cluster_name: &'a str,
    /// Where hosts reach the control plane.
    pub control_urls: &'a [String],
    /// SHA-256 of the TLS CA's SPKI.
    pub server_trust_pin: Digest,
    /// Prefixes of the cluster's overlay.
    pub overlay_pools: &'a [String],
    /// True for a development installation.
    pub dev: bool,
}

/// A token that was just made. The text holds the secret: show it once.
#[derive(Debug)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// Encoded envelope, as the row keeps it.
    pub envelope: Vec<u8>,
    /// When it ends.
    pub expires_at: Wall,
    /// Hash of the secret, as the row keeps it.
    pub secret_hash: Digest,
    /// The text form with the secret.
    pub text: JoinTokenText,
}

/// Issues a token.
///
/// # Errors
/// `request.invalid`.
pub fn issue_token(
    scope: &TokenScope<'_>,
    order: &TokenOrder,
    authority: &Signer,
    now: Wall,
    generator: &mut dyn CryptoRng,
) -> Result<NewToken, Reject> {
    order.check()?;
    let id = TokenId::from_parts(ids::millis(now), ids::random(generator));
    let secret: [u8; 32] = ids::random(generator);
    let secret_hash = join_secret_hash(&secret);
    let expires_at = now.plus(order.ttl);
    let token = v1::JoinToken {
        header: Some(
            HeaderTerms {
                expires_at: Some(expires_at),
                critical: critical(scope.dev),
                ..HeaderTerms::of_cluster(scope.installation, scope.cluster, authority.id(), now)
            }
            .to_wire(),
        ),
        token_id: id.to_vec(),
        control_urls: scope.control_urls.to_vec(),
        server_trust_pin: scope.server_trust_pin.to_vec(),
        cluster_authority_key: authority.public().to_vec(),
        roles: order.roles.iter().map(ToString::to_string).collect(),
        organization_id: order.organization.map(OrganizationId::to_vec).unwrap_or_default(),
        tags: order.tags.clone(),
        profile: order.profile.clone(),
        approval: order.approval.to_string(),
        ephemeral: order.ephemeral,
        max_uses: order.max_uses,
        secret_hash: secret_hash.to_vec(),
        cluster_name: scope.cluster_name.to_owned(),
        overlay_pools: scope.overlay_pools.to_vec(),
    };
    let envelope = sign(&token, &[authority]);
    let text = JoinTokenText::new(envelope.clone(), secret);
    Ok(NewToken { id, envelope, expires_at, secret_hash, text })
}

const USES_CAP: u32 = 10_000;
