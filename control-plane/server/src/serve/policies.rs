//! The policies of a cluster as its rows say them.
//!
//! Refuses to own what a policy may say (rap-authority).

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy, PolicyError};
use rap_store::PolicyRow;

/// The policies among a cluster's rows.
///
/// # Errors
/// [`PolicyError::Missing`], [`PolicyError::Unreadable`].
pub(crate) fn policies_of(rows: &[PolicyRow]) -> Result<(NodeLifecyclePolicy, DegradedPolicy), PolicyError> {
    let entries = || rows.iter().map(PolicyRow::entry);
    Ok((NodeLifecyclePolicy::among(entries())?, DegradedPolicy::among(entries())?))
}
