//! The order of cluster heads: (incarnation, version, refresh).

use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

counter!(
    /// One life of a cluster's database; rises on restore or failover.
    Incarnation
);
counter!(
    /// The `config_seq` that a head covers.
    Version
);
counter!(
    /// How often the head of one version was re-signed while idle; 0 = first.
    Refresh
);

/// Heads compare by incarnation, then version, then refresh.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct HeadOrder {
    /// Life of the database.
    pub incarnation: Incarnation,
    /// Configuration version within it.
    pub version: Version,
    /// Idle re-sign within the version.
    pub refresh: Refresh,
}

impl HeadOrder {
    /// Builds an order from its three numbers.
    pub const fn new(incarnation: u64, version: u64, refresh: u64) -> Self {
        Self { incarnation: Incarnation(incarnation), version: Version(version), refresh: Refresh(refresh) }
    }

    /// The part that a node keeps by fsync: (incarnation, version).
    pub const fn durable(&self) -> (Incarnation, Version) {
        (self.incarnation, self.version)
    }
}

impl fmt::Display for HeadOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.incarnation, self.version, self.refresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnation_outranks_version_outranks_refresh() {
        assert!(HeadOrder::new(2, 0, 0) > HeadOrder::new(1, 9, 9));
        assert!(HeadOrder::new(1, 2, 0) > HeadOrder::new(1, 1, 9));
        assert!(HeadOrder::new(1, 1, 1) > HeadOrder::new(1, 1, 0));
    }
}
