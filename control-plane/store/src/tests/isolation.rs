//! Organizations are held apart by the database itself, and a database that would not is refused.

use rap_types::OrganizationId;
use sqlx::Connection;

use super::fixture::{cluster_with_token, id, keys, node, own_keys, pen, token};
use crate::postgres::{EmbeddedPostgres, EmbeddedSettings};
use crate::testing::{TestDatabase, throw_away};
use crate::*;

const A: u8 = 0xa1;
const B: u8 = 0xb1;

/// Two organizations, each with a member, a token, a node and an audit row.
async fn two_universes(store: &Store) {
    cluster_with_token(store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    for (byte, name) in [(A, "alpha"), (B, "beta")] {
        let organization: OrganizationId = id(byte);
        organization_insert(
            &mut transaction,
            &own_keys(),
            &OrganizationRow { organization, name: name.into() },
        )
        .await
        .unwrap();
        let member = MemberRow {
            organization,
            member: uuid::Uuid::from_bytes([byte; 16]),
            name: "ann".into(),
            organization_role: "organization_owner".into(),
        };
        member_insert(&mut transaction, &own_keys(), &member).await.unwrap();
        let token = NewTokenRow { token: id(byte), ..token(Some(organization), 1) };
        token_insert(&mut transaction, &keys(), &token).await.unwrap();
        let number = host_number_allocate(&mut transaction, &keys(), id(byte), 100).await.unwrap().unwrap();
        node_insert(&mut transaction, &keys(), &node(byte, Some(organization), number)).await.unwrap();
        let entry = NewAuditRow {
            cluster: Some(id(1)),
            organization: Some(organization),
            actor: "operator:root".into(),
            action: "node.approve".into(),
            object: format!("node/{byte}"),
            before_digest: None,
            after_digest: None,
            reason: String::new(),
            request: id(byte),
        };
        audit_insert(&mut transaction, &pen(), &entry).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

const COUNTS: [&str; 5] = [
    "SELECT count(organization_id) FROM organizations",
    "SELECT count(member_id) FROM organization_members",
    "SELECT count(token_id) FROM join_tokens",
    "SELECT count(node_id) FROM nodes",
    "SELECT count(entry_id) FROM audit_log",
];

async fn counts(connection: &mut PgConnection) -> Vec<i64> {
    let mut counts = Vec::new();
    for statement in COUNTS {
        counts.push(sqlx::query_scalar(statement).fetch_one(&mut *connection).await.unwrap());
    }
    counts
}

#[tokio::test]
async fn a_transaction_without_an_organization_sees_no_row() {
    let store = TestDatabase::migrated().await.store().await;
    two_universes(&store).await;
    let mut connection = store.app().inner().acquire().await.unwrap();
    assert_eq!(counts(&mut connection).await, [0; 5]);
}

#[tokio::test]
async fn an_organization_sees_its_own_rows_and_none_of_another() {
    let store = TestDatabase::migrated().await.store().await;
    two_universes(&store).await;
    let mut transaction = store.app().begin(id(A)).await.unwrap();
    assert_eq!(counts(&mut transaction).await, [1; 5]);
    let seen = organizations_list(&mut transaction, &own_keys()).await.unwrap();
    assert_eq!(seen.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["alpha"]);
    assert_eq!(organization_by_name(&mut transaction, &own_keys(), "beta").await.unwrap(), None);
    assert_eq!(members_list(&mut transaction, &own_keys(), id(B)).await.unwrap(), []);
    // The platform's own node and token belong to no organization: nobody's to see.
    transaction.commit().await.unwrap();
    let mut connection = store.app().inner().acquire().await.unwrap();
    assert_eq!(counts(&mut connection).await, [0; 5], "the setting ends with its transaction");
}

#[tokio::test]
async fn the_organization_role_cannot_reach_keys_topology_or_writes() {
    let store = TestDatabase::migrated().await.store().await;
    two_universes(&store).await;
    for statement in [
        "SELECT wireguard_public_key FROM nodes",
        "SELECT link_endpoints FROM nodes",
        "SELECT envelope FROM join_tokens",
        "SELECT 1 FROM clusters",
        "SELECT 1 FROM cluster_authorities",
        "SELECT 1 FROM installation_authority",
        "SELECT 1 FROM operator_sessions",
        "SELECT 1 FROM cluster_admin_summaries",
        "SELECT 1 FROM mesh_latest_links",
        "DELETE FROM organizations",
        "UPDATE nodes SET name = 'x'",
        "INSERT INTO organizations (organization_id, name) VALUES (gen_random_uuid(), 'x')",
        "SET ROLE rap_system",
        "SET ROLE rap_owner",
        "ALTER TABLE nodes DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE escape (x int)",
    ] {
        let mut transaction = store.app().begin(id(A)).await.unwrap();
        let error = sqlx::raw_sql(statement).execute(&mut *transaction).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
    }
}

#[tokio::test]
async fn not_even_the_owner_of_the_tables_sees_a_row() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    two_universes(&store).await;
    let mut owner =
        PgConnection::connect_with(&database.target().options(DatabaseRole::Owner)).await.unwrap();
    assert_eq!(counts(&mut owner).await, [0; 5]);
}

#[tokio::test]
async fn the_audit_log_and_the_chain_of_heads_cannot_be_rewritten_by_the_serving_role() {
    let store = TestDatabase::migrated().await.store().await;
    two_universes(&store).await;
    for statement in [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE cluster_heads SET envelope = '\\x00'",
        "UPDATE join_tokens SET max_uses = 1000",
        "UPDATE join_tokens SET expires_at = 'infinity'",
        "UPDATE installation_authority SET mode = 'dev'",
        "UPDATE cluster_authorities SET public_key = public_key",
        "DELETE FROM cluster_authorities",
        "DELETE FROM nodes",
    ] {
        let mut transaction = store.system().begin().await.unwrap();
        let error = sqlx::raw_sql(statement).execute(&mut *transaction).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_table_or_view_that_could_be_read_past_its_policies_stops_the_start() {
    for (opening, closing) in [
        ("ALTER TABLE nodes NO FORCE ROW LEVEL SECURITY", "ALTER TABLE nodes FORCE ROW LEVEL SECURITY"),
        ("ALTER TABLE nodes DISABLE ROW LEVEL SECURITY", "ALTER TABLE nodes ENABLE ROW LEVEL SECURITY"),
        ("CREATE TABLE forgotten (x int)", "DROP TABLE forgotten"),
        ("CREATE VIEW leak AS SELECT * FROM nodes", "DROP VIEW leak"),
        ("CREATE POLICY wide ON nodes TO rap_app USING (true)", "DROP POLICY wide ON nodes"),
        ("CREATE POLICY wide ON nodes USING (true)", "DROP POLICY wide ON nodes"),
        (
            "ALTER POLICY own_organization ON nodes USING (organization_id = app_organization() OR true)",
            "ALTER POLICY own_organization ON nodes USING (organization_id = app_organization())",
        ),
    ] {
        let database = TestDatabase::migrated().await;
        let owner = database.target().options(DatabaseRole::Owner);
        let mut owner = PgConnection::connect_with(&owner).await.unwrap();
        sqlx::raw_sql(opening).execute(&mut owner).await.unwrap();
        let refusal = Store::open(database.target(), &PoolSettings::default()).await.unwrap_err();
        assert_eq!(refusal.reason().code(), "postgres.role", "{opening}: {refusal}");
        sqlx::raw_sql(closing).execute(&mut owner).await.unwrap();
        Store::open(database.target(), &PoolSettings::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_serving_role_that_could_bypass_row_level_security_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings {
        extra_bootstrap: "ALTER ROLE rap_owner SUPERUSER\n",
        ..throw_away(directory.path())
    };
    let postgres = EmbeddedPostgres::start(&settings).await.unwrap();
    let target = DatabaseTarget::embedded(&postgres);
    migrate_up(&target).await.unwrap();
    let mut owner = PgConnection::connect_with(&target.options(DatabaseRole::Owner)).await.unwrap();
    Store::open(&target, &PoolSettings::default()).await.unwrap().close().await;
    for (opening, closing, part) in [
        ("ALTER ROLE rap_app BYPASSRLS", "ALTER ROLE rap_app NOBYPASSRLS", "BYPASSRLS"),
        ("ALTER ROLE rap_system SUPERUSER", "ALTER ROLE rap_system NOSUPERUSER", "superuser"),
        ("GRANT rap_owner TO rap_system", "REVOKE rap_owner FROM rap_system", "superuser"),
        ("GRANT rap_system TO rap_app", "REVOKE rap_system FROM rap_app", "role of the planner"),
        ("ALTER ROLE rap_system CREATEROLE", "ALTER ROLE rap_system NOCREATEROLE", "make roles"),
        ("GRANT rap_owner TO rap_app; ALTER ROLE rap_owner NOSUPERUSER", "", "owner"),
    ] {
        sqlx::raw_sql(opening).execute(&mut owner).await.unwrap();
        let refusal = Store::open(&target, &PoolSettings::default()).await.unwrap_err();
        assert_eq!(refusal.reason().code(), "postgres.role");
        assert!(refusal.to_string().contains(part), "{opening}: {refusal}");
        sqlx::raw_sql(closing).execute(&mut owner).await.unwrap();
    }
    owner.close().await.unwrap();
    postgres.stop().await;
}

#[tokio::test]
async fn another_schema_before_the_products_own_is_not_looked_into() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    two_universes(&store).await;
    let before = counts(&mut store.system().begin().await.unwrap()).await;
    let mut owner =
        PgConnection::connect_with(&database.target().options(DatabaseRole::Owner)).await.unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut owner).await.unwrap();
    let copy = "CREATE SCHEMA evil AUTHORIZATION CURRENT_USER; CREATE TABLE evil.nodes (LIKE public.nodes); \
        GRANT USAGE ON SCHEMA evil TO rap_system; GRANT SELECT ON evil.nodes TO rap_system;";
    sqlx::raw_sql(copy).execute(&mut owner).await.unwrap();
    let path = format!("ALTER DATABASE \"{name}\" SET search_path = evil, public");
    sqlx::raw_sql(sqlx::AssertSqlSafe(path)).execute(&mut owner).await.unwrap();
    let anew = Store::open(database.target(), &PoolSettings::default()).await.unwrap();
    assert_eq!(counts(&mut anew.system().begin().await.unwrap()).await, before);
}

#[tokio::test]
async fn statements_that_reach_another_session_are_a_fault_of_the_configuration() {
    let store = TestDatabase::migrated().await.store().await;
    let mut connection = store.system().inner().acquire().await.unwrap();
    // As behind a pooler in transaction mode: the session has statements that this client never prepared.
    for number in 1..64 {
        let statement = format!("PREPARE sqlx_s_{number} AS SELECT 1");
        let _ = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *connection).await;
    }
    let refused = sqlx::query("SELECT 1 AS one").fetch_one(&mut *connection).await.unwrap_err();
    let refused = crate::StoreError::from(refused);
    assert_eq!(refused.reason().code(), "config.invalid", "{refused:?}");
    assert!(refused.to_string().contains("session mode"), "{refused}");
}
