//! The policy of kind `membership`: how long absent ephemeral nodes stay, and when keys are replaced.

use std::time::Duration;

use rap_wire::v1;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PolicyError, stored};

/// The policy as stored; absent fields have their default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeLifecyclePolicy {
    /// Absence after which an ephemeral node is removed, milliseconds.
    pub ephemeral_after_ms: u64,
    /// Age at which a node replaces its WireGuard key, milliseconds; 0 = never.
    pub wireguard_key_max_age_ms: u64,
    /// Age at which a node replaces its identity key, milliseconds; 0 = never.
    pub identity_key_max_age_ms: u64,
    /// An approved key that a gone node had gets that node's id again.
    pub keep_ids: bool,
}

impl Default for NodeLifecyclePolicy {
    fn default() -> Self {
        let ephemeral_after_ms = 600_000;
        Self { ephemeral_after_ms, wireguard_key_max_age_ms: 0, identity_key_max_age_ms: 0, keep_ids: false }
    }
}

impl NodeLifecyclePolicy {
    /// The kind of the stored row.
    pub const KIND: &'static str = "membership";

    /// The policy among a cluster's policies, each with its kind.
    ///
    /// # Errors
    /// [`PolicyError::Missing`], [`PolicyError::Unreadable`].
    pub fn among<'a>(policies: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<Self, PolicyError> {
        stored(policies, Self::KIND)
    }

    /// Refuses a policy under which nodes would vanish or rotate without a fault.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`].
    pub fn check(&self) -> Result<(), PolicyError> {
        let invalid = |text: &str| Err(PolicyError::Invalid(text.to_owned()));
        if self.ephemeral_after_ms < SHORTEST_ABSENCE_MS {
            return invalid("ephemeral nodes are removed after at least 5 s of absence");
        }
        let young = |age: u64| age != 0 && age < SHORTEST_AGE_MS;
        if young(self.wireguard_key_max_age_ms) || young(self.identity_key_max_age_ms) {
            return invalid("a maximum age of keys is at least 10 s, or 0 for none");
        }
        let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
        let all = [self.ephemeral_after_ms, self.wireguard_key_max_age_ms, self.identity_key_max_age_ms];
        if all.iter().any(|one| *one > longest) {
            return invalid("at most ten years");
        }
        Ok(())
    }

    /// The policy after a request; a value that the request does not have stays.
    #[must_use]
    pub fn changed(mut self, request: &v1::MembershipPolicySetRequest) -> Self {
        let set = |into: &mut u64, wanted: Option<u64>| *into = wanted.unwrap_or(*into);
        set(&mut self.ephemeral_after_ms, request.ephemeral_after_ms);
        set(&mut self.wireguard_key_max_age_ms, request.wireguard_key_max_age_ms);
        set(&mut self.identity_key_max_age_ms, request.identity_key_max_age_ms);
        self.keep_ids = request.keep_ids.unwrap_or(self.keep_ids);
        self
    }
}

const SHORTEST_ABSENCE_MS: u64 = 5_000;
const SHORTEST_AGE_MS: u64 = 10_000;
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
