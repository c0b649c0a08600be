//! How old the keys of a membership are, against what policy lets them be.
//!
//! Owns the comparison. Refuses to replace keys: the host does.

use std::time::Duration;

use rap_types::Wall;
use rap_wire::v1;

use crate::host::HostHandle;
use crate::membership::{Membership, Wanted};

/// How old the keys are, and whom to tell when they are too old.
pub(super) struct KeyAges {
    /// Who replaces them.
    pub(super) host: HostHandle,
    /// Name of the membership.
    pub(super) name: String,
    /// Since when the identity key is in use.
    pub(super) identity_since: Wall,
    /// Since when the WireGuard key is in use.
    pub(super) wireguard_since: Wall,
    /// New keys are on disk, and the control plane has not taken them yet.
    pub(super) unfinished: bool,
}

impl KeyAges {
    /// Ages of the keys of a membership; `host` replaces them.
    pub(super) fn of(membership: &Membership, host: HostHandle) -> Self {
        Self {
            host,
            name: membership.dir.name().to_string(),
            identity_since: membership.keys.identity_since.unwrap_or(membership.joined_at),
            wireguard_since: membership.keys.wireguard_since.unwrap_or(membership.joined_at),
            unfinished: membership.keys.pending.is_some(),
        }
    }

    /// The keys that `policy` wants replaced at `now`.
    pub(super) fn due(&self, policy: &v1::PolicyChunk, now: Wall) -> Wanted {
        let old = |since: Wall, most: u64| most > 0 && now.since(since) >= Duration::from_millis(most);
        Wanted {
            identity: old(self.identity_since, policy.identity_key_max_age_ms),
            wireguard: old(self.wireguard_since, policy.wireguard_key_max_age_ms),
        }
    }
}
