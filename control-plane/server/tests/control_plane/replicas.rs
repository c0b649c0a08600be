//! Two control planes on one database: equal, and no node can tell them apart.

use std::sync::Arc;
use std::time::Duration;

use rap_types::Reason;
use rap_wire::v1;
use v1::control_message::Body;

use crate::host::{Host, hello, member};
use crate::world::{World, reason};

#[tokio::test]
async fn a_change_at_one_replica_reaches_a_node_at_the_other() {
    let mut world = World::dev().await;
    let second = world.replica().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let host = Host::new(&token, "one");
    let bootstrap = host.enrol(&world).await;

    // The cluster is younger than the second replica, which has to find it.
    let first = world.through(second);
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = host.stream(&world, &slot, hello()).await;
    assert!(stream.update().await.full);
    let served = world.running.replica.serving.clusters.named("prod").unwrap();
    let leaf = served.feed.newest().unwrap().leaf_hash(bootstrap.node).unwrap();
    let ack = v1::SnapshotAck { leaf_hash: leaf.to_vec(), ..Default::default() };
    stream.say(v1::node_message::Body::Ack(ack)).await;

    let second = world.through(first);
    Host::new(&token, "two").enrol(&world).await;
    let update = stream.update().await;
    assert_eq!(update.slots_set.len(), 1);

    // Both replicas come to serve the same version, whoever signed it.
    let other = world.running.replica.serving.clusters.named("prod").unwrap();
    let at = served.feed.newest().unwrap();
    let mut versions = other.feed.follow();
    let reached = versions.wait_for(|newest| {
        newest.as_ref().is_some_and(|newest| newest.order.durable() == at.order.durable())
    });
    let reached = tokio::time::timeout(Duration::from_secs(10), reached).await.unwrap().unwrap();
    let twin = reached.clone().unwrap();
    drop(reached);
    assert_eq!(twin.plan.tree.root(), at.plan.tree.root());
    assert!(twin.order != at.order || twin.head == at.head, "one order has one head");
    second.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_use_is_one_use_over_two_replicas() {
    let mut world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 1, false).await;
    let second = world.replica().await;
    let first = world.through(second);
    let second = Arc::new(world);
    let mut hosts = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (world, host) = (second.clone(), Host::new(&token, &format!("host-{number}")));
        let address = if number % 2 == 0 { first.address } else { second.address() };
        hosts.spawn(async move { host.join_at(&world, address).await.map(|_| ()).map_err(reason) });
    }
    let mut won = 0;
    while let Some(outcome) = hosts.join_next().await {
        match outcome.unwrap() {
            Ok(()) => won += 1,
            Err(reason) => assert_eq!(reason, Reason::TokenExhausted),
        }
    }
    assert_eq!(won, 1);
    first.stop().await;
}

#[tokio::test]
async fn a_restarted_control_plane_serves_the_stored_head_and_sends_no_snapshot_again() {
    let mut world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let mut stream = host.stream(&world, &slot, hello()).await;
    stream.update().await;
    let served = world.running.replica.serving.clusters.named("prod").unwrap();
    let before = served.feed.newest().unwrap();
    drop(stream);

    let restarted = world.replica().await;
    world.through(restarted).stop().await;
    let leaf_hash = before.leaf_hash(bootstrap.node).unwrap().to_vec();
    let mut stream = host.stream(&world, &slot, v1::NodeHello { leaf_hash, ..hello() }).await;
    assert!(matches!(stream.next().await.unwrap(), Body::Hello(_)));
    let Body::Head(_) = stream.next().await.unwrap() else { panic!("the node holds this leaf") };
    let after = world.running.replica.serving.clusters.named("prod").unwrap().feed.newest().unwrap();
    assert_eq!(after.order.durable(), before.order.durable());
    assert_eq!(after.plan.tree.root(), before.plan.tree.root());
    world.stop().await;
}

#[tokio::test]
async fn rows_that_somebody_planted_keep_no_other_cluster_from_being_followed() {
    let mut world = World::dev().await;
    let hit = rap_types::ClusterId::from_slice(&world.cluster("hit").await.cluster_id).unwrap();
    let second = world.replica().await;
    assert!(second.replica.serving.clusters.by_id(hit).is_some());
    // A cluster before every other one with a data key that nobody wrapped, and a version that no
    // arithmetic of 64 bits doubles.
    let plant = "INSERT INTO clusters (cluster_id, name, incarnation, ipv4_pool, dev, fresh_for_ms, \
            refresh_every_ms, degraded_for_ms, leaf_lifetime_ms) SELECT '00000000-0000-0000-0000-000000000001', \
            'aaa', 1, '10.7.0.0/16', mode = 'dev', 20000, 5000, 60000, 600000 FROM installation_authority; \
        INSERT INTO cluster_deks SELECT '00000000-0000-0000-0000-000000000001', key_version, wrapped_dek \
            FROM cluster_deks; \
        INSERT INTO cluster_deks SELECT cluster_id, 9223372036854775807, wrapped_dek FROM cluster_deks \
            WHERE cluster_id <> '00000000-0000-0000-0000-000000000001'";
    world
        .database
        .as_ref()
        .unwrap()
        .tamper_all(&["clusters", "cluster_deks", "installation_authority"], plant)
        .await;
    let born = rap_types::ClusterId::from_slice(&world.cluster("later").await.cluster_id).unwrap();
    let waited = async {
        while second.replica.serving.clusters.by_id(born).is_none()
            || second.replica.watch.metrics.alarms(Reason::SecretUnseal) < 2
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), waited).await.expect("the other replica follows");
    // Both are alarms; the cluster that was served before still is.
    let planted = rap_types::ClusterId::from_bytes([[0; 15].as_slice(), &[1]].concat().try_into().unwrap());
    assert_eq!(second.replica.serving.clusters.broken()[&planted].1, Reason::SecretUnseal);
    assert!(second.replica.serving.clusters.by_id(hit).is_some());
    let first = world.through(second);
    first.stop().await;
    world.stop().await;
}
