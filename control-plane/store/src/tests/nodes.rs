//! Nodes, their numbers, contacts and life.

use std::time::Duration;

use rap_types::{IdentityStatus, Role};

use super::fixture::{cluster_with_token, committed, id, keys, node, node_added, node_changed, own_keys};
use crate::testing::TestDatabase;
use crate::*;

const REPLICA: [u8; 16] = [7; 16];

#[tokio::test]
async fn a_node_reads_back_with_its_roles_facts_and_contact() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    let node_id = node_added(&mut transaction, 50).await;
    let row = node_read(&mut transaction, &keys(), node_id).await.unwrap().unwrap();
    assert_eq!(row.node, node(50, None, 1));
    assert_eq!((row.identity_status, row.key_generation, row.contact), (IdentityStatus::Active, 1, None));

    let facts = NodeFacts { tags: vec!["t".into()], link_endpoints: vec!["h:1".into()], ..row.node.facts };
    let changed = |node: &mut NewNodeRow| {
        (node.roles, node.facts) = (vec![Role::Core, Role::RelayNode], facts.clone());
    };
    node_changed(&mut transaction, node_id, changed).await.unwrap();
    assert_eq!(node_identity_key_set(&mut transaction, &keys(), node_id, &[77; 32]).await.unwrap(), Some(2));
    assert!(node_wireguard_key_set(&mut transaction, &keys(), node_id, &[9; 32]).await.unwrap());
    let known = |acked| ContactFacts {
        agent_version: "0.1.0".into(),
        acked,
        last_reject: String::new(),
        certificate_ca: 1,
    };
    let (newest, second) = (known((1, 5)), Duration::from_secs(1));
    let contacts = [
        (node_id, 20 * second, known((1, 4))),
        (node_id, 10 * second, newest.clone()),
        (id(99), second, newest.clone()),
    ];
    node_contacts_record(&mut transaction, REPLICA, &contacts).await.unwrap();
    node_contacts_record(&mut transaction, REPLICA, &[(node_id, 50 * second, known((1, 1)))]).await.unwrap();

    let row = node_by_name(&mut transaction, &keys(), "node-50").await.unwrap().unwrap();
    assert_eq!(row.node.roles, [Role::Core, Role::RelayNode]);
    assert_eq!((row.node.facts, row.key_generation), (facts, 2));
    assert_eq!((row.node.wireguard_public_key, row.contact.unwrap().known), ([9; 32], newest));
    let names = node_names_taken(&mut transaction, id(1), &["node-50".into(), "x".into()]).await.unwrap();
    assert_eq!(names, ["node-50"]);
}

#[tokio::test]
async fn a_plain_scope_has_the_own_nodes_and_the_platforms_relays_and_nobody_who_is_gone() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    let seven = OrganizationRow { organization: id(7), name: "seven".into() };
    organization_insert(&mut transaction, &own_keys(), &seven).await.unwrap();
    for (byte, organization, roles) in [
        (50, None, vec![Role::Core]),
        (51, None, vec![Role::RelayNode]),
        (52, None, vec![]),
        (53, None, vec![Role::Egress]),
        (60, Some(id(7)), vec![Role::Core]),
    ] {
        let number =
            host_number_allocate(&mut transaction, &keys(), id(byte), 65_534).await.unwrap().unwrap();
        let row = NewNodeRow { roles, ..node(byte, organization, number) };
        node_insert(&mut transaction, &keys(), &row).await.unwrap();
    }
    assert_eq!(plain_scope(&mut transaction, id(1), None).await.unwrap(), (4, 1));
    assert_eq!(plain_scope(&mut transaction, id(1), Some(id(7))).await.unwrap(), (3, 0));
    let mut gone = node_hold(&mut transaction, &keys(), id(52)).await.unwrap().unwrap();
    gone.identity_status = IdentityStatus::Left;
    node_write(&mut transaction, &keys(), gone).await.unwrap();
    assert_eq!(plain_scope(&mut transaction, id(1), None).await.unwrap(), (3, 0));
}

