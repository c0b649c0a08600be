//! Join tokens: issue, and the decision whether a presented token is accepted.
//!
//! Owns the terms. The signed values apply, and the row must agree with them. Refuses to own the count of uses: the
//! statement that inserts a join request enforces it.

mod issue;
mod open;
mod row;

pub use issue::{NewToken, TokenOrder, TokenScope, check_tags, issue_token};
pub use open::{TokenTerms, open_token, reopen_token};
pub use row::{TokenRow, check_token_row, refusal_of_row, token_state};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng as _;
    use rap_contract::{Reject, Signer};
    use rap_types::{ApprovalMode, ClusterId, Digest, InstallationId, Reason, Role, Wall};

    use super::*;

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
            TokenOrder { tags: vec!["a b".into()], ..order() },
        ] {
            assert_eq!(bad.check().unwrap_err().reason, Reason::RequestInvalid, "{bad:?}");
        }
    }
}
