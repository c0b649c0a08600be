//! One sequencer at a time: killed half-way, and handed over between replicas.

use std::time::Duration;

use rap_contract::audit_leaf_hash;
use rap_control_plane::database::change::{Acting, Change};
use rap_store::{
    CheckpointInsert, CheckpointRow, audit_checkpoint_insert, audit_sequence, audit_term_seize,
    audit_tree_read, audit_unsequenced,
};
use rap_types::{Digest, Wall};

use super::{checkpoint_size, covered, until};
use crate::world::World;

#[tokio::test]
async fn a_sequencer_killed_between_placing_and_signing_is_continued() {
    let world = World::dev().await;
    world.cluster("prod").await;
    covered(&world.running).await;
    let signed = checkpoint_size(&world).await;
    // As a replica does that dies after its rows are placed: fence, place, and no signature.
    let store = world.running.replica.database.store.clone();
    let fence = {
        let mut transaction = store.system().begin().await.unwrap();
        let fence = audit_term_seize(&mut transaction, [9; 16], Duration::from_secs(2)).await.unwrap();
        transaction.commit().await.unwrap();
        fence
    };
    let mut transaction = store.system().begin().await.unwrap();
    let acting = Acting::alone("system", world.running.replica.keys.pen.clone(), Wall(0));
    for number in 0..3 {
        let change = Change::of("test.entry", format!("entry/{number}"));
        change.record(&mut transaction, &acting).await.unwrap();
    }
    let tree = audit_tree_read(&mut transaction).await.unwrap();
    let rows = audit_unsequenced(&mut transaction, 10).await.unwrap();
    let mut frontier = rap_contract::AuditFrontier::from_parts(tree.size, tree.frontier).unwrap();
    rows.iter().for_each(|row| frontier.push(audit_leaf_hash(&row.entry.encode())));
    let numbers: Vec<u64> = rows.iter().map(|row| row.entry.entry).collect();
    assert!(audit_sequence(&mut transaction, fence, tree.size, &numbers, frontier.hashes()).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(checkpoint_size(&world).await, signed, "the lease is another's");
    until("the next holder signs", async || checkpoint_size(&world).await == signed + 3).await;
    // The dead one wakes up: its fence is stale and its checkpoint is not taken.
    let mut transaction = store.system().begin().await.unwrap();
    let note = CheckpointRow { generation: 1, size: signed + 1, root: Digest::of(&[]), note: vec![1] };
    let late = audit_checkpoint_insert(&mut transaction, fence, &note).await.unwrap();
    assert_eq!(late, CheckpointInsert::Fenced);
    drop(transaction);
    covered(&world.running).await;
    world.stop().await;
}

#[tokio::test]
async fn two_replicas_keep_one_sequencer_and_the_other_takes_over() {
    let mut world = World::dev().await;
    let second = world.replica().await;
    world.cluster("prod").await;
    covered(&world.running).await;
    covered(&second).await;
    let both = [&world.running, &second].map(|running| running.replica.audit.status().sequencer);
    assert_eq!(both.iter().filter(|sequencer| **sequencer).count(), 1, "{both:?}");
    let first = world.through(second);
    first.stop().await;
    let token = world.token("prod", 1, false).await;
    drop(token);
    until("the other one takes over", async || world.running.replica.audit.status().sequencer).await;
    covered(&world.running).await;
    world.stop().await;
}
