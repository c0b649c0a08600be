//! Operator sessions: a random bearer, of which only the hash is kept.

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

/// What the database keeps of a session's bearer.
pub fn session_hash(bearer: &str) -> Digest {
    Digest::of(&[b"rap.session.v1\0", bearer.as_bytes()])
}

/// Hash of the bearer in a request's `authorization` header, if it has one.
pub fn bearer_hash(headers: &http::HeaderMap) -> Option<Digest> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let bearer = value.strip_prefix("Bearer ")?;
    (bearer.len() <= 256).then(|| session_hash(bearer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_until_it_expires_or_is_removed() {
        let known = KnownSessions::default();
        let hash = session_hash("bearer");
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
            known.insert(session_hash(&n.to_string()), Wall(10), Wall(0));
        }
        assert_eq!(known.0.lock().unwrap().len(), KNOWN);
    }

    #[test]
    fn only_a_bearer_header_carries_a_session() {
        let with = |value: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
            bearer_hash(&headers)
        };
        assert_eq!(with("Bearer abc"), Some(session_hash("abc")));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(bearer_hash(&http::HeaderMap::new()), None);
    }
}
