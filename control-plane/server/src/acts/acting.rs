//! Who acts, and why.

use rap_store::AuditPen;
use rap_types::RequestId;

/// Who approves, and why.
#[derive(Debug)]
pub struct Approval {
    /// As the audit log names it.
    pub actor: String,
    /// Words of the operator.
    pub reason: String,
    /// The call.
    pub call: RequestId,
    /// What its audit row is written with.
    pub pen: AuditPen,
    /// A key that a gone node had gets that node's id again.
    pub keep_id: bool,
}
