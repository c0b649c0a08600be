//! A set of relays, by their positions in the engine.

/// Most relays that one node may use: those of the platform and those of its organization.
pub(crate) const RELAYS: usize = 128;

/// A set of relays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RelaySet(u128);

impl RelaySet {
    pub(crate) fn of(relays: impl IntoIterator<Item = u8>) -> Self {
        relays.into_iter().fold(Self::default(), Self::with)
    }

    pub(crate) const fn with(self, relay: u8) -> Self {
        Self(self.0 | 1 << relay)
    }

    pub(crate) const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn has(self, relay: u8) -> bool {
        self.0 & 1 << relay != 0
    }

    pub(crate) const fn shares(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
