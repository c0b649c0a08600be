//! A verified chain of revocations with the bytes of its last record, so that stored records are read on
//! from there.
//!
//! Owns the comparison of what is stored with what is known. Refuses to own floors and storage.

use std::sync::Arc;

use rap_types::{Reason, Wall};

use crate::{AuthorityChain, Reject, Revocation, RevocationChain};

/// A verified chain with the bytes of its last record. Clones share the chain.
#[derive(Debug, Clone, Default)]
pub struct KnownRevocations {
    /// The chain.
    pub chain: Arc<RevocationChain>,
    last: Vec<u8>,
}

impl KnownRevocations {
    /// Position to read from, from 1: the last known record is read again, to see that it is still there.
    pub fn from(&self) -> u64 {
        self.chain.sequence().max(1)
    }

    /// This with the stored records from [`Self::from`] on.
    ///
    /// # Errors
    /// `floor.rollback`, `floor.equivocation` if the last known record is gone or another; as
    /// [`RevocationChain::extended`].
    pub fn with_stored<B: AsRef<[u8]>>(
        &self,
        stored: &[B],
        authority: &AuthorityChain,
        features: &[&str],
    ) -> Result<Self, Reject> {
        let new = match (self.chain.sequence(), stored) {
            (0, stored) => stored,
            (_, []) => return Err(Reject::new(Reason::FloorRollback, "revocations")),
            (_, [first, rest @ ..]) if first.as_ref() == self.last => rest,
            (_, [_, ..]) => return Err(Reject::new(Reason::FloorEquivocation, "revocations")),
        };
        self.with_records(new, authority, features)
    }

    /// This with more records at its end.
    ///
    /// # Errors
    /// As [`RevocationChain::extended`].
    pub fn with_records<B: AsRef<[u8]>>(
        &self,
        records: &[B],
        authority: &AuthorityChain,
        features: &[&str],
    ) -> Result<Self, Reject> {
        let Some(last) = records.last() else { return Ok(self.clone()) };
        let chain = self.chain.extended(records, authority, features)?;
        Ok(Self { chain: Arc::new(chain), last: last.as_ref().to_vec() })
    }

    /// This as it would be with `revocation` at its end. Nothing is signed: the chain is for a plan that is
    /// shown, and no stored record follows it.
    ///
    /// # Errors
    /// `chain.broken` if the revocation does not make sense there.
    pub fn supposing(&self, revocation: &Revocation, now: Wall) -> Result<Self, Reject> {
        let chain = self.chain.supposing(revocation, now)?;
        Ok(Self { chain: Arc::new(chain), last: Vec::new() })
    }
}
