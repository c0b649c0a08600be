//! The policies of a cluster.

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy};
use rap_wire::v1;

pub(crate) fn to_wire((policy, degraded): (NodeLifecyclePolicy, DegradedPolicy)) -> v1::MembershipPolicy {
    v1::MembershipPolicy {
        ephemeral_after_ms: policy.ephemeral_after_ms,
        wireguard_key_max_age_ms: policy.wireguard_key_max_age_ms,
        identity_key_max_age_ms: policy.identity_key_max_age_ms,
        keep_ids: policy.keep_ids,
        degraded_ends: degraded.ends,
        survive_forever_roles: degraded.survive_forever_roles,
    }
}
