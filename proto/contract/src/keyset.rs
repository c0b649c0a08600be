//! The pinned keys a verifier may use, and what each may sign.

use std::collections::BTreeMap;

use rap_types::{KeyId, Reason};

use crate::{Document, PublicKey, Reject};

rap_types::word_enum! {
    /// Life of a signing key, in this order only.
    KeyState {
        /// Made; no record names it and nobody accepts it.
        Prepared = "prepared",
        /// A record names it. The newest such key signs; an older one is in overlap.
        Active = "active",
        /// Replaced: it signs nothing new, and what it signed before is still read.
        Tainted = "tainted",
        /// Never again; its private half is gone.
        Revoked = "revoked",
    }
}

#[derive(Debug, Clone)]
struct KeyRecord {
    key: PublicKey,
    payload_types: Vec<&'static str>,
    state: KeyState,
}

/// Pinned keys by id and how many of them must sign.
#[derive(Debug, Clone)]
pub struct KeySet {
    records: BTreeMap<KeyId, KeyRecord>,
    threshold: usize,
}

impl KeySet {
    /// No keys; one signature needed.
    pub const fn new() -> Self {
        Self { records: BTreeMap::new(), threshold: 1 }
    }

    /// One active key that may sign documents `T`.
    pub fn of<T: Document>(key: PublicKey) -> Self {
        Self::new().with::<T>(key, KeyState::Active)
    }

    /// Adds a key for documents `T`, or adds the purpose to a key that is there.
    #[must_use]
    pub fn with<T: Document>(mut self, key: PublicKey, state: KeyState) -> Self {
        let record =
            self.records.entry(key.id()).or_insert(KeyRecord { key, payload_types: Vec::new(), state });
        record.state = state;
        record.payload_types.push(T::PAYLOAD_TYPE);
        self
    }

    /// Sets how many distinct keys must have signed (at least one).
    #[must_use]
    pub(crate) fn with_threshold(mut self, threshold: usize) -> Self {
        self.threshold = threshold.max(1);
        self
    }

    /// How many distinct keys must have signed.
    pub(crate) const fn threshold(&self) -> usize {
        self.threshold
    }

    /// Ids of the pinned keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.records.keys().copied()
    }

    /// The key `id` if it may sign `payload_type` now.
    ///
    /// # Errors
    /// `key.unknown`, `key.purpose`, `key.state`.
    pub(crate) fn find(&self, id: &KeyId, payload_type: &str) -> Result<PublicKey, Reject> {
        let record = self.records.get(id).ok_or(Reject::new(Reason::KeyUnknown, "signer is not pinned"))?;
        if !record.payload_types.contains(&payload_type) {
            return Err(Reject::new(Reason::KeyPurpose, "signer may not sign this type"));
        }
        match record.state {
            KeyState::Active => Ok(record.key),
            KeyState::Prepared => Err(Reject::new(Reason::KeyState, "signer is prepared, not active")),
            KeyState::Tainted => Err(Reject::new(Reason::KeyState, "signer is tainted")),
            KeyState::Revoked => Err(Reject::new(Reason::KeyState, "signer is revoked")),
        }
    }
}

impl Default for KeySet {
    fn default() -> Self {
        Self::new()
    }
}
