//! What this control plane's secrets are sealed with: one context per table and column.
//!
//! Owns the map from secrets to contexts. Refuses to own the cipher (rap-authority) and the rows.

use rap_authority::{SealContext, SealPurpose, SealingKey, UnsealError};
use rap_types::{ClusterId, InstallationId};
use zeroize::Zeroizing;

use crate::keys::key_ring::KeyRing;

/// A secret that is kept sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// The installation authority's seed.
    InstallationAuthority,
    /// The TLS CA's private key.
    TlsAuthority,
    /// A cluster's data key, by version.
    DataKey(ClusterId, u32),
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
    /// Seals under the newest key.
    pub fn seal<'a>(
        self,
        keys: impl Into<KeyRing<'a>>,
        installation: InstallationId,
        plaintext: &[u8],
    ) -> Vec<u8> {
        let ((version, key), row_key) = (keys.into().newest(), self.row_key());
        key.seal(&self.context(installation, &row_key, version), plaintext, &mut rand::rng())
    }

    /// Opens what [`Self::seal`] made under any of the keys.
    pub fn open<'a>(
        self,
        keys: impl Into<KeyRing<'a>>,
        installation: InstallationId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let row_key = self.row_key();
        let open = |(version, key): (u32, &SealingKey)| {
            key.open(&self.context(installation, &row_key, version), sealed).ok()
        };
        keys.into().sealers(sealed).into_iter().find_map(open).ok_or_else(|| self.refused())
    }

    /// Opens a 32-byte secret.
    pub fn open32<'a>(
        self,
        keys: impl Into<KeyRing<'a>>,
        installation: InstallationId,
        sealed: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, UnsealError> {
        self.exactly32(&self.open(keys, installation, sealed)?)
    }

    pub(super) fn exactly32(self, plaintext: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnsealError> {
        <[u8; 32]>::try_from(plaintext).map(Zeroizing::new).map_err(|_| self.refused())
    }

    /// Whether the newest key sealed this.
    pub(super) fn is_under_newest(
        self,
        keys: KeyRing<'_>,
        installation: InstallationId,
        sealed: &[u8],
    ) -> bool {
        let ((version, key), row_key) = (keys.newest(), self.row_key());
        key.open(&self.context(installation, &row_key, version), sealed).is_ok()
    }

    fn refused(self) -> UnsealError {
        let (table, column, _) = self.names();
        UnsealError { table, column }
    }

    fn names(self) -> (&'static str, &'static str, SealPurpose) {
        match self {
            Self::InstallationAuthority => {
                ("installation_authority", "sealed_private_key", SealPurpose::Authority)
            }
            Self::TlsAuthority => {
                ("installation_authority", "sealed_tls_ca_key", SealPurpose::CertificateAuthority)
            }
            Self::DataKey(..) => ("cluster_deks", "wrapped_dek", SealPurpose::DataKey),
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
            Self::DataKey(cluster, _)
            | Self::PreparedAuthority(cluster)
            | Self::ClusterAuthority(cluster, _)
            | Self::ClusterCa(cluster, _)
            | Self::MapKey(cluster) => cluster,
        }
    }

    fn row_key(self) -> Vec<u8> {
        match self {
            Self::InstallationAuthority | Self::TlsAuthority => vec![1],
            Self::DataKey(cluster, version) => {
                [cluster.as_bytes().as_slice(), &version.to_be_bytes()].concat()
            }
            Self::ClusterAuthority(cluster, number) | Self::ClusterCa(cluster, number) => {
                [cluster.as_bytes().as_slice(), &number.to_be_bytes()].concat()
            }
            Self::PreparedAuthority(cluster) | Self::MapKey(cluster) => cluster.to_vec(),
            Self::LogKey(generation) => generation.to_be_bytes().to_vec(),
        }
    }

    fn context(self, installation: InstallationId, row_key: &[u8], key_version: u32) -> SealContext<'_> {
        let (table, column, purpose) = self.names();
        SealContext { installation, table, column, row_key, cluster: self.cluster(), purpose, key_version }
    }
}

#[cfg(test)]
mod tests {
    use rap_authority::DataKeys;

    use super::*;

    #[test]
    fn no_sealed_secret_opens_as_another() {
        let key = SealingKey::generate(&mut rand::rng());
        let installation = InstallationId::from_bytes([1; 16]);
        let (one, two) = (ClusterId::from_bytes([1; 16]), ClusterId::from_bytes([2; 16]));
        let all = [
            Sealed::InstallationAuthority,
            Sealed::TlsAuthority,
            Sealed::DataKey(one, 1),
            Sealed::DataKey(one, 2),
            Sealed::DataKey(two, 1),
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

    #[test]
    fn a_clusters_secret_opens_under_the_version_that_sealed_it_and_no_other() {
        let installation = InstallationId::from_bytes([1; 16]);
        let secret = Sealed::MapKey(ClusterId::from_bytes([1; 16]));
        let [one, two] = [1, 2].map(|version| (version, SealingKey::generate(&mut rand::rng())));
        let old = DataKeys::of(vec![one.clone()]).unwrap();
        let both = DataKeys::of(vec![one.clone(), two.clone()]).unwrap();
        let alone = both.newest_alone();
        let (before, after) =
            (secret.seal(&old, installation, &[7; 32]), secret.seal(&both, installation, &[7; 32]));
        for (keys, opens) in [(&old, [true, false]), (&both, [true, true]), (&alone, [false, true])] {
            let found = [&before, &after].map(|sealed| secret.open32(keys, installation, sealed).is_ok());
            assert_eq!(found, opens);
        }
        // The named version is authenticated.
        let mut renamed = before;
        renamed[4] = 2;
        let swapped = DataKeys::of(vec![(2, one.1)]).unwrap();
        assert!(secret.open32(&swapped, installation, &renamed).is_err());
    }
}
