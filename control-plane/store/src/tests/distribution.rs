//! From committed rows to heads: sequences, outbox, doorbell, heads, leaves, the planner's read.

use std::time::Duration;

use rap_authority::RowKeys;
use rap_types::{Digest, HeadOrder};
use serde_json::json;

use super::fixture::{cluster_with_token, committed, id, keys, keys_of, node_added, own_keys, pen};
use super::idempotency::claim_of;
use crate::testing::TestDatabase;
use crate::*;

fn head(order: HeadOrder, root: &[u8]) -> NewHeadRow {
    NewHeadRow {
        cluster: id(1),
        order,
        envelope: [b"envelope ", root].concat(),
        root: Digest::of(&[root]),
        digest: Digest::of(&[b"digest", root]),
    }
}

#[tokio::test]
async fn sequences_are_gapless_in_commit_order_and_a_rollback_gives_its_back() {
    let store = TestDatabase::migrated().await.store().await;
    let cluster = cluster_with_token(&store, 1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        tasks.spawn(async move {
            committed(transact!(store.system(), |connection| {
                let seq = config_seq_allocate(connection, cluster).await?;
                outbox_append(connection, cluster, seq, &[format!("peer/{seq}")], seq == 3).await
            }))
        });
    }
    let mut abandoned = store.system().begin().await.unwrap();
    config_seq_allocate(&mut abandoned, cluster).await.unwrap();
    abandoned.rollback().await.unwrap();
    tasks.join_all().await.into_iter().for_each(|outcome| outcome.unwrap());

    let mut transaction = store.system().begin().await.unwrap();
    let rows = outbox_after(&mut transaction, cluster, 0, 100).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert!(rows[2].urgent && rows[2].touched == ["peer/3"]);
    assert_eq!(outbox_after(&mut transaction, cluster, 18, 1).await.unwrap()[0].seq, 19);
    assert_eq!(outbox_positions(&mut transaction).await.unwrap()[0].config_seq, 20);
    assert_eq!(outbox_prune(&mut transaction, cluster, 20).await.unwrap(), 0, "kept for a day");
    assert!(incarnation_raise(&mut transaction, &keys(), 1_900_000_000).await.unwrap());
    assert!(!incarnation_raise(&mut transaction, &keys(), 1_900_000_000).await.unwrap());
}

#[tokio::test]
async fn of_many_replicas_exactly_one_inserts_the_head_of_a_version() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for replica in 0..20u8 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut transaction = store.system().begin().await.unwrap();
            let new = head(HeadOrder::new(1, 1, 0), &[replica]);
            let outcome = head_insert_first(&mut transaction, &new, None).await.unwrap();
            transaction.commit().await.unwrap();
            (new, outcome)
        });
    }
    let outcomes = tasks.join_all().await;
    let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| *outcome == HeadInsert::Inserted).collect();
    assert_eq!(winners.len(), 1);
    for (new, outcome) in &outcomes {
        match outcome {
            HeadInsert::Inserted => {}
            HeadInsert::Lost(row) => {
                assert_eq!(row.head, winners[0].0, "the loser is shown the stored bytes");
                assert_ne!(row.head.root, new.root, "and can tell the divergence");
            }
            HeadInsert::Overtaken => panic!("every replica planned the same version"),
        }
    }
}

#[tokio::test]
async fn a_head_is_stored_while_a_join_has_its_turn_and_another_join_waits() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let mut join = store.system().begin().await.unwrap();
    assert!(cluster_turn(&mut join, &keys()).await.unwrap().is_some());
    let mut publisher = store.system().begin().await.unwrap();
    let new = head(HeadOrder::new(1, 1, 0), b"one");
    assert_eq!(head_insert_first(&mut publisher, &new, None).await.unwrap(), HeadInsert::Inserted);
    publisher.commit().await.unwrap();
    let mut next = store.system().begin().await.unwrap();
    sqlx::query("SET LOCAL lock_timeout = 50").execute(&mut *next).await.unwrap();
    let blocked = cluster_turn(&mut next, &keys()).await.unwrap_err();
    assert!(blocked.is_transient(), "{blocked}");
}

