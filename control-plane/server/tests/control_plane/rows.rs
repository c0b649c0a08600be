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
pub async fn until(world: &World, wanted: impl Fn(&v1::StatusAnswer) -> bool) -> v1::StatusAnswer {
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
    // Every row is read with every change.
    let world = World::dev_with(|raw| raw.rows_check_ms = Some(0)).await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let (one, two) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let (first, _) = (one.enrol(&world).await, two.enrol(&world).await);
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
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

#[tokio::test]
async fn lists_show_the_rows_that_hold_and_name_the_others() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let (one, two) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let (first, _) = (one.enrol(&world).await, two.enrol(&world).await);
    let waiting = world.token("prod", 9, false).await;
    let (asked, _) = Host::new(&waiting, "three").join(&world).await.unwrap();
    Host::new(&waiting, "four").join(&world).await.unwrap();
    world
        .database
        .as_ref()
        .unwrap()
        .tamper_all(
            &["nodes", "join_tokens", "join_requests"],
            "UPDATE nodes SET region = 'elsewhere' WHERE name = 'one'; \
         UPDATE join_tokens SET max_uses = 1000 WHERE approval = 'auto'; \
         UPDATE join_requests SET source = '192.0.2.1' WHERE name = 'three'",
        )
        .await;
    let list = v1::NodeListRequest { cluster: "prod".into(), pending: false };
    let answer = world.admin().await.node_list(world.request(list)).await.unwrap().into_inner();
    let shown: Vec<_> = answer.nodes.iter().map(|node| (node.name.as_str(), node.refused.as_str())).collect();
    assert_eq!(shown, [("two", ""), ("", "row.tampered")]);
    assert_eq!(answer.nodes[1].node_id, first.node.to_vec());
    assert!(answer.nodes[1].node_public_key.is_empty() && answer.nodes[1].roles.is_empty());
    let mut shown: Vec<_> =
        answer.pending.iter().map(|one| (one.name.as_str(), one.refused.as_str())).collect();
    shown.sort_unstable();
    assert_eq!(shown, [("", "row.tampered"), ("four", "")]);
    let list = v1::TokenListRequest { cluster: "prod".into() };
    let tokens = world.admin().await.token_list(world.request(list)).await.unwrap().into_inner().tokens;
    let mut shown: Vec<_> = tokens.iter().map(|one| (one.state.as_str(), one.refused.as_str())).collect();
    shown.sort_unstable();
    assert_eq!(shown, [("", "row.tampered"), ("live", "")]);

    let alarms = world.running.replica.watch.metrics.alarms(Reason::RowTampered);
    assert!(alarms >= 3, "a row that is only shown is an alarm too: {alarms}");

    // What decides still refuses: a shown row is not a believed one.
    let by_id = v1::NodeRef { cluster: "prod".into(), node: first.node.to_string() };
    let refused = world.admin().await.node_show(world.request(by_id)).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RowTampered);
    let decide = v1::NodeDecideRequest {
        cluster: "prod".into(),
        request_ids: vec![asked.request_id],
        ..v1::NodeDecideRequest::default()
    };
    let refused = world.admin().await.node_approve(world.request(decide)).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RowTampered);
    let third = Host::new(&token, "five").join(&world).await.unwrap_err();
    assert_eq!(reason(third), Reason::RowTampered);
    world.stop().await;
}

#[tokio::test]
async fn a_policy_that_is_taken_away_does_not_become_the_default_one() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    let of = || v1::ClusterRef { cluster: "prod".into() };
    let asked = v1::MembershipPolicySetRequest {
        cluster: "prod".into(),
        keep_ids: Some(true),
        degraded_ends: Some(v1::Words { words: vec!["existing_links".into()] }),
        ..Default::default()
    };
    let set = world.membership().await.policy_set(world.request(asked.clone())).await.unwrap().into_inner();
    until(&world, |_| cluster.feed.newest().is_some_and(|newest| newest.order.version.0 >= 2)).await;
    let database = world.database.as_ref().unwrap();
    let taken = [
        "CREATE TABLE taken AS SELECT * FROM cluster_policies WHERE kind = 'membership'; \
         DELETE FROM cluster_policies WHERE kind = 'membership'",
        "CREATE TABLE taken AS SELECT * FROM cluster_policies WHERE kind = 'degraded'; \
         DELETE FROM cluster_policies WHERE kind = 'degraded'",
    ];
    for take in taken {
        let before = cluster.feed.newest().unwrap().order.durable();
        database.tamper_all(&["cluster_policies"], take).await;
        let shown = world.membership().await.policy_show(world.request(of())).await.unwrap_err();
        assert_eq!(reason(shown), Reason::RowTampered, "{take}");
        let again = world.membership().await.policy_set(world.request(asked.clone())).await.unwrap_err();
        assert_eq!(reason(again), Reason::RowTampered, "{take}: it is not written anew");
        database
            .tamper_all(
                &["clusters", "config_outbox"],
                "WITH next AS (UPDATE clusters SET config_seq = config_seq + 1 RETURNING cluster_id, config_seq) \
                 INSERT INTO config_outbox (cluster_id, seq, touched) SELECT cluster_id, config_seq, '{policy}' FROM next",
            )
            .await;
        let answer = until(&world, |answer| !answer.alarms.is_empty()).await;
        assert!(answer.alarms.iter().any(|alarm| alarm.reason == "row.tampered"), "{:?}", answer.alarms);
        assert_eq!(cluster.feed.newest().unwrap().order.durable(), before, "{take}");

        database
            .tamper_all(
                &["cluster_policies"],
                "INSERT INTO cluster_policies SELECT * FROM taken; DROP TABLE taken",
            )
            .await;
        until(&world, |answer| answer.alarms.is_empty()).await;
        assert!(cluster.feed.newest().unwrap().order.durable() > before, "{take}");
    }
    let shown = world.membership().await.policy_show(world.request(of())).await.unwrap().into_inner();
    assert_eq!(shown, set);
    world.stop().await;
}

#[tokio::test]
async fn what_a_list_only_refuses_to_show_is_an_alarm_too() {
    let world = World::dev().await;
    let cluster = rap_types::ClusterId::from_slice(&world.cluster("prod").await.cluster_id).unwrap();
    let token = world.token("prod", 9, false).await;
    Host::new(&token, "one").join(&world).await.unwrap();
    let token = rap_types::TokenId::from_slice(&token.token.unwrap().token_id).unwrap();
    let database = world.database.as_ref().unwrap();
    let edit =
        "UPDATE join_tokens SET max_uses = 1000; UPDATE clusters SET leaf_lifetime_ms = leaf_lifetime_ms + 1";
    database.tamper_all(&["join_tokens", "clusters"], edit).await;
    let list = v1::NodeListRequest { cluster: "prod".into(), pending: true };
    let answer = world.admin().await.node_list(world.request(list)).await.unwrap().into_inner();
    assert_eq!(answer.pending[0].refused, "row.tampered");
    let answer = world.admin().await.cluster_list(world.request(v1::ClusterListRequest {})).await;
    assert_eq!(answer.unwrap().into_inner().clusters[0].refused, "row.tampered");
    let told = crate::grants::audited(&world, "alarm.raise").await;
    for object in [format!("join_tokens/{token}"), format!("clusters/{cluster}")] {
        assert!(told.contains(&object), "{object}: {told:?}");
    }
    world.stop().await;
}
