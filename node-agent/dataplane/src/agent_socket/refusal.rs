//! The message that says why something was refused.

use rap_runtime::Fault;
use rap_wire::v1::dataplane_message::Body;
use rap_wire::v1::{DataplaneMessage, DataplaneRefusal};

/// The refusal of request `id`; 0 when it ends a connection.
pub(super) fn refusal(id: u64, fault: &Fault) -> DataplaneMessage {
    let reason = fault.reason.row().code.to_owned();
    DataplaneMessage {
        id,
        body: Some(Body::Refusal(DataplaneRefusal { reason, message: fault.message.clone() })),
    }
}
