//! The address pools that running memberships hold, shared between their tasks.
//!
//! Owns the lock. Refuses to decide: `rap_trust::Claims` does.

use std::sync::{Arc, Mutex, PoisonError};

use rap_runtime::Fault;
use rap_trust::{Claims, Pools};

use crate::membership::overlap_fault;

/// The claims of every membership of this agent. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct HostClaims(Arc<Mutex<Claims>>);

impl HostClaims {
    /// The claims as one membership sees them.
    pub fn of(&self, membership: &str) -> OwnClaim {
        OwnClaim { claims: self.clone(), membership: membership.to_owned() }
    }

    /// A membership left.
    pub fn release(&self, membership: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).release(membership);
    }
}

/// One membership's hand on the claims.
#[derive(Debug, Clone)]
pub struct OwnClaim {
    claims: HostClaims,
    membership: String,
}

impl OwnClaim {
    /// Takes these pools instead of those held before. In one step with the comparison: of two that want
    /// the same addresses at once, one gets them.
    ///
    /// # Errors
    /// `overlay.overlap`; what was held before stays held.
    pub fn take(&self, pools: Pools) -> Result<(), Fault> {
        let mut claims = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        claims.claim(&self.membership, pools).map_err(overlap_fault)
    }
}
