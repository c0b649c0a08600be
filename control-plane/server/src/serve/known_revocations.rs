//! The longest chain of revocations of one cluster that this process verified.

use std::sync::{Mutex, PoisonError};

use rap_contract::KnownRevocations;

/// The longest chain this process verified, of one cluster.
#[derive(Debug, Default)]
pub struct Revocations(Mutex<KnownRevocations>);

impl Revocations {
    /// What is known now. Take it before the transaction that reads on from it: then the transaction
    /// sees at least this much, unless the database went back.
    pub fn known(&self) -> KnownRevocations {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn learn(&self, next: KnownRevocations) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if next.chain.sequence() > known.chain.sequence() {
            *known = next;
        }
    }
}
