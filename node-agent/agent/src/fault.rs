//! From the errors of cores and state to faults with a stable code.

use rap_contract::Reject;
use rap_runtime::Fault;
use rap_state::StateError;

/// A refused document.
pub fn refused(reject: Reject) -> Fault {
    Fault::new(reject.reason, reject.what)
}

/// A failure of local state.
pub fn state_fault(error: StateError) -> Fault {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    Fault::new(error.reason(), text)
}