#[tokio::test]
async fn each_unique_thing_of_a_node_is_named_when_it_is_taken() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    node_added(&mut transaction, 50).await;
    let number = host_number_allocate(&mut transaction, &keys(), id(51), 100).await.unwrap().unwrap();
    transaction.commit().await.unwrap();
    for (row, constraint) in [
        (NewNodeRow { node_public_key: [50; 32], ..node(51, None, number) }, "nodes_public_key"),
        (NewNodeRow { name: "node-50".into(), ..node(51, None, number) }, "nodes_name"),
        (NewNodeRow { wireguard_public_key: [50; 32], ..node(51, None, number) }, "nodes_wireguard_key"),
        (node(51, None, 1), "nodes_host_number"),
    ] {
        let mut transaction = store.system().begin().await.unwrap();
        let error = node_insert(&mut transaction, &keys(), &row).await.unwrap_err();
        assert!(error.is_exists(constraint), "{constraint}: {error}");
    }
}

#[tokio::test]
async fn a_gone_node_leaves_its_key_and_its_number_rests_seven_days() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    let gone = node_added(&mut transaction, 50).await;
    let set = |from, to| (from, to);
    let (from, to) = set(IdentityStatus::Active, IdentityStatus::Revoked);
    assert!(node_status_set(&mut transaction, &keys(), gone, from, to).await.unwrap());
    assert!(
        !node_status_set(&mut transaction, &keys(), gone, from, to).await.unwrap(),
        "only from the named status"
    );
    assert_eq!(node_identity_key_set(&mut transaction, &keys(), gone, &[77; 32]).await.unwrap(), None);
    assert!(node_by_name(&mut transaction, &keys(), "node-50").await.unwrap().is_none());
    assert!(node_by_key(&mut transaction, &keys(), &[50; 32]).await.unwrap().is_none());
    let kept = nodes_gone_by_key(&mut transaction, &keys(), &[50; 32]).await.unwrap();
    assert_eq!(kept.iter().map(|row| row.identity_status).collect::<Vec<_>>(), [IdentityStatus::Revoked]);
    // A pool of one number: taken until seven days after it was given back.
    assert_eq!(host_number_allocate(&mut transaction, &keys(), id(51), 1).await.unwrap(), None);
    let mut rested =
        crate::tables::addresses::address_hold(&mut transaction, &keys(), 1).await.unwrap().unwrap();
    let week = std::time::Duration::from_secs(7 * 86_400 + 60);
    rested.released_at = rested.released_at.map(|at| at.minus(week));
    crate::authentic::update(&mut transaction, &keys(), rested).await.unwrap();
    assert_eq!(host_number_allocate(&mut transaction, &keys(), id(51), 1).await.unwrap(), Some(1));
    node_insert(&mut transaction, &keys(), &node(51, None, 1)).await.unwrap();

    // Somebody else has the number now: it cannot be taken back.
    assert!(!host_number_reclaim(&mut transaction, &keys(), gone, 1).await.unwrap());
    let number = host_number_allocate(&mut transaction, &keys(), id(52), 9).await.unwrap().unwrap();
    let twin = NewNodeRow { node_public_key: [51; 32], ..node(52, None, number) };
    assert!(node_insert(&mut transaction, &keys(), &twin).await.unwrap_err().is_exists("nodes_public_key"));
}

#[tokio::test]
async fn a_gone_node_comes_back_with_its_number_and_the_next_generation() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    let gone = node_added(&mut transaction, 50).await;
    let again = NewNodeRow { wireguard_public_key: [60; 32], name: "again".into(), ..node(50, None, 1) };
    assert_eq!(
        node_readmit(&mut transaction, &keys(), &again).await.unwrap(),
        None,
        "a member is not readmitted"
    );
    let (from, to) = (IdentityStatus::Active, IdentityStatus::Left);
    assert!(node_status_set(&mut transaction, &keys(), gone, from, to).await.unwrap());
    assert!(host_number_reclaim(&mut transaction, &keys(), gone, 1).await.unwrap());
    assert!(!host_number_reclaim(&mut transaction, &keys(), gone, 1).await.unwrap(), "once");
    assert_eq!(node_readmit(&mut transaction, &keys(), &again).await.unwrap(), Some(2));
    let row = node_by_name(&mut transaction, &keys(), "again").await.unwrap().unwrap();
    assert_eq!((row.node, row.identity_status, row.key_generation), (again, IdentityStatus::Active, 2));
}

