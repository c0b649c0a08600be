//! An authorised operator.

use rap_contract::PublicKey;
use rap_store::AuditPen;
use rap_types::{Digest, PlatformRole, RequestId};

/// An authorised operator.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Name, from the signed grant.
    pub name: String,
    /// Role, from the same.
    pub role: PlatformRole,
    /// Key that logged in.
    pub key: PublicKey,
    /// Hash of the session's bearer.
    pub session: Digest,
    /// The call.
    pub call: RequestId,
    /// What its audit rows are written with.
    pub pen: AuditPen,
}

impl Actor {
    /// How the audit log names it.
    pub fn audit_name(&self) -> String {
        format!("operator:{}", self.name)
    }
}
