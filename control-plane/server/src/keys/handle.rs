//! The keys of the installation, as handlers and acts use them.

use rap_authority::{RowKeys, SealingKey, SessionKey};
use rap_store::AuditWriter;

use crate::database::replica_floors::FloorFile;
use crate::keys::data_keys::DataKeyOpener;
use crate::keys::installation::Installation;

/// What this replica signs, seals and authenticates rows with.
pub struct Keys {
    /// The installation: its facts, authority key and activation.
    pub installation: Installation,
    /// Key encryption key.
    pub kek: SealingKey,
    /// Keys of the MACs of the installation's own rows.
    pub rows: RowKeys,
    /// Key of session hashes.
    pub session_key: SessionKey,
    /// What this replica's own audit rows are written with.
    pub pen: AuditWriter,
}

impl Keys {
    /// What opens the data keys of clusters here, at or above `floors`.
    pub fn keyring(&self, floors: &FloorFile) -> DataKeyOpener {
        DataKeyOpener::of_replica(self.installation.facts.id, &self.kek, floors)
    }
}

rap_types::debug_as!(Keys, |keys| "Keys({})", keys.installation.facts.id);
