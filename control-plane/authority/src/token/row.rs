//! A token's row: it counts the uses and must agree with the signed token.

use rap_contract::Reject;
use rap_types::{Reason, Wall};

use crate::TokenTerms;

/// What the token's row says, for comparison with the signed values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow<'a> {
    /// Envelope as issued.
    pub envelope: &'a [u8],
    /// Uses allowed.
    pub max_uses: u32,
    /// When it ends.
    pub expires_at: Wall,
    /// Uses so far.
    pub uses: u32,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Wall>,
}

/// Compares a row with the token presented: the signed values win, so a row that says otherwise is a
/// sign of tampering, never a way to widen a token.
///
/// # Errors
/// `row.tampered`.
pub fn check_token_row(terms: &TokenTerms, presented: &[u8], row: &TokenRow<'_>) -> Result<(), Reject> {
    let tampered = |what| Err(Reject::new(Reason::RowTampered, what));
    if row.envelope != presented {
        return tampered("token envelope");
    }
    if row.max_uses != terms.max_uses {
        return tampered("token max_uses");
    }
    if row.expires_at != terms.expires_at {
        return tampered("token expires_at");
    }
    if row.uses > row.max_uses {
        return tampered("token uses");
    }
    Ok(())
}

/// Why the guarded statement took no use, from the row it refused.
pub fn refusal_of_row(row: &TokenRow<'_>, now: Wall) -> Reject {
    if row.revoked_at.is_some() {
        Reject::new(Reason::TokenRevoked, "token")
    } else if row.expires_at <= now {
        Reject::new(Reason::TokenExpired, "token")
    } else {
        Reject::new(Reason::TokenExhausted, "token")
    }
}

/// State of a token as people see it.
pub fn token_state(row: &TokenRow<'_>, now: Wall) -> &'static str {
    if row.revoked_at.is_some() {
        "revoked"
    } else if row.expires_at <= now {
        "expired"
    } else if row.uses >= row.max_uses {
        "exhausted"
    } else {
        "live"
    }
}
