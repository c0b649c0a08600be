//! Undoes an `init` that nobody activated.
//!
//! Owns what is removed: every row, the floors, the mode and the recorded options. The key encryption key and the data
//! directory stay. Refuses to undo an activated installation: clusters and nodes hang on it.

use rap_store::{Store, installation_read, migrate_down, migrate_up};
use rap_types::Reason;

use crate::config::layers::SETTINGS_FILE;
use crate::data_dir::DataDir;
use crate::database::opened::OpenDatabase;
use crate::database::replica_floors::FLOORS_FILE;
use crate::failure::Failure;

/// Removes the installation of this database and what `init` recorded about it. Nothing to undo is no error.
///
/// # Errors
/// `resource.exists` if it is activated, those of the database and of the disk.
pub(super) async fn undo(data: &DataDir, database: &OpenDatabase) -> Result<(), Failure> {
    let read = async |store: &Store| {
        let mut transaction = store.system().begin().await?;
        Ok(installation_read(&mut transaction).await?)
    };
    let known = database.with_store(read).await?;
    if let Some(row) = known.as_ref().filter(|row| row.activation_manifest.is_some()) {
        let text = format!("installation {} is activated; it is not replaced", row.installation.installation);
        return Err(Failure::new(Reason::ResourceExists, text));
    }
    if known.is_some() {
        migrate_down(&database.target, 0).await?;
        migrate_up(&database.target).await?;
    }
    for name in [FLOORS_FILE, SETTINGS_FILE] {
        data.remove(name)?;
    }
    data.forget_mode()
}
