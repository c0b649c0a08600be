//! Rows that are written while the data key of their cluster changes.

use crate::data_keys::{acting, filled, go, is_whole_under_newest, stored, versions};
use crate::host::Host;
use crate::world::{World, reason};
use rap_authority::{DataKeys, SealingKey};
use rap_control_plane::acts::rotate_data_key::rotate;
use rap_control_plane::keys::key_ring::Stage;
use rap_control_plane::keys::seal_context::Sealed;
use rap_control_plane::replica::Replica;
use rap_store::{
    DekRow, SystemTransaction, dek_insert, node_hold, nodes_list, policy_upsert, token_read, tokens_live,
};
use rap_types::{ClusterId, Reason, Wall};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The ring of a replica that has heard of nothing since `before`.
async fn deaf(replica: &Replica, id: ClusterId) -> (rap_authority::RowKeys, DataKeys) {
    let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
    let keyring = replica.keys.keyring(&replica.database.floors);
    let keys = keyring.read(&mut snapshot, id).await.unwrap();
    (keyring.rows(id, &keys), keys)
}

#[tokio::test]
async fn a_replica_that_has_not_heard_of_it_learns_from_the_first_row_it_meets() {
    let world = World::dev().await;
    let (id, token) = filled(&world).await;
    let node = Host::new(&token, "one").enrol(&world).await.node;
    let replica = &world.running.replica;
    let installation = replica.keys.installation.facts.id;
    let (reader, before) = deaf(replica, id).await;
    let (writer, snapshot_reader) = (deaf(replica, id).await.0, deaf(replica, id).await.0);
    // A snapshot from before sees rows and keys of then, whatever its ring knows.
    let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
    assert_eq!(nodes_list(&mut snapshot, &snapshot_reader).await.unwrap().len(), 1);
    go(&world, id, Stage::Retired).await.unwrap();
    assert_eq!(nodes_list(&mut snapshot, &snapshot_reader).await.unwrap().len(), 1);
    drop(snapshot);

    let mut transaction = replica.database.store.system().begin().await.unwrap();
    assert_eq!(reader.newest_version(), 1);
    assert_eq!(nodes_list(&mut transaction, &reader).await.unwrap().len(), 1);
    assert_eq!(reader.newest_version(), 2);
    // One that writes first: the row it changes, and the row it adds, are under the new key.
    assert!(node_hold(&mut transaction, &writer, node).await.unwrap().is_some());
    let alone = DataKeys::of(vec![(1, before.version(1).unwrap().clone())]).unwrap();
    let adder = replica.keys.keyring(&replica.database.floors).rows(id, &alone);
    assert_eq!(adder.newest_version(), 1);
    policy_upsert(&mut transaction, &adder, "drill", &json!({ "by": "a deaf replica" })).await.unwrap();
    assert_eq!(adder.newest_version(), 2);
    transaction.commit().await.unwrap();
    is_whole_under_newest(replica, id).await;
    // Without knowing how to open data keys it could not have: the row would have been refused.
    let blind = rap_authority::RowKeys::of_data_keys(installation, id, &before, None);
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    assert_eq!(nodes_list(&mut transaction, &blind).await.unwrap_err().reason(), Reason::RowTampered);
    // A version that does not open is somebody else's.
    let foreign = SealingKey::generate(&mut rand::rng());
    let wrapped = Sealed::DataKey(id, 3).seal(&foreign, installation, &[9; 32]);
    dek_insert(&mut transaction, &DekRow { cluster: id, key_version: 3, wrapped_dek: wrapped })
        .await
        .unwrap();
    let refused = policy_upsert(&mut transaction, &adder, "drill-2", &json!({})).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::RowTampered);
    assert!(refused.to_string().contains("cluster_deks"), "{refused}");
    drop(transaction);
    world.stop().await;
}

