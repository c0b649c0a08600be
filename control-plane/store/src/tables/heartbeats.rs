//! The heartbeat of each replica: a row that is committed over a connection of its own.
//!
//! Owns what one heartbeat is. Refuses to own what follows from heartbeats that fail: the server does.

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::Result;
use crate::counted::{may_conflict, one_row};
use crate::pool::DatabaseTarget;
use crate::query::statements;
use crate::roles::DatabaseRole;

statements! {
    async fn record(replica: Uuid) -> () = one_row "INSERT INTO replica_heartbeats (replica_id, beat_at) VALUES ($1, clock_timestamp()) \
        ON CONFLICT (replica_id) DO UPDATE SET beat_at = excluded.beat_at";
    /// Removes the heartbeats of processes that ended a day ago.
    pub async fn heartbeats_expire() -> () = may_conflict "DELETE FROM replica_heartbeats WHERE beat_at < clock_timestamp() - interval '1 day'";
    HEARTBEATS_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE application_name = $1 AND pid <> pg_backend_pid()";
}

/// Opens a new connection of role `system`, commits the heartbeat of this replica and closes the connection. Waits
/// as long as the database does. `abandoned`: the caller gave the last one up, so the server ends its connection.
///
/// # Errors
/// Errors of the connection, of the statement and of the commit; `Miscounted` if the row was not written.
pub async fn heartbeat_commit(target: &DatabaseTarget, replica: [u8; 16], abandoned: bool) -> Result<()> {
    let replica = Uuid::from_bytes(replica);
    let name = format!("rap-heartbeat {replica}");
    let options = target.options(DatabaseRole::System).application_name(&name);
    let mut connection = PgConnection::connect_with(&options).await?;
    if abandoned {
        sqlx::query(HEARTBEATS_END).bind(&name).execute(&mut connection).await?;
    }
    let mut transaction = connection.begin().await?;
    record(&mut transaction, replica).await?;
    transaction.commit().await?;
    Ok(connection.close().await?)
}