#[tokio::test]
async fn a_head_goes_to_the_tip_of_the_chain_only() {
    let store = TestDatabase::migrated().await.store().await;
    cluster_with_token(&store, 1).await;
    let insert = |order: HeadOrder, root: &'static [u8], previous: Option<Digest>| {
        let store = store.clone();
        async move {
            let mut transaction = store.system().begin().await.unwrap();
            let new = head(order, root);
            let outcome = head_insert_first(&mut transaction, &new, previous).await.unwrap();
            transaction.commit().await.unwrap();
            (outcome, new.digest)
        }
    };
    let (outcome, one) = insert(HeadOrder::new(1, 1, 0), b"one", None).await;
    assert_eq!(outcome, HeadInsert::Inserted);
    assert_eq!(insert(HeadOrder::new(1, 2, 0), b"two", None).await.0, HeadInsert::Overtaken);
    // Two replicas, two versions, one previous head: both wait for one lock, and the second sees the first.
    let (two, three) = tokio::join!(
        insert(HeadOrder::new(1, 2, 0), b"two", Some(one)),
        insert(HeadOrder::new(1, 3, 0), b"three", Some(one)),
    );
    let inserted = [&two, &three].iter().filter(|(outcome, _)| *outcome == HeadInsert::Inserted).count();
    assert_eq!(inserted, 1, "{two:?} {three:?}");
    let tip = if two.0 == HeadInsert::Inserted { two.1 } else { three.1 };
    let (outcome, _) = insert(HeadOrder::new(1, 4, 0), b"four", Some(tip)).await;
    assert_eq!(outcome, HeadInsert::Inserted);
    // A re-sign of an idle head is no link of the chain.
    let mut transaction = store.system().begin().await.unwrap();
    let refreshed = head(HeadOrder::new(1, 4, 1), b"four");
    assert_eq!(head_insert(&mut transaction, &refreshed).await.unwrap(), HeadInsert::Inserted);
}

#[tokio::test]
async fn idle_re_signs_go_and_the_chain_of_first_heads_stays() {
    let store = TestDatabase::migrated().await.store().await;
    let cluster = cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    for order in [(1, 1, 0), (1, 1, 1), (1, 1, 2), (1, 4, 0), (1, 4, 1), (1, 4, 2)] {
        let new = head(HeadOrder::new(order.0, order.1, order.2), b"root");
        assert_eq!(head_insert(&mut transaction, &new).await.unwrap(), HeadInsert::Inserted);
    }
    assert_eq!(heads_prune(&mut transaction, cluster).await.unwrap(), 3);
    let newest = head_newest(&mut transaction, cluster).await.unwrap().unwrap();
    assert_eq!(newest.head.order, HeadOrder::new(1, 4, 2));
    let first = head_newest_first(&mut transaction, cluster).await.unwrap().unwrap();
    assert_eq!(first.head.order, HeadOrder::new(1, 4, 0));
    let forced = sqlx::query("DELETE FROM cluster_heads").execute(&mut *transaction).await.unwrap();
    assert_eq!(forced.rows_affected(), 1, "the policy hides first heads from deletion");
    assert!(head_read(&mut transaction, cluster, HeadOrder::new(1, 1, 0)).await.unwrap().is_some());
}

#[tokio::test]
async fn an_older_leaf_never_replaces_a_newer_one() {
    let store = TestDatabase::migrated().await.store().await;
    let cluster = cluster_with_token(&store, 1).await;
    let mut transaction = store.system().begin().await.unwrap();
    let node = node_added(&mut transaction, 50).await;
    let leaf = |incarnation, generation, root: &[u8]| LeafRow {
        node,
        incarnation,
        node_generation: generation,
        manifest_root: Digest::of(&[root]),
    };
    for row in [leaf(1, 5, b"five"), leaf(1, 4, b"four"), leaf(1, 5, b"other")] {
        leaves_record(&mut transaction, cluster, &[row]).await.unwrap();
    }
    assert_eq!(leaves_list(&mut transaction, cluster).await.unwrap(), [leaf(1, 5, b"five")]);
    leaves_record(&mut transaction, cluster, &[leaf(2, 1, b"new life")]).await.unwrap();
    assert_eq!(leaves_list(&mut transaction, cluster).await.unwrap(), [leaf(2, 1, b"new life")]);
    leaves_record(&mut transaction, cluster, &[]).await.unwrap();
}

/// What the planner reads in one snapshot.
async fn snapshot_of(store: &Store, keys: &RowKeys, since: Option<(u64, u64)>) -> Option<PlannerRows> {
    let mut transaction = store.system().begin_snapshot().await.unwrap();
    planner_rows(&mut transaction, keys, 1, since).await.unwrap()
}

