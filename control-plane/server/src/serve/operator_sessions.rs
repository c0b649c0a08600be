//! Operator sessions seen lately: a known one lifts the limits for strangers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rap_types::{Digest, Wall};

/// Hashes of sessions that were good lately. A hint for limits, never an authorisation.
#[derive(Debug, Default)]
pub struct KnownSessions(Mutex<BTreeMap<Digest, Wall>>);

/// Most hashes remembered.
const KNOWN: usize = 4096;

impl KnownSessions {
    /// Remembers a session until it expires.
    pub fn insert(&self, hash: Digest, expires_at: Wall, now: Wall) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.retain(|_, end| *end > now);
        }
        if known.len() < KNOWN {
            known.insert(hash, expires_at);
        }
    }

    /// Forgets a session.
    pub fn remove(&self, hash: &Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }

    /// True if the session was good lately and has not expired.
    pub fn contains(&self, hash: &Digest, now: Wall) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(hash).is_some_and(|end| *end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_authority::SessionKey;

    use crate::auth::call::bearer_claim;

    #[test]
    fn a_session_is_known_until_it_expires_or_is_removed() {
        let known = KnownSessions::default();
        let hash = Digest::of(&[b"bearer"]);
        known.insert(hash, Wall(10), Wall(0));
        assert!(known.contains(&hash, Wall(9)));
        assert!(!known.contains(&hash, Wall(10)));
        known.remove(&hash);
        assert!(!known.contains(&hash, Wall(0)));
    }

    #[test]
    fn the_number_of_known_sessions_is_bounded() {
        let known = KnownSessions::default();
        for n in 0..KNOWN + 10 {
            known.insert(Digest::of(&[&n.to_be_bytes()]), Wall(10), Wall(0));
        }
        assert_eq!(known.0.lock().unwrap().len(), KNOWN);
    }

    #[test]
    fn only_a_bearer_header_carries_a_session() {
        let key = SessionKey::of(&rap_authority::SealingKey::from_slice(&[1; 32]).unwrap());
        let operator = rap_contract::Signer::from_seed(&[2; 32]).public();
        let issued = key.issue(operator, Wall(10), &mut rand::rng());
        let with = |value: String| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
            bearer_claim(&headers, &key)
        };
        assert_eq!(with(format!("Bearer {}", *issued.bearer)), Some(issued.claim));
        assert_eq!(with(format!("Basic {}", *issued.bearer)), None);
        assert_eq!(bearer_claim(&http::HeaderMap::new(), &key), None);
    }
}
