//! Join tokens: issue, and the decision whether a presented one counts.
//!
//! Owns the terms; the signed values win and the row must agree. Refuses to own the count of uses:
//! the database guards that in the statement that makes the request.

use std::time::Duration;

use rand_core::CryptoRng;
use rap_contract::{
    Audience, Expectation, HeaderTerms, JoinTokenText, KeySet, PublicKey, Reject, Signer, Verified,
    join_secret_hash, sign, verify,
};
use rap_types::{
    ApprovalMode, ClusterId, Digest, InstallationId, OrganizationId, Reason, Role, TokenId, Wall,
};
use rap_wire::v1;

use crate::{critical, ids, known_features};

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
        if self.roles.is_empty() || self.roles.len() > Role::ALL.len() {
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
                installation: scope.installation,
                cluster: scope.cluster,
                audience: Audience::Cluster(scope.cluster),
                issuer: authority.id(),
                incarnation: 0,
                sequence: 1,
                issued_at: now,
                expires_at: Some(expires_at),
                critical: critical(scope.dev),
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
    let expect = Expectation {
        installation: Some(installation),
        cluster: Some(cluster),
        audience: &audience,
        now,
        features: known_features(dev),
    };
    verify(envelope, &KeySet::of::<v1::JoinToken>(*authority), &expect).map_err(|reject| {
        match reject.reason {
            Reason::HeaderExpired => Reject::new(Reason::TokenExpired, "expires_at"),
            _ => reject,
        }
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

const USES_CAP: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TokenRow, check_token_row, refusal_of_row, token_state};
    use rand::SeedableRng as _;

    const NOW: Wall = Wall(1_800_000_000_000);
    const INSTALLATION: InstallationId = InstallationId::from_bytes([1; 16]);
    const CLUSTER: ClusterId = ClusterId::from_bytes([2; 16]);

    fn order() -> TokenOrder {
        TokenOrder {
            roles: vec![Role::Core],
            max_uses: 2,
            ttl: Duration::from_secs(60),
            approval: ApprovalMode::Manual,
            tags: vec!["rack:1".into()],
            organization: None,
            profile: String::new(),
            ephemeral: false,
        }
    }

    fn issue(authority: &Signer) -> NewToken {
        let scope = TokenScope {
            installation: INSTALLATION,
            cluster: CLUSTER,
            cluster_name: "prod",
            control_urls: &["https://h:8443".into()],
            server_trust_pin: Digest::of(&[b"ca"]),
            overlay_pools: &["100.96.0.0/16".into()],
            dev: false,
        };
        issue_token(&scope, &order(), authority, NOW, &mut rand::rngs::StdRng::seed_from_u64(1)).unwrap()
    }

    fn open(authority: &Signer, token: &NewToken, secret: &[u8], now: Wall) -> Result<TokenTerms, Reject> {
        open_token(INSTALLATION, CLUSTER, &authority.public(), false, &token.envelope, secret, now)
    }

    #[test]
    fn an_issued_token_opens_with_its_secret_until_it_expires() {
        let authority = Signer::from_seed(&[3; 32]);
        let token = issue(&authority);
        let terms = open(&authority, &token, token.text.secret(), NOW).unwrap();
        assert_eq!(
            (terms.id, terms.roles.as_slice(), terms.max_uses),
            (token.id, [Role::Core].as_slice(), 2)
        );
        let reason = |secret: &[u8], now| open(&authority, &token, secret, now).unwrap_err().reason;
        assert_eq!(reason(&[0; 32], NOW), Reason::TokenSecret);
        assert_eq!(reason(&[0; 31], NOW), Reason::TokenSecret);
        assert_eq!(reason(token.text.secret(), token.expires_at), Reason::TokenExpired);
        let stranger = Signer::from_seed(&[4; 32]);
        assert_eq!(open(&stranger, &token, token.text.secret(), NOW).unwrap_err().reason, Reason::KeyUnknown);
    }

    #[test]
    fn no_altered_bit_of_a_token_is_accepted() {
        let authority = Signer::from_seed(&[3; 32]);
        let token = issue(&authority);
        for bit in 0..token.envelope.len() * 8 {
            let mut envelope = token.envelope.clone();
            envelope[bit / 8] ^= 1 << (bit % 8);
            let altered = open_token(
                INSTALLATION,
                CLUSTER,
                &authority.public(),
                false,
                &envelope,
                token.text.secret(),
                NOW,
            );
            assert!(altered.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_row_that_says_more_than_the_signature_is_tampered() {
        let authority = Signer::from_seed(&[3; 32]);
        let token = issue(&authority);
        let terms = open(&authority, &token, token.text.secret(), NOW).unwrap();
        let row = TokenRow {
            envelope: &token.envelope,
            max_uses: 2,
            expires_at: token.expires_at,
            uses: 1,
            revoked_at: None,
        };
        assert_eq!(check_token_row(&terms, &token.envelope, &row), Ok(()));
        for tampered in [
            TokenRow { max_uses: 3, ..row.clone() },
            TokenRow { expires_at: Wall(i64::MAX), ..row.clone() },
            TokenRow { envelope: b"other", ..row.clone() },
            TokenRow { uses: 3, ..row.clone() },
        ] {
            let reject = check_token_row(&terms, &token.envelope, &tampered).unwrap_err();
            assert_eq!(reject.reason, Reason::RowTampered);
        }
    }

    #[test]
    fn the_refusal_and_the_state_name_the_same_cause() {
        let row = TokenRow {
            envelope: &[],
            max_uses: 1,
            expires_at: NOW.plus(Duration::from_secs(1)),
            uses: 0,
            revoked_at: None,
        };
        let later = NOW.plus(Duration::from_secs(1));
        let revoked = TokenRow { revoked_at: Some(NOW), ..row.clone() };
        let exhausted = TokenRow { uses: 1, ..row.clone() };
        assert_eq!(token_state(&row, NOW), "live");
        assert_eq!(
            (token_state(&row, later), refusal_of_row(&row, later).reason),
            ("expired", Reason::TokenExpired)
        );
        assert_eq!(
            (token_state(&revoked, NOW), refusal_of_row(&revoked, NOW).reason),
            ("revoked", Reason::TokenRevoked)
        );
        assert_eq!(
            (token_state(&exhausted, NOW), refusal_of_row(&exhausted, NOW).reason),
            ("exhausted", Reason::TokenExhausted)
        );
    }

    #[test]
    fn orders_outside_their_bounds_are_refused() {
        for bad in [
            TokenOrder { max_uses: 0, ..order() },
            TokenOrder { max_uses: 10_001, ..order() },
            TokenOrder { ttl: Duration::ZERO, ..order() },
            TokenOrder { ttl: Duration::from_secs(31 * 86_400), ..order() },
            TokenOrder { roles: vec![], ..order() },
            TokenOrder { tags: vec!["a b".into()], ..order() },
        ] {
            assert_eq!(bad.check().unwrap_err().reason, Reason::RequestInvalid, "{bad:?}");
        }
    }
}