#[tokio::test]
async fn ephemeral_members_that_nobody_heard_of_are_absent() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    for (byte, ephemeral) in [(50, true), (51, true), (52, false)] {
        let number = host_number_allocate(&mut transaction, &keys(), id(byte), 100).await.unwrap().unwrap();
        let new = NewNodeRow { ephemeral, ..node(byte, None, number) };
        node_insert(&mut transaction, &keys(), &new).await.unwrap();
    }
    let hour = std::time::Duration::from_secs(3600);
    let absent = async |transaction: &mut PgConnection| -> Vec<rap_types::NodeId> {
        let silent = nodes_silent(transaction, id(1)).await.unwrap();
        silent.into_iter().filter(|(_, silence)| *silence > hour).map(|(node, _)| node).collect()
    };
    assert!(absent(&mut transaction).await.is_empty(), "joined a moment ago");
    assert_eq!(
        nodes_silent(&mut transaction, id(1)).await.unwrap().len(),
        2,
        "a lasting node is not asked about"
    );
    sqlx::query("UPDATE nodes SET status_at = clock_timestamp() - interval '2 hours'")
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(absent(&mut transaction).await, [id(50), id(51)]);
    node_contacts_record(&mut transaction, REPLICA, &[heard(50, 60)]).await.unwrap();
    assert_eq!(absent(&mut transaction).await, [id(51)]);
}

fn heard(byte: u8, seconds_ago: u64) -> (rap_types::NodeId, Duration, ContactFacts) {
    (id(byte), Duration::from_secs(seconds_ago), ContactFacts::default())
}

async fn seen_set(connection: &mut PgConnection, byte: u8, statement: &'static str) {
    sqlx::query(statement).bind(id::<rap_types::NodeId>(byte).uuid()).execute(connection).await.unwrap();
}

#[tokio::test]
async fn no_value_of_one_contact_keeps_those_of_others_from_being_recorded() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    for byte in [50, 51] {
        node_added(&mut transaction, byte).await;
    }
    let wild = ContactFacts {
        agent_version: format!("0\0{}", "x".repeat(5_000)),
        acked: (u64::MAX, u64::MAX),
        last_reject: "\0".into(),
        certificate_ca: u64::MAX,
    };
    let contacts = [(id(50), Duration::MAX, wild), heard(51, 0)];
    node_contacts_record(&mut transaction, REPLICA, &contacts).await.unwrap();
    let mut known = Vec::new();
    for byte in [50, 51] {
        let row = node_read(&mut transaction, &keys(), id(byte)).await.unwrap().unwrap();
        known.push(row.contact.unwrap().known);
    }
    assert_eq!((known[0].acked.1, known[0].last_reject.as_str()), (i64::MAX as u64, ""));
    assert_eq!(known[1], ContactFacts::default());
}

