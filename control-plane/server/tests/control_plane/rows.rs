//! A database that somebody else writes while the control plane serves.

use std::time::Duration;

use rap_types::Reason;
use rap_wire::v1;

use crate::host::Host;
use crate::world::{World, reason};

async fn status(world: &World) -> v1::StatusAnswer {
    world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap().into_inner()
}

/// Asks until the answer is as wanted, at most fifteen seconds.
async fn until(world: &World, wanted: impl Fn(&v1::StatusAnswer) -> bool) -> v1::StatusAnswer {
    let asking = async {
        loop {
            let answer = status(world).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), asking).await.expect("the status comes to be as wanted")
}

fn region(node: &str, region: &str) -> v1::NodeUpdateRequest {
    v1::NodeUpdateRequest {
        cluster: "prod".into(),
        node: node.into(),
        set_region: true,
        region: region.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_tampered_node_is_not_published_is_named_by_one_alarm_and_put_right_by_putting_the_row_back() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let (one, two) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let (first, _) = (one.enrol(&world).await, two.enrol(&world).await);
    let cluster = world.running.control.clusters.named("prod").unwrap();
    until(&world, |_| cluster.feed.newest().is_some_and(|newest| newest.order.version.0 >= 3)).await;
    let before = cluster.feed.newest().unwrap().order;

    let database = world.database.as_ref().unwrap();
    database.tamper_all(&["nodes"], "UPDATE nodes SET region = 'elsewhere' WHERE name = 'one'").await;
    // Another node's change asks for a new version.
    world.admin().await.node_update(world.request(region("two", "west"))).await.unwrap();
    let answer = until(&world, |answer| !answer.alarms.is_empty()).await;
    let [alarm] = answer.alarms.as_slice() else { panic!("{:?}", answer.alarms) };
    assert_eq!(alarm.reason, "row.tampered");
    assert!(alarm.what.contains("nodes") && alarm.what.contains(&first.node.to_string()), "{}", alarm.what);
    assert_eq!(cluster.feed.newest().unwrap().order.durable(), before.durable());

    // Nobody gets anything that rests on the row, and nothing is written over it.
    let certificate = one.certificate(&world, &first).await.map(drop).unwrap_err();
    assert_eq!(reason(certificate), Reason::RowTampered);
    let update = world.admin().await.node_update(world.request(region("one", "east"))).await.unwrap_err();
    assert_eq!(reason(update), Reason::RowTampered);

    database.tamper_all(&["nodes"], "UPDATE nodes SET region = '' WHERE name = 'one'").await;
    world.admin().await.node_update(world.request(region("two", "north"))).await.unwrap();
    until(&world, |answer| answer.alarms.is_empty()).await;
    assert!(cluster.feed.newest().unwrap().order.durable() > before.durable());
    world.stop().await;
}
