//! Authentication of rows that feed a signature.
//!
//! Owns the MAC over a row's identity, version and columns. Refuses to own which columns those are.

use hmac::{Hmac, KeyInit as _, Mac as _};
use rap_contract::Reject;
use rap_types::{InstallationId, Reason};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::SealingKey;

/// Key of row MACs, derived from a data key.
pub struct RowKey(Zeroizing<[u8; 32]>);

impl RowKey {
    /// The row key of a data key.
    pub fn of(data_key: &SealingKey) -> Self {
        Self(data_key.derive("rap.row-mac.v1"))
    }

    /// Checks the MAC stored with a row.
    ///
    /// # Errors
    /// `row.tampered`.
    pub fn check(
        &self,
        installation: InstallationId,
        table: &'static str,
        primary_key: &[u8],
        row_version: u64,
        columns: &[&[u8]],
        stored: &[u8],
    ) -> Result<(), Reject> {
        mac(self, installation, table, primary_key, row_version, columns)
            .verify_slice(stored)
            .map_err(|_| Reject::new(Reason::RowTampered, table))
    }
}

/// HMAC-SHA-256 over (installation, table, primary key, row version, columns), each with its length.
pub fn row_mac(
    key: &RowKey,
    installation: InstallationId,
    table: &str,
    primary_key: &[u8],
    row_version: u64,
    columns: &[&[u8]],
) -> [u8; 32] {
    mac(key, installation, table, primary_key, row_version, columns).finalize().into_bytes().into()
}

fn mac(
    key: &RowKey,
    installation: InstallationId,
    table: &str,
    primary_key: &[u8],
    row_version: u64,
    columns: &[&[u8]],
) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.0.as_slice()).expect("HMAC takes keys of any length");
    let version = row_version.to_be_bytes();
    let fixed: [&[u8]; 4] = [installation.as_bytes(), table.as_bytes(), primary_key, &version];
    mac.update(b"rap.row.v1\0");
    for field in fixed.iter().chain(columns) {
        mac.update(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        mac.update(field);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_holds_for_its_row_only() {
        let key = RowKey::of(&SealingKey::from_slice(&[1; 32]).unwrap());
        let installation = InstallationId::from_bytes([1; 16]);
        let stored = row_mac(&key, installation, "nodes", b"id", 1, &[b"ab", b"c"]);
        let holds = |table, id: &[u8], version, columns: &[&[u8]]| {
            key.check(installation, table, id, version, columns, &stored).is_ok()
        };
        assert!(holds("nodes", b"id", 1, &[b"ab", b"c"]));
        assert!(!holds("nodes", b"id", 1, &[b"a", b"bc"]));
        assert!(!holds("nodes", b"id", 2, &[b"ab", b"c"]));
        assert!(!holds("nodes", b"di", 1, &[b"ab", b"c"]));
        assert!(!holds("tokens", b"id", 1, &[b"ab", b"c"]));
        let other = RowKey::of(&SealingKey::from_slice(&[2; 32]).unwrap());
        assert!(other.check(installation, "nodes", b"id", 1, &[b"ab", b"c"], &stored).is_err());
    }
}
