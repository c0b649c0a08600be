//! A database that somebody else writes: every covered column of every row, copies, roles, old rows.

use rap_contract::KeyState;
use rap_types::IdentityStatus;
use serde_json::json;
use sqlx::Connection;
use sqlx::postgres::PgPoolOptions;

use super::fixture::{
    authority, claim, cluster_with_token, id, keys, keys_of, node_added, node_changed, own_keys, request,
    token_id,
};
use crate::testing::TestDatabase;
use crate::*;

/// Tables with a MAC that this mechanism does not read, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "installation_authority",
        "its keys are sealed, its manifest is signed; both are verified at every load",
    ),
    ("platform_role_grants", "the envelope is signed; the columns count only if it says the same"),
    ("audit_log", "under the audit log's own key, in its own tree"),
];

/// Columns that no MAC covers, and why.
const EXEMPT: &[(&str, &str, &str)] = &[
    ("clusters", "config_seq", "signed heads are its floor"),
    ("clusters", "next_host_number", "the unique index decides; an edit can only skip or collide"),
    ("clusters", "sealed_map_key", "its place is authenticated where it is opened"),
    ("clusters", "created_at", "shown, never decided on"),
    ("cluster_authorities", "sealed_private_key", "its place is authenticated where it is opened"),
    ("cluster_authorities", "created_at", "shown, never decided on"),
    ("cluster_cas", "sealed_key", "its place is authenticated where it is opened"),
    ("cluster_cas", "created_at", "shown, never decided on"),
    ("cluster_policies", "updated_at", "shown, never decided on"),
    ("join_tokens", "created_at", "shown, never decided on"),
    ("join_requests", "requested_at", "shown, never decided on"),
    ("join_requests", "decided_at", "shown; the state decides"),
    ("node_addresses", "assigned_at", "shown, never decided on"),
    ("nodes", "created_at", "shown, never decided on"),
    ("nodes", "status_at", "says when absence began; contacts say as much and have no MAC either"),
    ("node_roles", "assigned_at", "shown, never decided on"),
    ("idempotency_keys", "created_at", "says when the key is forgotten; a forgotten key stands for nothing"),
    ("operators", "created_at", "shown, never decided on"),
    ("organizations", "created_at", "shown, never decided on"),
    ("organization_members", "created_at", "shown, never decided on"),
];

/// Words that the domain of a column admits.
const WORDS: &[(&str, &str)] = &[
    ("rap_identity_status", "'draining'"),
    ("rap_join_state", "'denied'"),
    ("rap_key_state", "'tainted'"),
    ("rap_approval_mode", "'auto'"),
    ("rap_organization_role", "'organization_admin'"),
];

/// One row or more in every table with a MAC, and a transaction that may do anything with them.
pub(super) async fn everything() -> (TestDatabase, SystemTransaction) {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    cluster_with_token(&store, 9).await;
    let mut transaction = store.system().begin().await.unwrap();
    let connection = &mut transaction;
    authority_insert(connection, &keys(), &authority(1, KeyState::Active)).await.unwrap();
    policy_upsert(connection, &keys(), "dataplane", &json!({"mtu": 1280, "list": [1, {"b": 2, "a": 1}]}))
        .await
        .unwrap();
    let node = node_added(connection, 50).await;
    let JoinOutcome::Created(row) =
        join_request_upsert(connection, &keys(), &request(1, None)).await.unwrap()
    else {
        panic!("a fresh request")
    };
    join_request_approve(connection, &keys(), row.request.request, node, b"contract").await.unwrap();
    let operator = OperatorRow {
        operator: id(7),
        name: "ann".into(),
        public_key: [8; 32],
        platform_role: "platform_owner".into(),
        disabled_at: None,
    };
    operator_insert(connection, &own_keys(), &operator).await.unwrap();
    let organization = OrganizationRow { organization: id(5), name: "alpha".into() };
    organization_insert(connection, &own_keys(), &organization).await.unwrap();
    let member = MemberRow {
        organization: id(5),
        member: uuid::Uuid::from_bytes([6; 16]),
        name: "bob".into(),
        organization_role: "organization_owner".into(),
    };
    member_insert(connection, &own_keys(), &member).await.unwrap();
    idempotency_claim(connection, &own_keys(), &claim()).await.unwrap();
    transaction.commit().await.unwrap();
    store.close().await;

    let options = database.target().options(DatabaseRole::Owner);
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut owner = SystemTransaction::new(pool.begin().await.unwrap());
    sqlx::raw_sql(
        "DO $$ DECLARE t record; BEGIN \
             FOR t IN SELECT conrelid::regclass AS on_table, conname FROM pg_constraint \
                 WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND contype IN ('c', 'f') LOOP \
                 EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', t.on_table, t.conname); \
             END LOOP; \
             FOR t IN SELECT oid::regclass AS name FROM pg_class WHERE relkind = 'r' \
                 AND relnamespace = 'public'::regnamespace LOOP \
                 EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', t.name); \
             END LOOP; END $$",
    )
    .execute(&mut *owner)
    .await
    .unwrap();
    (database, owner)
}

