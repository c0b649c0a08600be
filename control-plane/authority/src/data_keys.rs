//! The data keys of a cluster. During a rotation there are two: the newest seals, every live one opens.
//!
//! Owns which version seals and which versions open. Refuses to own where wrapped keys are stored and which key wraps
//! them: an [`OpensDataKeys`] has both.

use rap_types::Digest;

use crate::{Floor, SealingKey};

/// The live data keys of a cluster, oldest first. Prints nothing but their number.
#[derive(Clone)]
pub struct DataKeys(Vec<(u32, SealingKey)>);

impl DataKeys {
    /// These keys by version; `None` without any, or if two have one version.
    pub fn of(mut keys: Vec<(u32, SealingKey)>) -> Option<Self> {
        keys.sort_by_key(|(version, _)| *version);
        let distinct = keys.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (distinct && !keys.is_empty()).then_some(Self(keys))
    }

    /// The only key of a new cluster.
    pub fn first(key: &SealingKey) -> Self {
        Self(vec![(1, key.clone())])
    }

    /// The key that seals, and its version.
    pub fn newest(&self) -> (u32, &SealingKey) {
        let (version, key) = &self.0[self.0.len() - 1];
        (*version, key)
    }

    /// The oldest version that still opens.
    pub fn oldest_version(&self) -> u32 {
        self.0[0].0
    }

    /// The floor below which no data key counts, once these are what is live.
    pub fn floor(&self) -> Floor {
        let (version, key) = &self.0[0];
        Floor { sequence: u64::from(*version), digest: Self::digest(key) }
    }

    /// What tells two keys of one version apart and nothing else about them.
    pub fn digest(key: &SealingKey) -> Digest {
        Digest::from_bytes(*key.derive("rap.data-key-floor.v1"))
    }

    /// The version that the newest replaces, while both are live.
    pub fn replaced_version(&self) -> Option<u32> {
        (self.0.len() > 1).then(|| self.oldest_version())
    }

    /// The key of one version.
    pub fn version(&self, version: u32) -> Option<&SealingKey> {
        self.0.iter().find(|(known, _)| *known == version).map(|(_, key)| key)
    }

    /// The newest key alone: what is left once the others are retired.
    #[must_use]
    pub fn newest_alone(&self) -> Self {
        Self(self.0[self.0.len() - 1..].to_vec())
    }

    /// All keys, newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &SealingKey> {
        self.0.iter().rev().map(|(_, key)| key)
    }
}

rap_types::debug_as!(DataKeys, |keys| "DataKeys({})", keys.0.len());

/// Opens wrapped data keys as they are stored.
pub trait OpensDataKeys: Send + Sync {
    /// The keys, by version and wrapped form, without those that were retired before; `None` if one does
    /// not open or none is left.
    fn open(&self, wrapped: &[(u64, Vec<u8>)]) -> Option<DataKeys>;

    /// One key, whatever was seen of it before; `None` if it does not open.
    fn unwrap(&self, version: u64, wrapped: &[u8]) -> Option<SealingKey>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SealingKey {
        SealingKey::from_slice(&[byte; 32]).unwrap()
    }

    #[test]
    fn the_newest_version_seals_whatever_the_order_and_versions_are_distinct() {
        let keys = DataKeys::of(vec![(4, key(4)), (3, key(3))]).unwrap();
        assert_eq!(keys.newest().0, 4);
        assert_eq!((keys.oldest_version(), keys.replaced_version()), (3, Some(3)));
        assert_eq!(keys.version(3).unwrap().expose(), &[3; 32]);
        assert!(keys.version(5).is_none());
        assert_eq!(keys.floor(), Floor { sequence: 3, digest: DataKeys::digest(&key(3)) });
        assert_ne!(DataKeys::digest(&key(3)), DataKeys::digest(&key(4)));
        assert_ne!(DataKeys::digest(&key(3)), Digest::from_bytes([3; 32]));
        let alone = keys.newest_alone();
        assert_eq!((alone.oldest_version(), alone.replaced_version()), (4, None));
        assert!(DataKeys::of(Vec::new()).is_none());
        assert!(DataKeys::of(vec![(1, key(1)), (1, key(2))]).is_none());
        assert_eq!(format!("{keys:?}"), "DataKeys(2)");
    }
}
