//! An authorised operator.

use crate::database::change::{Acting, Pending};
use crate::database::claim::Claim;
use rap_contract::PublicKey;
use rap_store::AuditWriter;
use rap_types::{Digest, RequestId};

/// An authorised operator.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Name, from the signed grant.
    pub name: String,
    /// Key that logged in.
    pub key: PublicKey,
    /// Hash of the session's bearer.
    pub session: Digest,
    /// The call.
    pub call: RequestId,
    /// What its audit rows are written with.
    pub pen: AuditWriter,
    /// As its call's.
    pub pending: Pending,
    /// What the key of its call stands for.
    pub claim: Claim,
}

impl Actor {
    /// What audit rows of its call say.
    pub fn acting(&self, reason: impl Into<String>) -> Acting {
        let (actor, pen) = (format!("operator:{}", self.name), self.pen.clone());
        let (pending, claim) = (self.pending.clone(), self.claim.clone());
        Acting { actor, pen, call: self.call, reason: reason.into(), dry_run: false, pending, claim }
    }
}
