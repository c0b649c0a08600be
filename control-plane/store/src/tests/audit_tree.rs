//! The fence, and that no committed row is ever without a place for long.

use std::time::Duration;

use rap_contract::{AuditFrontier, audit_leaf_hash};
use rap_types::Digest;

use super::fixture::{id, pen};
use crate::testing::TestDatabase;
use crate::*;

const LONG: Duration = Duration::from_secs(60);

fn entry(number: u32) -> NewAuditRow {
    NewAuditRow {
        cluster: None,
        organization: None,
        actor: "system".into(),
        action: "test.entry".into(),
        object: format!("entry/{number}"),
        before_digest: None,
        after_digest: None,
        reason: String::new(),
        request: id(1),
    }
}

async fn written(store: &Store, count: u32) {
    let mut transaction = store.system().begin().await.unwrap();
    for number in 0..count {
        audit_insert(&mut transaction, &pen(), &entry(number)).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// One step of a sequencer.
async fn step(store: &Store, fence: u64) -> bool {
    let mut transaction = store.system().begin().await.unwrap();
    let tree = audit_tree_read(&mut transaction).await.unwrap();
    let rows = audit_unsequenced(&mut transaction, 1000).await.unwrap();
    let mut frontier = AuditFrontier::from_parts(tree.size, tree.frontier).unwrap();
    for row in &rows {
        pen().key().check(&row.entry, &row.row_mac.unwrap()).unwrap();
        frontier.push(audit_leaf_hash(&row.entry.encode()));
    }
    let numbers: Vec<u64> = rows.iter().map(|row| row.entry.entry).collect();
    let done = audit_sequence(&mut transaction, fence, tree.size, &numbers, frontier.hashes()).await.unwrap();
    transaction.commit().await.unwrap();
    done
}

#[tokio::test]
async fn of_two_holders_the_fenced_one_changes_nothing() {
    let store = TestDatabase::migrated().await.store().await;
    written(&store, 3).await;
    let mut transaction = store.system().begin().await.unwrap();
    let first = audit_term_take(&mut transaction, [1; 16], Duration::ZERO).await.unwrap().unwrap();
    transaction.commit().await.unwrap();
    let mut transaction = store.system().begin().await.unwrap();
    let second = audit_term_take(&mut transaction, [2; 16], LONG).await.unwrap().unwrap();
    assert!(second > first);
    assert_eq!(audit_term_take(&mut transaction, [3; 16], LONG).await.unwrap(), None);
    assert!(!audit_term_renew(&mut transaction, [1; 16], first, LONG).await.unwrap());
    assert!(audit_term_renew(&mut transaction, [2; 16], second, LONG).await.unwrap());
    transaction.commit().await.unwrap();

    assert!(!step(&store, first).await, "a stale fence places nothing");
    let mut transaction = store.system().begin().await.unwrap();
    assert_eq!(audit_waiting(&mut transaction).await.unwrap(), 3);
    let key = LogKeyRow { generation: 1, record: vec![1], public_key: [2; 32], sealed_private_key: vec![3] };
    assert!(!log_key_insert(&mut transaction, &key, first, 0).await.unwrap());
    drop(transaction);
    assert!(step(&store, second).await);

    let mut transaction = store.system().begin().await.unwrap();
    assert!(!log_key_insert(&mut transaction, &key, second, 0).await.unwrap(), "another size");
    assert!(log_key_insert(&mut transaction, &key, second, 3).await.unwrap());
    let note = |root: &[u8]| CheckpointRow {
        generation: 1,
        size: 3,
        root: Digest::of(&[root]),
        note: root.to_vec(),
    };
    let insert = audit_checkpoint_insert(&mut transaction, first, &note(b"stale")).await.unwrap();
    assert_eq!(insert, CheckpointInsert::Fenced);
    let beyond = CheckpointRow { size: 4, ..note(b"beyond") };
    let insert = audit_checkpoint_insert(&mut transaction, second, &beyond).await.unwrap();
    assert_eq!(insert, CheckpointInsert::Fenced, "more than has a place cannot be signed");
    let insert = audit_checkpoint_insert(&mut transaction, second, &note(b"one")).await.unwrap();
    assert_eq!(insert, CheckpointInsert::Inserted);
    let insert = audit_checkpoint_insert(&mut transaction, second, &note(b"other")).await.unwrap();
    assert_eq!(insert, CheckpointInsert::Present(note(b"one")), "never two roots for a size");
    assert_eq!(audit_checkpoint_newest(&mut transaction).await.unwrap(), Some(note(b"one")));
}

#[tokio::test]
async fn a_row_that_commits_later_with_a_lower_number_is_not_skipped() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let fence = audit_term_take(&mut transaction, [1; 16], LONG).await.unwrap().unwrap();
    transaction.commit().await.unwrap();
    let mut slow = store.system().begin().await.unwrap();
    let lower = audit_insert(&mut slow, &pen(), &entry(0)).await.unwrap();
    written(&store, 1).await;
    assert!(step(&store, fence).await);
    slow.commit().await.unwrap();
    assert!(step(&store, fence).await);
    let mut transaction = store.system().begin().await.unwrap();
    let leaves = audit_leaves(&mut transaction, 0..10).await.unwrap();
    assert_eq!(leaves.iter().map(|row| row.sequence).collect::<Vec<_>>(), [Some(0), Some(1)]);
    assert_eq!(leaves[1].entry.entry, lower);
    assert!(leaves[0].entry.entry > lower);
}

#[tokio::test]
async fn racing_writers_and_two_sequencers_give_every_row_one_place() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let fence = audit_term_take(&mut transaction, [1; 16], LONG).await.unwrap().unwrap();
    transaction.commit().await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..20 {
                written(&store, 1).await;
            }
        });
    }
    // Both believe that they hold the lease: the size in the statement keeps them apart.
    let mut sequencers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let store = store.clone();
        sequencers.spawn(async move {
            for _ in 0..10 {
                step_if_free(&store, fence).await;
            }
        });
    }
    writers.join_all().await;
    sequencers.join_all().await;
    step(&store, fence).await;
    let mut transaction = store.system().begin().await.unwrap();
    let leaves = audit_leaves(&mut transaction, 0..1000).await.unwrap();
    let places: Vec<u64> = leaves.iter().filter_map(|row| row.sequence).collect();
    assert_eq!(places, (0..160).collect::<Vec<u64>>());
    let mut frontier = AuditFrontier::default();
    leaves.iter().for_each(|row| frontier.push(audit_leaf_hash(&row.entry.encode())));
    let tree = audit_tree_read(&mut transaction).await.unwrap();
    assert_eq!((tree.size, tree.frontier.as_slice()), (160, frontier.hashes()));
}

/// As [`step`], giving up when the other one was first.
async fn step_if_free(store: &Store, fence: u64) {
    let mut transaction = store.system().begin().await.unwrap();
    let tree = audit_tree_read(&mut transaction).await.unwrap();
    let rows = audit_unsequenced(&mut transaction, 7).await.unwrap();
    let mut frontier = AuditFrontier::from_parts(tree.size, tree.frontier).unwrap();
    rows.iter().for_each(|row| frontier.push(audit_leaf_hash(&row.entry.encode())));
    let numbers: Vec<u64> = rows.iter().map(|row| row.entry.entry).collect();
    if let Ok(true) = audit_sequence(&mut transaction, fence, tree.size, &numbers, frontier.hashes()).await {
        transaction.commit().await.unwrap();
    }
}
