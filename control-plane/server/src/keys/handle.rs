//! The keys of the installation, as every handler may use them.

use crate::keys::data_keys::Keyring;
use crate::replica::Replica;

impl Replica {
    /// What opens the data keys of clusters here.
    pub fn keyring(&self) -> Keyring {
        Keyring::of_replica(self.installation.facts.id, &self.kek, &self.floors)
    }
}
