//! Cluster rows without keys: what counts as one, what lies in it, and the one write.

use std::collections::BTreeSet;

use sqlx::Row;

use super::fixture::{cluster, cluster_with_token, id, keys};
use crate::testing::TestDatabase;
use crate::*;

const PLANT: &str = "INSERT INTO clusters (cluster_id, name, incarnation, ipv4_pool, dev, fresh_for_ms, \
    refresh_every_ms, degraded_for_ms, leaf_lifetime_ms, config_seq, next_host_number, row_version) \
    VALUES ('01010101-0101-0101-0101-010101010101', 'prod', 9, '100.96.0.0/16', false, 300000, 30000, \
    43200000, 86400000, 77, 77, 77)";

#[tokio::test]
async fn nothing_that_belongs_to_a_cluster_is_overlooked() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let rows = sqlx::query(
        "SELECT table_name::text FROM information_schema.columns JOIN information_schema.tables \
         USING (table_schema, table_name) WHERE table_schema = 'public' AND column_name = 'cluster_id' \
         AND table_type = 'BASE TABLE' AND table_name <> 'clusters'",
    )
    .fetch_all(&mut *transaction)
    .await
    .unwrap();
    let (_, text, _) = crate::tables::bare_clusters::STATEMENTS
        .iter()
        .find(|(name, ..)| *name == "rows_in_cluster")
        .unwrap();
    let tables: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    for table in &tables {
        assert!(text.contains(&format!("FROM {table} WHERE cluster_id = $1")), "{table}");
    }
    assert!(tables.len() > 12, "{tables:?}");
    drop(transaction);
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    let found = rows_in_cluster(&mut transaction, id(1)).await.unwrap();
    assert_eq!(found.last(), Some(&RowsInCluster { table: "join_tokens".into(), rows: 1 }), "{found:?}");
    assert_eq!(rows_in_cluster(&mut transaction, id(2)).await.unwrap(), []);
}

#[tokio::test]
async fn a_row_without_keys_is_sealed_once_as_it_was_checked() {
    let database = TestDatabase::migrated().await;
    database.tamper("clusters", PLANT).await;
    let store = database.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    // It is nobody's typed row.
    assert_eq!(cluster_read(&mut transaction, &keys()).await.unwrap_err().reason().code(), "row.tampered");
    let [bare] = &bare_clusters(&mut transaction).await.unwrap()[..] else { panic!("one row") };
    assert_eq!((bare.name.as_str(), bare.ipv4_pool.as_str()), ("prod", "100.96.0.0/16"));
    assert_eq!(bare_cluster_hold(&mut transaction, id(1)).await.unwrap().as_ref(), Some(bare));
    cluster_adopt(&mut transaction, &keys(), &cluster()).await.unwrap();
    let row = cluster_read(&mut transaction, &keys()).await.unwrap().unwrap();
    assert_eq!((row.cluster.incarnation, row.config_seq), (1_800_000_000, 0));
    // Neither again, nor for a row that has keys.
    assert!(cluster_adopt(&mut transaction, &keys(), &cluster()).await.is_err());
    assert_eq!(bare_cluster_read(&mut transaction, id(1)).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_checked_is_sealed_and_not_what_the_row_says_by_then() {
    let database = TestDatabase::migrated().await;
    database.tamper("clusters", PLANT).await;
    database.tamper("clusters", "UPDATE clusters SET leaf_lifetime_ms = 86400001").await;
    let store = database.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    cluster_adopt(&mut transaction, &keys(), &cluster()).await.unwrap();
    assert_eq!(cluster_read(&mut transaction, &keys()).await.unwrap_err().reason().code(), "row.tampered");
}

#[tokio::test]
async fn a_row_with_a_data_key_or_half_its_keys_is_not_bare() {
    let database = TestDatabase::migrated().await;
    database.tamper("clusters", PLANT).await;
    let store = database.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let dek = DekRow { cluster: id(1), key_version: 1, wrapped_dek: vec![1; 61] };
    dek_insert(&mut transaction, &dek).await.unwrap();
    assert_eq!(bare_cluster_read(&mut transaction, id(1)).await.unwrap(), None);
    drop(transaction);
    database.tamper("clusters", "UPDATE clusters SET sealed_map_key = '\\x01'").await;
    let mut transaction = store.system().begin().await.unwrap();
    assert_eq!(bare_clusters(&mut transaction).await.unwrap(), []);
    assert!(cluster_adopt(&mut transaction, &keys(), &cluster()).await.is_err());
}
