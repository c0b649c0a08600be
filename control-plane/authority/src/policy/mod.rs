//! The policies of a cluster, one file per kind.
//!
//! Owns the values that each kind allows, and their defaults. Refuses to own the rows.

mod degraded;
mod node_lifecycle;

use rap_types::Reason;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use degraded::DegradedPolicy;
pub use node_lifecycle::NodeLifecyclePolicy;

/// A policy that does not hold, or a change of it that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The cluster has no row of this kind. Every cluster has one of each from the start.
    #[error(
        "the {0} policy is gone (an owner writes it anew: rapctl cluster policy CLUSTER --restore-missing)"
    )]
    Missing(&'static str),
    /// The row of this kind is not a policy of that kind.
    #[error("the {0} policy does not read")]
    Unreadable(&'static str),
    /// A value that cannot be set, and why.
    #[error("{0}")]
    Invalid(String),
}

impl PolicyError {
    /// Stable reason code.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Missing(_) | Self::Unreadable(_) => Reason::RowTampered,
            Self::Invalid(_) => Reason::RequestInvalid,
        }
    }
}

/// The policy of one kind. A missing row is an error, so that taking one away is seen and does not bring
/// the defaults back.
fn stored<'a, P: DeserializeOwned>(
    policies: impl IntoIterator<Item = (&'a str, &'a Value)>,
    kind: &'static str,
) -> Result<P, PolicyError> {
    let found = policies.into_iter().find(|(found, _)| *found == kind);
    let (_, body) = found.ok_or(PolicyError::Missing(kind))?;
    serde_json::from_value(body.clone()).map_err(|_| PolicyError::Unreadable(kind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_that_is_gone_or_does_not_read_is_no_default() {
        let among = |kind, body| NodeLifecyclePolicy::among([(kind, &body)]);
        let missing = among("degraded", json!({})).unwrap_err();
        assert_eq!(missing, PolicyError::Missing("membership"));
        assert_eq!(missing.reason(), Reason::RowTampered);
        let unreadable = among("membership", json!({ "keep_id": true })).unwrap_err();
        assert_eq!(unreadable, PolicyError::Unreadable("membership"));
        let read = among("membership", json!({ "keep_ids": true })).unwrap();
        assert_eq!(read, NodeLifecyclePolicy { keep_ids: true, ..NodeLifecyclePolicy::default() });
    }
}
