//! What is published: of the rows that changed, checked against all rows, by one chain of heads.

use std::time::Duration;

use rap_control_plane::publish::head::open_head;
use rap_types::{HeadOrder, Reason};
use rap_wire::v1;

use crate::host::Host;
use crate::rows::until;
use crate::world::World;

async fn set_region(world: &World, node: &str, region: &str) {
    let request = v1::NodeUpdateRequest {
        cluster: "prod".into(),
        node: node.into(),
        set_region: true,
        region: region.into(),
        ..Default::default()
    };
    world.admin().await.node_update(world.request(request)).await.unwrap();
}

/// Waits until the newest version of the rows is published.
pub async fn settled(world: &World) -> HeadOrder {
    let request = v1::ClusterRef { cluster: "prod".into() };
    let version =
        world.admin().await.cluster_show(world.request(request)).await.unwrap().into_inner().version;
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    let mut versions = cluster.feed.follow();
    let is_out =
        versions.wait_for(|newest| newest.as_ref().is_some_and(|one| one.order.version.0 >= version));
    let newest = tokio::time::timeout(Duration::from_secs(10), is_out).await.unwrap().unwrap();
    newest.as_ref().unwrap().order
}

async fn world_of_two(rows_check_ms: u64) -> World {
    let world = World::dev_with(|raw| raw.rows_check_ms = Some(rows_check_ms)).await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    for name in ["one", "two"] {
        Host::new(&token, name).enrol(&world).await;
    }
    settled(&world).await;
    world
}

#[tokio::test]
async fn a_row_that_no_change_touches_is_not_read_with_it_and_found_by_the_check() {
    let world = world_of_two(3_000).await;
    let database = world.database.as_ref().unwrap();
    // The check at start has passed, the next one is three seconds away.
    set_region(&world, "one", "north").await;
    let before = settled(&world).await;
    database.tamper_all(&["nodes"], "UPDATE nodes SET region = 'elsewhere' WHERE name = 'two'").await;
    set_region(&world, "one", "west").await;
    assert!(settled(&world).await > before);
    let answer = until(&world, |answer| !answer.alarms.is_empty()).await;
    assert_eq!(answer.alarms[0].reason, "row.tampered");
    // From then on every row is read with every change, and nothing new is signed.
    let held = settled(&world).await.durable();
    set_region(&world, "one", "south").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    assert_eq!(cluster.feed.newest().unwrap().order.durable(), held);
    database.tamper_all(&["nodes"], "UPDATE nodes SET region = '' WHERE name = 'two'").await;
    until(&world, |answer| answer.alarms.is_empty()).await;
    assert!(settled(&world).await.durable() > held);
    world.stop().await;
}

#[tokio::test]
async fn an_older_row_put_back_is_not_what_was_published_and_an_alarm() {
    let world = world_of_two(2_000).await;
    let database = world.database.as_ref().unwrap();
    database.tamper_all(&["nodes"], "CREATE TABLE kept AS SELECT * FROM nodes WHERE name = 'two'").await;
    set_region(&world, "two", "north").await;
    let before = settled(&world).await;
    // Its MAC holds: it was written like this once.
    let put_back = "UPDATE nodes n SET region = k.region, row_version = k.row_version, row_mac = k.row_mac \
                    FROM kept k WHERE n.node_id = k.node_id";
    database.tamper_all(&["nodes"], put_back).await;
    let answer = until(&world, |answer| !answer.alarms.is_empty()).await;
    assert_eq!(answer.alarms[0].reason, "planner.divergence");
    assert_eq!(settled(&world).await.durable(), before.durable(), "one version has one root");
    // The next version is made of all rows: it is what the database says, and the alarm is over.
    set_region(&world, "one", "west").await;
    assert!(settled(&world).await.durable() > before.durable());
    until(&world, |answer| answer.alarms.is_empty()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_two_replicas_are_one_chain_without_a_divergence() {
    let mut world = World::dev().await;
    let second = world.replica().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    Host::new(&token, "one").enrol(&world).await;
    let first = world.through(second);
    let replica = world.running.replica.clone();
    let cluster = replica.serving.clusters.named("prod").unwrap();
    let mut last = None;
    for turn in 0..30 {
        // Both replicas are woken by each change, and either may sign it.
        set_region(&world, "one", &format!("r{turn}")).await;
        settled(&world).await;
        let newest = cluster.feed.newest().unwrap();
        if last.is_some() {
            assert_eq!(newest.previous, last, "{}", newest.order);
        }
        let (head, _) = open_head(&replica.keys, &cluster, &newest.head).unwrap();
        // A head that was signed again is no link of the chain.
        last = (newest.order.refresh.0 == 0).then(|| head.digest());
    }
    for running in [&first, &world.running] {
        assert_eq!(running.replica.watch.metrics.alarms(Reason::PlannerDivergence), 0);
    }
    first.stop().await;
    world.stop().await;
}