#[tokio::test]
async fn the_planner_reads_rows_and_sequence_of_one_moment() {
    let store = TestDatabase::migrated().await.store().await;
    let cluster = cluster_with_token(&store, 1).await;
    assert!(snapshot_of(&store, &keys_of(id(9)), None).await.is_none());
    committed(transact!(store.system(), |connection| {
        policy_upsert(connection, &keys(), "dataplane", &json!({"mtu": 1280})).await?;
        policy_upsert(connection, &keys(), "dataplane", &json!({"mtu": 1400})).await
    }))
    .unwrap();

    // Every change adds one node and takes one sequence, so a torn read would show different numbers.
    let writer = tokio::task::JoinSet::from_iter([{
        let store = store.clone();
        async move {
            for byte in 50..110u8 {
                committed(transact!(store.system(), |connection| {
                    config_seq_allocate(connection, cluster).await?;
                    node_added(connection, byte).await;
                    Ok(())
                }))
                .unwrap();
            }
        }
    }]);
    let mut moments = 0;
    loop {
        let rows = snapshot_of(&store, &keys(), None).await.unwrap();
        assert_eq!(rows.nodes.len() as u64, rows.cluster.config_seq);
        moments += 1;
        if rows.cluster.config_seq == 60 {
            let policy = PolicyRow { cluster, kind: "dataplane".to_owned(), body: json!({"mtu": 1400}) };
            assert_eq!(rows.policies, [policy]);
            assert!(
                rows.head.is_none()
                    && rows.gone.is_empty()
                    && rows.revocations.is_empty()
                    && rows.leaves.is_empty()
            );
            break;
        }
    }
    writer.join_all().await;
    assert!(moments > 1);
    let summary = &cluster_summaries(&mut store.system().begin().await.unwrap()).await.unwrap()[0];
    assert_eq!((summary.nodes_active, summary.tokens_live, summary.head_version), (60, 1, None));
}

#[tokio::test]
async fn the_planner_reads_what_changed_and_everything_if_the_outbox_does_not_say() {
    let store = TestDatabase::migrated().await.store().await;
    let cluster = cluster_with_token(&store, 1).await;
    let change = |byte: u8, touched: Vec<String>, urgent: bool| {
        let store = store.clone();
        async move {
            committed(transact!(store.system(), |connection| {
                let seq = config_seq_allocate(connection, cluster).await?;
                node_added(connection, byte).await;
                outbox_append(connection, cluster, seq, &touched, urgent).await?;
                let leaf = LeafRow {
                    node: id(byte),
                    incarnation: 1,
                    node_generation: seq,
                    manifest_root: Digest::of(&[&[byte]]),
                };
                leaves_record(connection, cluster, &[leaf]).await?;
                Ok(seq)
            }))
            .unwrap()
        }
    };
    let touched = |byte: u8| {
        let node: rap_types::NodeId = id(byte);
        vec![format!("peer/{node}"), format!("assignment/{node}"), "trust".to_owned()]
    };
    for byte in 50..54 {
        change(byte, touched(byte), byte == 52).await;
    }
    let of_cluster = keys();
    let read = |since| snapshot_of(&store, &of_cluster, since);
    let ids = |rows: &PlannerRows| rows.nodes.iter().map(|row| row.node.node).collect::<Vec<_>>();
    let of_leaves = |rows: &PlannerRows| rows.leaves.iter().map(|leaf| leaf.node).collect::<Vec<_>>();
    let incarnation = read(None).await.unwrap().cluster.cluster.incarnation;
    let since = |version| Some((incarnation, version));
    let rows = read(since(2)).await.unwrap();
    assert!(!rows.whole);
    assert_eq!(ids(&rows), [id(52), id(53)]);
    assert_eq!(read(since(4)).await.unwrap().nodes, []);
    // A leaf that a head of another replica changed comes although nothing touched its node.
    let elsewhere =
        LeafRow { node: id(50), incarnation, node_generation: 4, manifest_root: Digest::of(&[b"other"]) };
    let mut transaction = store.system().begin().await.unwrap();
    leaves_record(&mut transaction, cluster, &[elsewhere]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(of_leaves(&read(since(3)).await.unwrap()), [id(50), id(53)]);
    let mut transaction = store.system().begin().await.unwrap();
    assert!(outbox_urgent(&mut transaction, cluster, 2).await.unwrap());
    assert!(!outbox_urgent(&mut transaction, cluster, 3).await.unwrap());
    drop(transaction);

    // Every row for another incarnation, a version that is not there yet, a scope key of another release, a gap.
    for (incarnation, version) in [(incarnation + 1, 2), (incarnation, 9)] {
        assert!(read(Some((incarnation, version))).await.unwrap().whole);
    }
    change(54, vec!["workload/1".to_owned()], false).await;
    let rows = read(since(4)).await.unwrap();
    assert!(rows.whole);
    assert_eq!(rows.nodes.len(), 5);
    let mut transaction = store.system().begin().await.unwrap();
    config_seq_allocate(&mut transaction, cluster).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(read(since(5)).await.unwrap().whole, "a sequence without its row in the outbox");
}

#[tokio::test]
async fn the_doorbell_rings_for_a_cluster_polls_without_one_and_heals() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    let mut doorbell = Doorbell::new(database.target());
    let long = Duration::from_secs(30);
    assert_eq!(
        doorbell.wait(long).await,
        DoorbellSignal::Begun,
        "rings before the connection were not heard"
    );
    doorbell_ring(&mut store.system().inner().acquire().await.unwrap(), id(1)).await.unwrap();
    assert_eq!(doorbell.wait(long).await, DoorbellSignal::Cluster(id(1)));
    assert_eq!(doorbell.wait(Duration::from_millis(10)).await, DoorbellSignal::Poll);

    let mut transaction = store.system().begin().await.unwrap();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    )
    .execute(&mut *transaction)
    .await
    .unwrap();
    assert_eq!(doorbell.wait(long).await, DoorbellSignal::Poll, "lost: look at everything");
    assert_eq!(doorbell.wait(long).await, DoorbellSignal::Begun, "connected again: look at everything");
    doorbell_ring(&mut store.system().inner().acquire().await.unwrap(), id(2)).await.unwrap();
    assert_eq!(doorbell.wait(long).await, DoorbellSignal::Cluster(id(2)));
}

