//! Migrations go up, down and up again, on empty and on filled databases.

use sqlx::{Connection, Row};

use super::fixture::{cluster_with_token, id, keys, node_added, pen, request};
use crate::testing::TestDatabase;
use crate::*;

/// Every table, column, constraint, index, policy and function of the schema, as text.
async fn schema(target: &DatabaseTarget) -> Vec<String> {
    let mut owner = PgConnection::connect_with(&target.options(DatabaseRole::Owner)).await.unwrap();
    let rows = sqlx::query(
        "SELECT 'column ' || table_name || '.' || column_name || ' ' || coalesce(domain_name, data_type) \
             || ' ' || is_nullable || ' ' || coalesce(column_default, '') AS line \
             FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations' \
         UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid) \
             FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 \
                 AND conrelid <> '_sqlx_migrations'::regclass \
         UNION ALL SELECT 'index ' || indexdef FROM pg_indexes \
             WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations' \
         UNION ALL SELECT 'policy ' || tablename || ' ' || policyname || ' ' || cmd || ' ' || roles::text \
             || coalesce(qual, '') || coalesce(with_check, '') FROM pg_policies \
         UNION ALL SELECT 'acl ' || relname || ' ' || coalesce(relacl::text, '') FROM pg_class \
             WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE '%sqlx_migrations%' \
         UNION ALL SELECT 'domain ' || typname FROM pg_type \
             WHERE typnamespace = 'public'::regnamespace AND typtype = 'd' \
         UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace \
         ORDER BY line",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    rows.iter().map(|row| row.get("line")).collect()
}

/// Fills every family that a foreign key joins.
async fn fill(store: &Store) {
    let cluster = cluster_with_token(store, 3).await;
    let mut transaction = store.system().begin().await.unwrap();
    let node = node_added(&mut transaction, 50).await;
    let JoinOutcome::Created(row) =
        join_request_upsert(&mut transaction, &keys(), &request(1, None)).await.unwrap()
    else {
        panic!("a fresh request")
    };
    join_request_approve(&mut transaction, &keys(), row.request.request, node, b"contract").await.unwrap();
    let seq = config_seq_allocate(&mut transaction, cluster).await.unwrap();
    outbox_append(&mut transaction, cluster, seq, &["trust".into()], false).await.unwrap();
    let entry = NewAuditRow {
        cluster: Some(cluster),
        organization: None,
        actor: "system".into(),
        action: "node.approve".into(),
        object: "node".into(),
        before_digest: None,
        after_digest: None,
        reason: String::new(),
        request: id(1),
    };
    audit_insert(&mut transaction, &pen(), &entry).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn up_down_up_on_an_empty_database_gives_the_same_schema() {
    let database = TestDatabase::empty().await;
    assert_eq!(migration_applied(database.target()).await.unwrap(), 0);
    migrate_up(database.target()).await.unwrap();
    assert_eq!(migration_applied(database.target()).await.unwrap(), newest_migration());
    let first = schema(database.target()).await;
    migrate_down(database.target(), 0).await.unwrap();
    assert_eq!(schema(database.target()).await, Vec::<String>::new());
    migrate_up(database.target()).await.unwrap();
    assert_eq!(schema(database.target()).await, first);
    assert!(first.len() > 200, "{}", first.len());
}

#[tokio::test]
async fn every_single_step_goes_down_and_up_again_on_a_filled_database() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    fill(&store).await;
    store.close().await;
    let full = schema(database.target()).await;
    for step in (0..newest_migration()).rev() {
        migrate_down(database.target(), step).await.unwrap();
        assert_eq!(migration_applied(database.target()).await.unwrap(), step);
        let below = schema(database.target()).await;
        migrate_up(database.target()).await.unwrap();
        assert_eq!(schema(database.target()).await, full, "up from {step}");
        migrate_down(database.target(), step).await.unwrap();
        assert_eq!(schema(database.target()).await, below, "down to {step}");
    }
    migrate_up(database.target()).await.unwrap();
    fill(&database.store().await).await;
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let database = TestDatabase::migrated().await;
    let mut owner =
        PgConnection::connect_with(&database.target().options(DatabaseRole::Owner)).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999999, 'later', true, '\\x00', 0)",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let before = schema(database.target()).await;
    let refusal = migrate_up(database.target()).await.unwrap_err();
    assert_eq!(refusal.reason().code(), "migration.unknown");
    assert!(refusal.to_string().contains("999999"), "{refusal}");
    assert!(migrate_down(database.target(), 0).await.is_err());
    assert_eq!(schema(database.target()).await, before);
}

#[tokio::test]
async fn an_applied_migration_with_another_text_is_refused() {
    let database = TestDatabase::migrated().await;
    let mut owner =
        PgConnection::connect_with(&database.target().options(DatabaseRole::Owner)).await.unwrap();
    sqlx::raw_sql("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1")
        .execute(&mut owner)
        .await
        .unwrap();
    let refusal = migrate_up(database.target()).await.unwrap_err();
    assert!(matches!(refusal, MigrationError::Edited(1)), "{refusal}");
    // The refused run gave its lock back: another one is refused too instead of waiting for ever.
    assert!(migrate_up(database.target()).await.is_err());
}

#[tokio::test]
async fn replicas_that_migrate_at_once_all_succeed() {
    let database = TestDatabase::empty().await;
    let mut replicas = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let target = database.target().clone();
        replicas.spawn(async move { migrate_up(&target).await });
    }
    for outcome in replicas.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(migration_applied(database.target()).await.unwrap(), newest_migration());
}
