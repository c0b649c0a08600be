//! Victims of a deadlock run again; errors of the caller do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Row;
use tokio::sync::Barrier;

use super::fixture::{cluster, committed, id, keys, keys_of};
use crate::testing::TestDatabase;
use crate::*;

async fn two_clusters(store: &Store) {
    committed(transact!(store.system(), |connection| {
        cluster_insert(connection, &keys(), &cluster()).await?;
        cluster_insert(
            connection,
            &keys_of(id(2)),
            &NewClusterRow { cluster: id(2), name: "two".into(), ..cluster() },
        )
        .await
    }))
    .unwrap();
}

/// Handlers need futures that may move between threads.
fn movable<F: Future + Send>(future: F) -> F {
    future
}

#[tokio::test]
async fn a_deadlock_ends_with_both_changes_made() {
    let store = TestDatabase::migrated().await.store().await;
    two_clusters(&store).await;
    let meeting = Arc::new(Barrier::new(2));
    let runs = Arc::new(AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for (first, second) in [(1, 2), (2, 1)] {
        let (store, meeting, runs) = (store.clone(), meeting.clone(), runs.clone());
        tasks.spawn(movable(async move {
            let mut waited = false;
            committed(transact!(store.system(), |connection| {
                runs.fetch_add(1, Ordering::Relaxed);
                config_seq_allocate(connection, id(first)).await?;
                if !waited {
                    waited = true;
                    meeting.wait().await;
                }
                config_seq_allocate(connection, id(second)).await
            }))
        }));
    }
    for outcome in tasks.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(runs.load(Ordering::Relaxed), 3, "exactly one victim ran again");
    let mut transaction = store.system().begin().await.unwrap();
    let seqs = sqlx::query("SELECT config_seq FROM clusters").fetch_all(&mut *transaction).await.unwrap();
    assert_eq!(seqs.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [2, 2]);
}

#[tokio::test]
async fn an_error_of_the_work_rolls_back_and_does_not_run_again() {
    let store = TestDatabase::migrated().await.store().await;
    let mut runs = 0;
    let outcome: Result<(), StoreError> = transact!(store.system(), |connection| {
        runs += 1;
        cluster_insert(connection, &keys(), &cluster()).await?;
        cluster_insert(connection, &keys(), &NewClusterRow { cluster: id(2), ..cluster() }).await
    });
    let error = outcome.unwrap_err();
    assert!(error.is_exists("clusters_name"), "{error}");
    assert_eq!(error.reason().code(), "resource.exists");
    assert_eq!(runs, 1);
    assert!(cluster_names(&mut store.system().begin().await.unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn statements_locks_and_idle_transactions_end_by_themselves() {
    let database = TestDatabase::migrated().await;
    let short = std::time::Duration::from_millis(100);
    let settings = PoolSettings {
        statement_timeout: short,
        lock_timeout: short / 2,
        idle_in_transaction_timeout: short,
        acquire_timeout: short * 20,
        system_connections: 2,
        app_connections: 1,
    };
    let patient = database.store().await;
    two_clusters(&patient).await;
    let hasty = Store::open(database.target(), &settings).await.unwrap();

    let mut transaction = hasty.system().begin().await.unwrap();
    let slow = sqlx::query("SELECT pg_sleep(60)").execute(&mut *transaction).await.map_err(StoreError::from);
    assert_eq!(slow.unwrap_err().reason().code(), "request.timeout");
    drop(transaction);

    let mut holder = patient.system().begin().await.unwrap();
    cluster_hold(&mut holder, &keys()).await.unwrap();
    let mut waiter = hasty.system().begin().await.unwrap();
    let blocked = cluster_hold(&mut waiter, &keys()).await.unwrap_err();
    assert!(blocked.is_transient(), "{blocked}");
    drop(waiter);
    drop(holder);

    let mut idle = hasty.system().begin().await.unwrap();
    cluster_hold(&mut idle, &keys_of(id(2))).await.unwrap();
    // The server ends the idle transaction: its lock becomes free without the holder's help.
    let mut other = patient.system().begin().await.unwrap();
    assert!(cluster_hold(&mut other, &keys_of(id(2))).await.unwrap().is_some());
    let gone = cluster_read(&mut idle, &keys()).await.unwrap_err();
    assert_eq!(gone.reason().code(), "store.unavailable", "{gone:?}");
    drop(idle);

    let (one, two) = (hasty.system().begin().await.unwrap(), hasty.system().begin().await.unwrap());
    let full = hasty.system().begin().await.unwrap_err();
    assert_eq!(full.reason().code(), "store.unavailable");
    drop((one, two));
}