/// Silence is measured by one clock, and whatever somebody writes into the times, all are judged.
#[tokio::test]
async fn times_that_nobody_measured_neither_stop_the_count_nor_hold_contacts_off() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    for byte in [50, 51, 52, 53] {
        let number = host_number_allocate(&mut transaction, &keys(), id(byte), 100).await.unwrap().unwrap();
        let new = NewNodeRow { ephemeral: true, ..node(byte, None, number) };
        node_insert(&mut transaction, &keys(), &new).await.unwrap();
        node_contacts_record(&mut transaction, REPLICA, &[heard(byte, 7_200)]).await.unwrap();
    }
    seen_set(
        &mut transaction,
        50,
        "UPDATE nodes SET status_at = clock_timestamp() - interval '3 hours' WHERE node_id = $1",
    )
    .await;
    for (byte, status, seen) in [
        (
            51,
            "UPDATE nodes SET status_at = '-infinity' WHERE node_id = $1",
            "UPDATE node_contacts SET last_seen_at = '-infinity' WHERE node_id = $1",
        ),
        (
            52,
            "UPDATE nodes SET status_at = '4000-01-01 BC' WHERE node_id = $1",
            "UPDATE node_contacts SET last_seen_at = 'infinity' WHERE node_id = $1",
        ),
        (
            53,
            "UPDATE nodes SET status_at = '-infinity' WHERE node_id = $1",
            "UPDATE node_contacts SET last_seen_at = clock_timestamp() + interval '1 hour' WHERE node_id = $1",
        ),
    ] {
        seen_set(&mut transaction, byte, status).await;
        seen_set(&mut transaction, byte, seen).await;
    }
    let silence = async |transaction: &mut PgConnection, byte: u8| -> u64 {
        let silent = nodes_silent(transaction, id(1)).await.unwrap();
        silent.into_iter().find(|(node, _)| *node == id(byte)).unwrap().1.as_secs()
    };
    assert!((7_200..7_260).contains(&silence(&mut transaction, 50).await));
    assert!(silence(&mut transaction, 51).await > 9 * 365 * 86_400);
    let row = node_read(&mut transaction, &keys(), id(51)).await.unwrap().unwrap();
    assert_eq!(row.contact, None, "no time of a contact is shown");
    assert_eq!(silence(&mut transaction, 52).await, 0);
    assert_eq!(silence(&mut transaction, 53).await, 0);
    // A replica that hears the node takes the place of a time to come.
    node_contacts_record(&mut transaction, REPLICA, &[heard(53, 30)]).await.unwrap();
    assert!((30..90).contains(&silence(&mut transaction, 53).await));
    // Of a node that nobody hears it becomes now, and counts from there.
    assert_eq!(node_contacts_bound(&mut transaction).await.unwrap(), 1);
    assert_eq!(node_contacts_bound(&mut transaction).await.unwrap(), 0);
    node_contacts_record(&mut transaction, REPLICA, &[heard(51, 60), heard(52, 0)]).await.unwrap();
    assert!((60..120).contains(&silence(&mut transaction, 51).await));
    let row = node_read(&mut transaction, &keys(), id(52)).await.unwrap().unwrap();
    assert!(row.contact.is_some());
}

#[tokio::test]
async fn the_chain_of_revocations_only_grows() {
    let store = TestDatabase::migrated().await.store().await;
    let cluster = cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    for sequence in 1..=3u8 {
        revocation_insert(&mut transaction, cluster, sequence.into(), &[sequence; 9]).await.unwrap();
    }
    let rows = revocations_from(&mut transaction, cluster, 2, 10).await.unwrap();
    let expected =
        [2, 3].map(|sequence| RevocationRow { sequence: sequence.into(), record: vec![sequence; 9] });
    assert_eq!(rows, expected);
    assert_eq!(revocations_from(&mut transaction, cluster, 1, 1).await.unwrap().len(), 1);
    transaction.commit().await.unwrap();
    for attack in [
        "UPDATE node_revocations SET record = '\\x00'",
        "DELETE FROM node_revocations",
        "INSERT INTO node_revocations (cluster_id, sequence, record) SELECT cluster_id, 3, record \
         FROM node_revocations LIMIT 1",
    ] {
        let mut transaction = store.system().begin().await.unwrap();
        assert!(sqlx::raw_sql(attack).execute(&mut *transaction).await.is_err(), "{attack}");
    }
}

#[tokio::test]
async fn numbers_given_out_at_once_are_all_different() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for byte in 50..90u8 {
        let store = store.clone();
        tasks.spawn(async move {
            committed(transact!(store.system(), |connection| {
                host_number_allocate(connection, &keys(), id(byte), 40).await
            }))
        });
    }
    let mut numbers: Vec<u32> = tasks
        .join_all()
        .await
        .into_iter()
        .map(|number: Result<_, StoreError>| number.unwrap().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
}
