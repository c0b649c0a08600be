//! Where this control plane's secrets are sealed: one place per table and column.
//!
//! Owns the map from secrets to places. Refuses to own the cipher (rap-authority) and the rows.

use rap_authority::{SealPlace, SealPurpose, SealingKey, UnsealError};
use rap_types::{ClusterId, InstallationId};
use zeroize::Zeroizing;

/// Version of the keys that seal; rises with rotation.
pub const KEY_VERSION: u32 = 1;

/// A secret that is kept sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// The installation authority's seed.
    InstallationAuthority,
    /// The TLS CA's private key.
    TlsAuthority,
    /// A cluster's data key.
    DataKey(ClusterId),
    /// A cluster authority's seed, by its place in the chain.
    ClusterAuthority(ClusterId, u64),
    /// The seed of a cluster's next authority.
    PreparedAuthority(ClusterId),
    /// A cluster CA's private key, by generation.
    ClusterCa(ClusterId, u64),
    /// A cluster's map key.
    MapKey(ClusterId),
    /// The seed of an audit log key, by generation.
    LogKey(u64),
}

impl Sealed {
    /// Seals under `key`.
    pub fn seal(self, key: &SealingKey, installation: InstallationId, plaintext: &[u8]) -> Vec<u8> {
        let row_key = self.row_key();
        key.seal(&self.place(installation, &row_key), plaintext, &mut rand::rng())
    }

    /// Opens what [`Self::seal`] made.
    pub fn open(
        self,
        key: &SealingKey,
        installation: InstallationId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let row_key = self.row_key();
        key.open(&self.place(installation, &row_key), sealed)
    }

    /// Opens a 32-byte secret.
    pub fn open32(
        self,
        key: &SealingKey,
        installation: InstallationId,
        sealed: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, UnsealError> {
        let plaintext = self.open(key, installation, sealed)?;
        let (table, column, _) = self.names();
        <[u8; 32]>::try_from(plaintext.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| UnsealError { table, column })
    }

    fn names(self) -> (&'static str, &'static str, SealPurpose) {
        match self {
            Self::InstallationAuthority => {
                ("installation_authority", "sealed_private_key", SealPurpose::Authority)
            }
            Self::TlsAuthority => {
                ("installation_authority", "sealed_tls_ca_key", SealPurpose::CertificateAuthority)
            }
            Self::DataKey(_) => ("cluster_deks", "wrapped_dek", SealPurpose::DataKey),
            Self::ClusterAuthority(..) => {
                ("cluster_authorities", "sealed_private_key", SealPurpose::Authority)
            }
            Self::PreparedAuthority(_) => {
                ("cluster_authority_prepared", "sealed_private_key", SealPurpose::Authority)
            }
            Self::ClusterCa(..) => ("cluster_cas", "sealed_key", SealPurpose::CertificateAuthority),
            Self::MapKey(_) => ("clusters", "sealed_map_key", SealPurpose::Map),
            Self::LogKey(_) => ("audit_log_keys", "sealed_private_key", SealPurpose::AuditLog),
        }
    }

    fn cluster(self) -> ClusterId {
        match self {
            Self::InstallationAuthority | Self::TlsAuthority | Self::LogKey(_) => ClusterId::ZERO,
            Self::DataKey(cluster)
            | Self::PreparedAuthority(cluster)
            | Self::ClusterAuthority(cluster, _)
            | Self::ClusterCa(cluster, _)
            | Self::MapKey(cluster) => cluster,
        }
    }

    fn row_key(self) -> Vec<u8> {
        match self {
            Self::InstallationAuthority | Self::TlsAuthority => vec![1],
            Self::DataKey(cluster) => [cluster.as_bytes().as_slice(), &KEY_VERSION.to_be_bytes()].concat(),
            Self::ClusterAuthority(cluster, number) | Self::ClusterCa(cluster, number) => {
                [cluster.as_bytes().as_slice(), &number.to_be_bytes()].concat()
            }
            Self::PreparedAuthority(cluster) | Self::MapKey(cluster) => cluster.to_vec(),
            Self::LogKey(generation) => generation.to_be_bytes().to_vec(),
        }
    }

    fn place(self, installation: InstallationId, row_key: &[u8]) -> SealPlace<'_> {
        let (table, column, purpose) = self.names();
        SealPlace {
            installation,
            table,
            column,
            row_key,
            cluster: self.cluster(),
            purpose,
            key_version: KEY_VERSION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sealed_secret_opens_as_another() {
        let key = SealingKey::generate(&mut rand::rng());
        let installation = InstallationId::from_bytes([1; 16]);
        let (one, two) = (ClusterId::from_bytes([1; 16]), ClusterId::from_bytes([2; 16]));
        let all = [
            Sealed::InstallationAuthority,
            Sealed::TlsAuthority,
            Sealed::DataKey(one),
            Sealed::DataKey(two),
            Sealed::ClusterAuthority(one, 1),
            Sealed::ClusterAuthority(one, 2),
            Sealed::ClusterAuthority(two, 1),
            Sealed::PreparedAuthority(one),
            Sealed::ClusterCa(one, 1),
            Sealed::MapKey(one),
            Sealed::LogKey(1),
            Sealed::LogKey(2),
        ];
        for sealed in all {
            let bytes = sealed.seal(&key, installation, &[7; 32]);
            for other in all {
                assert_eq!(
                    other.open32(&key, installation, &bytes).is_ok(),
                    other == sealed,
                    "{sealed:?} {other:?}"
                );
            }
        }
    }
}