#[tokio::test]
async fn a_request_sent_twice_is_done_once_and_answered_alike() {
    let store = TestDatabase::migrated().await.store().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let store = store.clone();
        tasks.spawn(async move {
            let (mut transaction, claim) =
                (store.system().begin().await.unwrap(), claim_of("ann", b"request"));
            let first = idempotency_claim(&mut transaction, &own_keys(), &claim).await.unwrap();
            if first {
                let operator = OperatorRow {
                    operator: id(7),
                    name: "bob".into(),
                    public_key: [8; 32],
                    platform_role: "platform_admin".into(),
                    disabled_at: None,
                };
                operator_insert(&mut transaction, &own_keys(), &operator).await.unwrap();
                idempotency_finish(&mut transaction, &own_keys(), &claim).await.unwrap();
            }
            transaction.commit().await.unwrap();
            first
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|first| *first).count(), 1);
    let mut transaction = store.system().begin().await.unwrap();
    idempotency_answer(&mut transaction, &own_keys(), &claim_of("ann", b""), b"answer".to_vec())
        .await
        .unwrap();
    let claim = claim_of("ann", b"request");
    let done = idempotency_read(&mut transaction, &own_keys(), "ann", &claim.key).await.unwrap().unwrap();
    assert_eq!((done.request, done.answer.as_deref()), (claim.request, Some(b"answer".as_slice())));
    let names = still_done(&mut transaction, &own_keys(), |_| None, &done.done).await.unwrap();
    assert_eq!(names, [format!("operators/{}", id::<rap_types::OperatorId>(7))]);
    assert!(idempotency_claim(&mut transaction, &own_keys(), &claim_of("bob", b"other")).await.unwrap());
    assert_eq!(idempotency_expire(&mut transaction).await.unwrap(), 0);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn audit_rows_come_back_as_written_and_unsequenced() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let entry = NewAuditRow {
        cluster: None,
        organization: None,
        actor: "operator:ann".into(),
        action: "token.create".into(),
        object: "token/1".into(),
        before_digest: None,
        after_digest: Some(Digest::of(&[b"after"])),
        reason: String::new(),
        request: id(1),
    };
    audit_insert(&mut transaction, &pen(), &entry).await.unwrap();
    audit_insert(&mut transaction, &pen(), &entry).await.unwrap();
    let rows = audit_list(&mut transaction, &AuditFilter::default(), 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].sequence), (2, None));
    let stored = &rows[1].entry;
    assert_eq!(
        (&stored.actor, &stored.action, &stored.object, stored.after_digest, stored.request),
        (&entry.actor, &entry.action, &entry.object, entry.after_digest, entry.request)
    );
    for row in &rows {
        pen().key().check(&row.entry, &row.row_mac.unwrap()).unwrap();
    }
    let before = AuditFilter { before: Some(rows[0].entry.entry), ..AuditFilter::default() };
    assert_eq!(audit_list(&mut transaction, &before, 10).await.unwrap(), rows[1..]);
    let other = AuditFilter { action: Some("token.revoke".into()), ..AuditFilter::default() };
    assert_eq!(audit_list(&mut transaction, &other, 10).await.unwrap(), []);
}
