//! A new audit row.

use rap_store::NewAuditRow;
use rap_types::{ClusterId, Digest, OrganizationId, RequestId};

/// An audit row without organization; callers fill in what they know.
pub fn audit_row(
    actor: &str,
    action: &str,
    object: String,
    cluster: Option<ClusterId>,
    after: Option<Digest>,
    reason: &str,
    request: RequestId,
) -> NewAuditRow {
    NewAuditRow {
        cluster,
        organization: None::<OrganizationId>,
        actor: actor.to_owned(),
        action: action.to_owned(),
        object,
        before_digest: None,
        after_digest: after,
        reason: reason.chars().filter(|c| !c.is_control()).take(1024).collect(),
        request,
    }
}
