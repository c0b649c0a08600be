//! Rows of the audit log.

use rap_store::AuditRow;
use rap_wire::v1;

pub(crate) fn listed(row: &AuditRow) -> v1::AuditListed {
    v1::AuditListed {
        entry: row.entry.encode(),
        sequenced: row.sequence.is_some(),
        index: row.sequence.unwrap_or(0),
    }
}