#[allow(clippy::disallowed_types, reason = "the attacker's statements are made from the catalogue")]
async fn anything(connection: &mut PgConnection, text: &str) {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{text}: {error}"));
}

async fn seen(connection: &mut PgConnection) -> (RowsSeen, RowsSeen) {
    let cluster = rows_look(&mut *connection, &keys()).await.unwrap();
    (cluster, rows_look(connection, &own_keys()).await.unwrap())
}

/// Another value of the column's type that its domain admits.
fn edit(column: &str, data_type: &str, domain: Option<&str>) -> String {
    let word = WORDS.iter().find(|(name, _)| Some(*name) == domain);
    match (word, data_type) {
        (Some((_, word)), _) => (*word).to_owned(),
        (None, "uuid") => "'09090909-0909-0909-0909-090909090909'".to_owned(),
        (None, "text") => format!("coalesce({column}, '') || 'x'"),
        (None, "bigint") => format!("{column} + 1"),
        (None, "boolean") => format!("NOT {column}"),
        (None, "bytea") => {
            format!("coalesce(set_byte({column}, 0, get_byte({column}, 0) # 1), '\\x01')")
        }
        (None, "ARRAY") => format!("array_append({column}, 'x')"),
        (None, "jsonb") => "'{\"x\": 1}'".to_owned(),
        (None, "cidr") => "'10.9.0.0/16'".to_owned(),
        (None, "timestamp with time zone") => {
            format!("coalesce({column}, clock_timestamp()) + interval '1 day'")
        }
        (None, other) => panic!("no edit for {column} of type {other}"),
    }
}

#[tokio::test]
async fn every_column_of_every_row_is_covered_or_exempt_for_a_reason() {
    let (_database, mut owner) = everything().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT table_name::text FROM information_schema.columns c JOIN pg_class r \
             ON r.relname = c.table_name AND r.relkind = 'r' \
         WHERE c.table_schema = 'public' AND (c.column_name = 'row_mac' OR c.table_name = 'node_roles') \
         ORDER BY 1",
    )
    .fetch_all(&mut *owner)
    .await
    .unwrap();
    let (cluster, own) = seen(&mut owner).await;
    assert_eq!((&cluster.tampered, &own.tampered), (&vec![], &vec![]));
    assert_eq!((cluster.sound, own.sound), (8, 4), "one row of each table");
    let mut edited = 0;
    for table in tables.iter().filter(|table| !ELSEWHERE.iter().any(|(name, _)| name == table)) {
        let columns: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT column_name::text, data_type::text, domain_name::text FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position",
        )
        .bind(table)
        .fetch_all(&mut *owner)
        .await
        .unwrap();
        for (column, data_type, domain) in columns {
            let value = edit(&column, &data_type, domain.as_deref());
            let mut attempt = owner.begin().await.unwrap();
            let text = format!("UPDATE {table} SET {column} = {value}");
            anything(&mut attempt, &text).await;
            let (now, now_own) = seen(&mut attempt).await;
            let found = !now.tampered.is_empty() || !now_own.tampered.is_empty();
            // Under another cluster's id the row is nobody's: it is not found under these keys at all.
            let vanished = now.sound < cluster.sound;
            let exempt = EXEMPT.iter().any(|(at, name, _)| at == table && *name == column);
            assert_eq!(found || vanished, !exempt, "{table}.{column}");
            attempt.rollback().await.unwrap();
            edited += 1;
        }
    }
    assert!(edited > 90, "{edited}");
    for (table, column, why) in EXEMPT {
        assert!(tables.iter().any(|known| known == table) && !why.is_empty(), "{table}.{column}");
    }
}

/// What the reading paths say after a change.
async fn after(owner: &mut PgConnection, text: &str) -> Vec<RowName> {
    let mut attempt = owner.begin().await.unwrap();
    anything(&mut attempt, text).await;
    let (cluster, own) = seen(&mut attempt).await;
    attempt.rollback().await.unwrap();
    [cluster.unsealed, cluster.tampered, own.unsealed, own.tampered].concat()
}