#[tokio::test]
async fn a_row_that_is_being_added_under_the_old_key_holds_its_removal_off_and_is_sealed_anew() {
    let world = World::dev().await;
    let (id, _) = filled(&world).await;
    let replica = world.running.replica.clone();
    let (writer, _) = deaf(&replica, id).await;
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    policy_upsert(&mut transaction, &writer, "drill", &json!({ "under": "the old key" })).await.unwrap();
    let mut rotation = tokio::task::JoinSet::new();
    let rotating = replica.clone();
    rotation.spawn(async move { rotate(&rotating.serving, id, &acting(&rotating), Stage::Retired).await });
    // It waits for the writer, with both keys in place.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(rotation.try_join_next().is_none());
    let token = tokens_live(&mut transaction, id, Wall(0)).await.unwrap()[0];
    assert!(token_read(&mut transaction, &writer, token).await.unwrap().is_some());
    transaction.commit().await.unwrap();
    let rotated = tokio::time::timeout(Duration::from_secs(20), rotation.join_next()).await.unwrap();
    let rotated = rotated.unwrap().unwrap().unwrap();
    assert_eq!((rotated.version, rotated.replaced), (2, 1));
    assert_eq!(versions(&stored(&replica, id).await), vec![2]);
    is_whole_under_newest(&replica, id).await;
    let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
    let policies = rap_store::policies_list(&mut snapshot, &deaf(&replica, id).await.0).await.unwrap();
    assert!(policies.iter().any(|policy| policy.body == json!({ "under": "the old key" })));
    drop(snapshot);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_two_replicas_lose_nothing_and_are_refused_nothing_while_keys_change() {
    let mut world = World::dev().await;
    let (id, token) = filled(&world).await;
    let second = world.replica().await;
    let first = world.through(second);
    let world = Arc::new(world);
    let mut writers = tokio::task::JoinSet::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for writer in 0..3 {
        let (world, token, stop) = (world.clone(), token.clone(), stop.clone());
        let elsewhere = first.address;
        writers.spawn(async move {
            let mut written = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let name = format!("host-{writer}-{written}");
                if writer == 2 {
                    let host = Host::new(&token, &name);
                    host.join_at(&world, elsewhere).await.map_err(reason).unwrap();
                } else {
                    Host::new(&token, &name).enrol(&world).await;
                    world.token("prod", 1, false).await;
                }
                written += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            written
        });
    }
    let mut rotations = 0;
    for round in 0..5 {
        let replica = if round % 2 == 0 { &first.replica } else { &world.running.replica };
        let rotated = rotate(&replica.serving, id, &acting(replica), Stage::Retired).await.unwrap();
        rotations += rotated.version - rotated.replaced;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut written: usize = 0;
    while let Some(count) = writers.join_next().await {
        written += count.unwrap();
    }
    assert_eq!(rotations, 5);
    assert!(written >= 5, "{written}");
    let replica = &first.replica;
    is_whole_under_newest(replica, id).await;
    for replica in [&first.replica, &world.running.replica] {
        assert!(replica.watch.alarms.all().is_empty(), "{:?}", replica.watch.alarms.all());
        let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
        let rows = deaf(replica, id).await.0;
        assert_eq!(nodes_list(&mut snapshot, &rows).await.unwrap().len(), written);
    }
    first.stop().await;
}

#[tokio::test]
async fn a_thousand_rows_of_one_table_are_sealed_anew_some_at_a_time() {
    let world = World::dev().await;
    let (id, _) = filled(&world).await;
    let replica = &world.running.replica;
    let (rows, _) = deaf(replica, id).await;
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    add_policies(&mut transaction, &rows, 1_203).await;
    transaction.commit().await.unwrap();
    let rotated = go(&world, id, Stage::Retired).await.unwrap();
    assert!(rotated.rows >= 1_203, "{rotated:?}");
    assert!(is_whole_under_newest(replica, id).await >= 1_203);
    world.stop().await;
}

async fn add_policies(transaction: &mut SystemTransaction, rows: &rap_authority::RowKeys, count: u32) {
    for number in 0..count {
        policy_upsert(transaction, rows, &format!("kind-{number}"), &json!({ "number": number }))
            .await
            .unwrap();
    }
}
