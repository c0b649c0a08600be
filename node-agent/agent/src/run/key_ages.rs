//! How old the keys of a membership are, against what policy lets them be.
//!
//! Owns the comparison. Refuses to replace keys: the host does.

use std::time::Duration;

use rap_types::Wall;
use rap_wire::v1;

use crate::host::HostHandle;
use crate::membership::Wanted;

/// How old the keys are, and whom to tell when they are too old.
pub struct KeyAges {
    /// Who replaces them.
    pub host: HostHandle,
    /// Name of the membership.
    pub name: String,
    /// Since when the identity key is in use.
    pub identity_since: Wall,
    /// Since when the WireGuard key is in use.
    pub wireguard_since: Wall,
    /// New keys wait on disk for the control plane's word.
    pub unfinished: bool,
}

impl KeyAges {
    /// The keys that `policy` wants replaced at `now`.
    pub(super) fn due(&self, policy: &v1::PolicyChunk, now: Wall) -> Wanted {
        let old = |since: Wall, most: u64| most > 0 && now.since(since) >= Duration::from_millis(most);
        Wanted {
            identity: old(self.identity_since, policy.identity_key_max_age_ms),
            wireguard: old(self.wireguard_since, policy.wireguard_key_max_age_ms),
        }
    }
}