#[tokio::test]
async fn roles_added_removed_or_renamed_and_rows_copied_or_without_a_mac_are_found() {
    let (_database, mut owner) = everything().await;
    let node = RowName { table: "nodes", key: id::<rap_types::NodeId>(50).to_string() };
    for text in [
        "INSERT INTO node_roles (node_id, role) SELECT node_id, 'relay-node' FROM nodes",
        "DELETE FROM node_roles",
        "UPDATE node_roles SET role = 'relay-node'",
        "UPDATE nodes SET row_mac = NULL",
        "UPDATE nodes SET row_mac = (SELECT row_mac FROM clusters)",
    ] {
        assert_eq!(after(&mut owner, text).await, std::slice::from_ref(&node), "{text}");
    }
    for (table, key) in [("nodes", "node_id"), ("join_tokens", "token_id"), ("operators", "operator_id")] {
        let other = "'0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a'";
        let text = format!(
            "CREATE TEMP TABLE copy ON COMMIT DROP AS SELECT * FROM {table}; \
             UPDATE copy SET {key} = {other}; \
             DO $$ DECLARE c record; BEGIN FOR c IN SELECT conname FROM pg_constraint \
                 WHERE conrelid = '{table}'::regclass AND contype = 'u' LOOP \
                 EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I CASCADE', c.conname); \
             END LOOP; FOR c IN SELECT indexrelid::regclass AS name FROM pg_index \
                 WHERE indrelid = '{table}'::regclass AND indisunique AND NOT indisprimary LOOP \
                 EXECUTE format('DROP INDEX %s', c.name); END LOOP; END $$; \
             INSERT INTO {table} SELECT * FROM copy"
        );
        let found = after(&mut owner, &text).await;
        assert_eq!(found.len(), 1, "{table}: {found:?}");
        assert_eq!((found[0].table, found[0].key.as_str()), (table, &other[1..37]));
    }
}

#[tokio::test]
async fn a_tampered_row_is_refused_by_its_readers_and_never_sealed_again() {
    let (_database, mut owner) = everything().await;
    sqlx::raw_sql(
        "UPDATE nodes SET wireguard_public_key = decode(repeat('ee', 32), 'hex'); \
         UPDATE join_tokens SET max_uses = 1000; UPDATE join_requests SET state = 'pending'; \
         UPDATE operators SET platform_role = 'recovery'; UPDATE clusters SET incarnation = incarnation + 1",
    )
    .execute(&mut *owner)
    .await
    .unwrap();
    let connection = &mut owner;
    let node = id(50);
    let (from, to) = (IdentityStatus::Active, IdentityStatus::Draining);
    let key = request(1, None).node_public_key;
    let again = NewJoinRequestRow { node_public_key: key, ..request(2, None) };
    let refusals = [
        node_read(connection, &keys(), node).await.map(drop).unwrap_err(),
        nodes_list(connection, &keys()).await.map(drop).unwrap_err(),
        node_by_name(connection, &keys(), "node-50").await.map(drop).unwrap_err(),
        node_by_key(connection, &keys(), &[50; 32]).await.map(drop).unwrap_err(),
        node_hold(connection, &keys(), node).await.map(drop).unwrap_err(),
        node_status_set(connection, &keys(), node, from, to).await.map(drop).unwrap_err(),
        token_read(connection, &keys(), token_id()).await.map(drop).unwrap_err(),
        token_revoke(connection, &keys(), token_id()).await.map(drop).unwrap_err(),
        join_request_upsert(connection, &keys(), &again).await.map(drop).unwrap_err(),
        join_request_read(connection, &keys(), request(1, None).request).await.map(drop).unwrap_err(),
        operator_by_key(connection, &own_keys(), &[8; 32]).await.map(drop).unwrap_err(),
        operator_shut_out(connection, &own_keys(), &[8; 32]).await.map(drop).unwrap_err(),
        cluster_read(connection, &keys()).await.map(drop).unwrap_err(),
        incarnation_raise(connection, &keys(), u64::from(u32::MAX)).await.map(drop).unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.reason().code(), "row.tampered", "{refusal}");
        assert!(!refusal.is_transient());
    }
    // Sealing what has no MAC, or what is under an older key, leaves them as they are.
    let before = seen(connection).await;
    rows_seal_unsealed(connection, &keys()).await.unwrap();
    let refusal = reseal(connection, &keys()).await.unwrap_err();
    assert_eq!(refusal.reason().code(), "row.tampered");
    assert_eq!(seen(connection).await, before);
    assert_eq!(before.0.tampered.len(), 4);
}

