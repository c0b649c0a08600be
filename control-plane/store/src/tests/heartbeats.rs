//! A server that answers and takes no write: heartbeats fail, and its connections leave the pool.

use rap_types::Reason;
use sqlx::Row as _;

use crate::testing::TestDatabase;
use crate::*;

/// New connections to this database are read-only; those that are open stay as they are.
const READ_ONLY: &str = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$";

async fn pid(store: &Store) -> i32 {
    let mut transaction = store.system().begin().await.unwrap();
    let pid = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut *transaction).await.unwrap().get(0);
    transaction.rollback().await.unwrap();
    pid
}

/// With one connection of role `system`, so that every caller gets the same one.
async fn store_of_one(database: &TestDatabase) -> Store {
    let settings = PoolSettings { system_connections: 1, ..PoolSettings::default() };
    Store::open(database.target(), &settings).await.unwrap()
}

#[tokio::test]
async fn a_heartbeat_is_a_write_over_a_new_connection() {
    let database = TestDatabase::migrated().await;
    let store = store_of_one(&database).await;
    heartbeat_commit(database.target(), [1; 16], false).await.unwrap();
    heartbeat_commit(database.target(), [1; 16], true).await.unwrap();
    let before = pid(&store).await;
    database.as_superuser(READ_ONLY).await;
    let error = heartbeat_commit(database.target(), [1; 16], false).await.unwrap_err();
    assert_eq!(error.reason(), Reason::StoreUnavailable, "{error:?}");
    // An old connection still writes: it says nothing about the next one.
    assert_eq!(pid(&store).await, before);
    let mut transaction = store.system().begin().await.unwrap();
    heartbeats_expire(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_connection_whose_server_became_read_only_leaves_the_pool() {
    let store = store_of_one(&TestDatabase::migrated().await).await;
    let before = pid(&store).await;
    assert_eq!(pid(&store).await, before, "a connection that is in order is used again");
    let mut connection = store.system().inner().acquire().await.unwrap();
    sqlx::raw_sql("SET default_transaction_read_only = on").execute(&mut *connection).await.unwrap();
    drop(connection);
    let mut transaction = store.system().begin().await.unwrap();
    heartbeats_expire(&mut transaction).await.expect("a connection that writes");
    transaction.commit().await.unwrap();
    assert_ne!(pid(&store).await, before);
}

#[tokio::test]
async fn the_connection_of_a_heartbeat_that_was_given_up_is_ended_by_the_next_one() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    // Somebody holds the row: the heartbeat waits for the lock.
    heartbeat_commit(database.target(), [1; 16], false).await.unwrap();
    let mut holder = store.system().begin().await.unwrap();
    sqlx::raw_sql("SELECT 1 FROM replica_heartbeats FOR UPDATE").execute(&mut *holder).await.unwrap();
    let target = database.target().clone();
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn(async move { heartbeat_commit(&target, [1; 16], false).await });
    let mut other = store.system().begin().await.unwrap();
    let is_waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rap-heartbeat%' \
        AND datname = current_database() AND wait_event_type = 'Lock'";
    loop {
        // The activity is read once per transaction.
        sqlx::raw_sql("SELECT pg_stat_clear_snapshot()").execute(&mut *other).await.unwrap();
        let count: i64 = sqlx::raw_sql(is_waiting).fetch_one(&mut *other).await.unwrap().get(0);
        if count == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    let target = database.target().clone();
    let mut next = tokio::task::JoinSet::new();
    next.spawn(async move { heartbeat_commit(&target, [1; 16], true).await });
    waiting.join_next().await.unwrap().unwrap().expect_err("its connection was ended");
    holder.rollback().await.unwrap();
    next.join_next().await.unwrap().unwrap().unwrap();
}
