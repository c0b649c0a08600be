//! The times at which the database was restored from a backup. Only a restore writes them.

use rap_types::Wall;
use sqlx::PgConnection;

use crate::Result;
use crate::columns::{read, statements, timestamp};

statements! {
    RESTORE_INSERT = "INSERT INTO restores (backup_made_at, restored_at) VALUES ($1, $2)";
    RESTORE_NEWEST = "SELECT max(restored_at) AS restored_at FROM restores";
}

/// Notes a restore, in its transaction.
pub async fn restore_insert(
    connection: &mut PgConnection,
    backup_made_at: Wall,
    restored_at: Wall,
) -> Result<()> {
    sqlx::query(RESTORE_INSERT)
        .bind(timestamp("backup_made_at", backup_made_at)?)
        .bind(timestamp("restored_at", restored_at)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// When the database was last put back; `None` if it never was.
pub async fn restore_newest(connection: &mut PgConnection) -> Result<Option<Wall>> {
    let row = sqlx::query(RESTORE_NEWEST).fetch_one(connection).await?;
    Ok(read(&row, "restored_at")?)
}