#[tokio::test]
async fn keys_of_another_cluster_or_installation_open_nothing() {
    let (_database, mut owner) = everything().await;
    assert!(node_read(&mut owner, &keys_of(id(2)), id(50)).await.unwrap().is_none());
    let moved = "UPDATE nodes SET cluster_id = '02020202-0202-0202-0202-020202020202'";
    sqlx::raw_sql(moved).execute(&mut *owner).await.unwrap();
    assert!(node_read(&mut owner, &keys(), id(50)).await.unwrap().is_none());
    let refusal = node_read(&mut owner, &keys_of(id(2)), id(50)).await.unwrap_err();
    assert_eq!(refusal.reason().code(), "row.tampered");
}

#[tokio::test]
async fn an_older_row_of_the_same_key_verifies_but_a_token_put_back_is_found_by_its_requests() {
    let (_database, mut owner) = everything().await;
    sqlx::raw_sql("CREATE TABLE old_nodes AS SELECT * FROM nodes").execute(&mut *owner).await.unwrap();
    node_changed(&mut owner, id(50), |node| node.facts.region = "us".into()).await.unwrap();
    let back = "UPDATE nodes n SET region = o.region, row_version = o.row_version, row_mac = o.row_mac \
                FROM old_nodes o WHERE o.node_id = n.node_id";
    sqlx::raw_sql(back).execute(&mut *owner).await.unwrap();
    // The limit that THREATS names: this row was authentic once.
    assert_eq!(node_read(&mut owner, &keys(), id(50)).await.unwrap().unwrap().node.facts.region, "eu");

    // One use taken, one request made; now the row says that none was.
    let fresh = token_fresh().await;
    let (version, mac) = fresh;
    sqlx::query("UPDATE join_tokens SET uses = 0, row_version = $1, row_mac = $2")
        .bind(version)
        .bind(mac)
        .execute(&mut *owner)
        .await
        .unwrap();
    assert_eq!(token_read(&mut owner, &keys(), token_id()).await.unwrap().unwrap().uses, 0);
    let refusal = join_request_upsert(&mut owner, &keys(), &request(3, None)).await.unwrap_err();
    assert_eq!(refusal.reason().code(), "row.tampered");
}

/// Version and MAC of the fixture's token before its first use.
async fn token_fresh() -> (i64, Vec<u8>) {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 9).await;
    let mut transaction = store.system().begin().await.unwrap();
    sqlx::query_as("SELECT row_version::bigint, row_mac::bytea FROM join_tokens")
        .fetch_one(&mut *transaction)
        .await
        .unwrap()
}

#[tokio::test]
async fn rows_of_a_release_without_macs_are_sealed_once_and_rows_under_an_older_key_again() {
    let (_database, mut owner) = everything().await;
    for table in ["clusters", "nodes", "join_tokens", "node_addresses"] {
        anything(&mut owner, &format!("UPDATE {table} SET row_mac = NULL")).await;
    }
    let (cluster, _) = seen(&mut owner).await;
    assert_eq!((cluster.sound, cluster.unsealed.len(), cluster.tampered.len()), (4, 4, 0));
    assert!(node_read(&mut owner, &keys(), id(50)).await.is_err());
    rows_seal_unsealed(&mut owner, &keys()).await.unwrap();
    let (cluster, _) = seen(&mut owner).await;
    assert_eq!((cluster.sound, cluster.unsealed.len()), (8, 0));

    let data_key = rap_authority::SealingKey::from_slice(&[0x77; 32]).unwrap();
    let renewed = |older| {
        let ring = rap_authority::RowKeys::of_cluster(id(1), id(1), &data_key);
        if older { ring.and_older(&super::fixture::data_key(id(1))) } else { ring }
    };
    let ring = renewed(true);
    assert_eq!(rows_look(&mut owner, &ring).await.unwrap().under_older_key, 8);
    let done = reseal(&mut owner, &ring).await.unwrap();
    assert_eq!((done.verified, done.sealed), (8, 8));
    let again = reseal(&mut owner, &ring).await.unwrap();
    assert_eq!((again.verified, again.sealed), (8, 0));
    let alone = rows_look(&mut owner, &renewed(false)).await.unwrap();
    assert_eq!((alone.sound, alone.tampered.len()), (8, 0));
}

/// Seals every row under the newest key of the ring, some at a time.
async fn reseal(
    connection: &mut PgConnection,
    keys: &rap_authority::RowKeys,
) -> Result<Resealing, StoreError> {
    let mut at = Resealing::default();
    while let Some(next) = rows_reseal_next(connection, keys, &at).await? {
        at = next;
    }
    Ok(at)
}
