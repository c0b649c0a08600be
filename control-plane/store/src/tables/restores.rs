//! The times at which the database was restored from a backup. Only a restore writes them.

use rap_types::Wall;

use crate::counted::one_row;
use crate::query::{one, statements};

statements! {
    /// Notes a restore, in its transaction.
    pub async fn restore_insert(backup_made_at: Wall, restored_at: Wall) -> () = one_row
        "INSERT INTO restores (backup_made_at, restored_at) VALUES ($1, $2)";
    /// When the database was last put back; `None` if it never was.
    pub async fn restore_newest() -> Option<Wall> = one
        "SELECT max(restored_at) AS restored_at FROM restores";
}
