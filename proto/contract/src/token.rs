//! Join token: one string that carries everything a host needs to join.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rap_types::{Digest, Reason};
use rap_wire::v1;
use zeroize::Zeroizing;

use crate::verify::verify_self_named;
use crate::{Audience, Expectation, PublicKey, Reject, Verified};

/// First part of the text form.
const TOKEN_PREFIX: &str = "rapj1";

/// Longest text form, bytes.
const TEXT_CAP: usize = 16 * 1024;

/// `rapj1.<base64url(envelope)>.<base64url(secret)>`, taken apart. Debug shows neither part.
pub struct JoinTokenText {
    envelope: Vec<u8>,
    secret: Zeroizing<[u8; 32]>,
}

impl JoinTokenText {
    /// Puts a token together.
    pub fn new(envelope: Vec<u8>, secret: [u8; 32]) -> Self {
        Self { envelope, secret: Zeroizing::new(secret) }
    }

    /// Reads the text form; surrounding white space is ignored.
    ///
    /// # Errors
    /// `token.malformed`.
    pub fn parse(text: &str) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::TokenMalformed, what);
        let text = text.trim();
        if text.len() > TEXT_CAP {
            return Err(malformed("longer than 16 KiB"));
        }
        let mut parts = text.split('.');
        let (Some(TOKEN_PREFIX), Some(envelope), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("a token is rapj1.<envelope>.<secret>"));
        };
        let envelope =
            URL_SAFE_NO_PAD.decode(envelope).map_err(|_| malformed("envelope is not base64url"))?;
        let secret =
            Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).map_err(|_| malformed("secret is not base64url"))?);
        let secret = secret.as_slice().try_into().map_err(|_| malformed("a secret has 32 bytes"))?;
        Ok(Self { envelope, secret: Zeroizing::new(secret) })
    }

    /// The text form. Secret: show it once, never log it.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{TOKEN_PREFIX}.{}.{}",
            URL_SAFE_NO_PAD.encode(&self.envelope),
            URL_SAFE_NO_PAD.encode(self.secret.as_slice())
        ))
    }

    /// The encoded envelope.
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// The secret half.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Verifies the envelope against the authority key it names (compare that key's fingerprint with the
    /// operator's), that the secret belongs to it, and its times at `expect.now`.
    ///
    /// # Errors
    /// Those of verification, `token.expired`, `token.secret`.
    pub fn open(&self, expect: &Expectation<'_>) -> Result<Verified<v1::JoinToken>, Reject> {
        let token =
            verify_self_named(&self.envelope, expect, |token: &v1::JoinToken| &token.cluster_authority_key)
                .map_err(|reject| {
                let expired = reject.reason == Reason::HeaderExpired;
                if expired { Reject::new(Reason::TokenExpired, "expires_at") } else { reject }
            })?;
        check_token(&token)?;
        if token.secret_hash != join_secret_hash(&self.secret).as_bytes() {
            return Err(Reject::new(Reason::TokenSecret, "secret"));
        }
        Ok(token)
    }
}

rap_types::debug_as!(JoinTokenText, "JoinTokenText(..)");

/// What the token row and envelope keep of the secret.
pub fn join_secret_hash(secret: &[u8; 32]) -> Digest {
    Digest::of(&[b"rap.join.secret.v1\0", secret])
}

fn check_token(token: &Verified<v1::JoinToken>) -> Result<(), Reject> {
    let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
    if token.header().audience != Audience::Cluster(token.header().cluster) {
        return Err(Reject::new(Reason::HeaderAudience, "audience"));
    }
    Reject::when(token.header().expires_at.is_none(), Reason::HeaderMalformed, "a token expires")?;
    if rap_types::TokenId::from_slice(&token.token_id).is_err() {
        return Err(malformed("token_id"));
    }
    if token.server_trust_pin.len() != 32 || token.secret_hash.len() != 32 {
        return Err(malformed("server_trust_pin or secret_hash"));
    }
    if token.control_urls.is_empty() || token.control_urls.len() > 16 {
        return Err(malformed("control_urls"));
    }
    if token.max_uses == 0 || token.approval.parse::<rap_types::ApprovalMode>().is_err() {
        return Err(malformed("max_uses or approval"));
    }
    PublicKey::from_slice(&token.cluster_authority_key).map(|_| ())
}
