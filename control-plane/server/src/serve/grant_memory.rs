//! The role-grant set that was admitted last.
//!
//! Refuses to own whether it is still in force (`serve/role_grants`).

use std::sync::{Arc, Mutex, PoisonError};

use rap_authority::AdmittedRoleGrants;
use rap_types::Digest;

/// What was admitted last, and the exact rows that led to it.
#[derive(Debug, Default)]
pub struct RoleGrantMemory(Mutex<Option<(Digest, Arc<AdmittedRoleGrants>)>>);

impl RoleGrantMemory {
    pub(super) fn of(&self, rows: Digest) -> Option<Arc<AdmittedRoleGrants>> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.as_ref().filter(|(known, _)| *known == rows).map(|(_, admitted)| admitted.clone())
    }

    pub(super) fn keep(&self, rows: Digest, admitted: Arc<AdmittedRoleGrants>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((rows, admitted));
    }
}
