//! Authentication of audit rows between their insertion and the checkpoint that covers them.
//!
//! Owns the key and the bytes that it covers. Refuses to own the tree: once a signed checkpoint covers a row, the
//! checkpoint proves it.

use std::sync::Arc;

use rap_contract::{AuditEntry, Reject};
use rap_types::{InstallationId, Reason};

use crate::SealingKey;
use crate::rows::{RowKey, row_mac};

/// The key of audit rows, derived from the key encryption key, so that replicas agree. Cheap to clone;
/// prints nothing.
#[derive(Clone)]
pub struct AuditKey(Arc<Inner>);

struct Inner {
    installation: InstallationId,
    current: RowKey,
    previous: Vec<RowKey>,
}

impl AuditKey {
    /// The audit key of a key encryption key; those of `previous` ones still verify.
    pub fn of<'a>(
        kek: &SealingKey,
        previous: impl IntoIterator<Item = &'a SealingKey>,
        installation: InstallationId,
    ) -> Self {
        let previous = previous.into_iter().map(derived).collect();
        Self(Arc::new(Inner { installation, current: derived(kek), previous }))
    }

    /// The MAC to store with an entry.
    pub fn mac(&self, entry: &AuditEntry) -> [u8; 32] {
        let key = entry.entry.to_be_bytes();
        row_mac(&self.0.current, self.0.installation, TABLE, &key, 1, &[&entry.encode()])
    }

    /// Checks the MAC stored with an entry.
    ///
    /// # Errors
    /// `audit.tampered`.
    pub fn check(&self, entry: &AuditEntry, stored: &[u8]) -> Result<(), Reject> {
        let (key, bytes) = (entry.entry.to_be_bytes(), entry.encode());
        let holds =
            |with: &RowKey| with.check(self.0.installation, TABLE, &key, 1, &[&bytes], stored).is_ok();
        if holds(&self.0.current) || self.0.previous.iter().any(holds) {
            return Ok(());
        }
        Err(Reject::new(Reason::AuditTampered, "an audit row is not what was written"))
    }
}

rap_types::debug_as!(AuditKey, "AuditKey");

fn derived(kek: &SealingKey) -> RowKey {
    let key = SealingKey::from_slice(kek.derive("rap.audit.v1").as_slice());
    RowKey::of(&key.expect("HKDF gives 32 bytes that are not all zero"))
}

const TABLE: &str = "audit_log";

#[cfg(test)]
mod tests {
    use super::*;
    use rap_types::RequestId;

    fn entry() -> AuditEntry {
        AuditEntry {
            entry: 1,
            recorded_at_us: 2,
            cluster: None,
            organization: None,
            actor: "system".into(),
            device: String::new(),
            action: "a.b".into(),
            object: String::new(),
            before_digest: None,
            after_digest: None,
            reason: String::new(),
            request: RequestId::from_bytes([1; 16]),
        }
    }

    #[test]
    fn a_mac_holds_for_its_entry_installation_and_key_and_a_previous_key_still_verifies() {
        let [old, new] = [[1; 32], [2; 32]].map(|seed| SealingKey::from_slice(&seed).unwrap());
        let installation = InstallationId::from_bytes([1; 16]);
        let key = AuditKey::of(&old, [], installation);
        let stored = key.mac(&entry());
        assert_eq!(key.check(&entry(), &stored), Ok(()));
        let other = AuditEntry { actor: "operator:eve".into(), ..entry() };
        assert_eq!(key.check(&other, &stored).unwrap_err().reason, Reason::AuditTampered);
        assert!(key.check(&entry(), &stored[..31]).is_err());
        assert!(AuditKey::of(&old, [], InstallationId::ZERO).check(&entry(), &stored).is_err());
        assert!(AuditKey::of(&new, [], installation).check(&entry(), &stored).is_err());
        let rotated = AuditKey::of(&new, [&old], installation);
        assert_eq!(rotated.check(&entry(), &stored), Ok(()));
        assert_ne!(rotated.mac(&entry()), stored);
    }
}
