//! One identity in two places, and one that went back to an older state.

use std::time::Duration;

use rap_contract::{Signer, VerifiedBootstrap};
use rap_store::identity_read;
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use v1::control_message::Body;
use v1::node_message::Body as Say;

use crate::grants::audited;
use crate::host::{NodeStream, hello, member};
use crate::sync::{Kept, acknowledge};
use crate::world::{World, in_time, reason, until};

fn of(instance: u8) -> v1::NodeHello {
    v1::NodeHello { instance_id: vec![instance; 16], ..hello() }
}

async fn greeted(mut stream: NodeStream) -> NodeStream {
    assert!(matches!(stream.next().await.unwrap(), Body::Hello(_)));
    stream.say(Say::Report(v1::NodeReport::default())).await;
    stream
}

fn alarms(world: &World, reason: Reason) -> u64 {
    world.running.replica.watch.metrics.alarms(reason)
}

/// Reads a stream until it is asked to stay away: what came, in words.
async fn until_away(stream: &mut NodeStream, bootstrap: &VerifiedBootstrap) -> Vec<String> {
    let mut said = Vec::new();
    let heard = async {
        loop {
            match stream.next().await.unwrap() {
                Body::Update(update) => {
                    acknowledge(stream, &Kept::new(bootstrap).apply(&update)).await;
                    said.push("update".to_owned());
                }
                Body::IdentityNotice(notice) => said.push(notice.reason),
                Body::GoingAway(going) => {
                    assert_eq!((going.reconnect_after_ms, going.not_ready), (60_000, false));
                    return;
                }
                _ => {}
            }
        }
    };
    in_time("asked to stay away", heard).await;
    said
}

async fn notice(stream: &mut NodeStream) -> String {
    in_time("a notice", async {
        loop {
            if let Body::IdentityNotice(notice) = stream.next().await.unwrap() {
                return notice.reason;
            }
        }
    })
    .await
}

#[tokio::test]
async fn one_identity_in_two_places_is_found_told_to_both_and_gets_no_certificate_until_it_is_accepted() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let identities = &world.running.replica.serving.identities;
    // A restart, a late message, a second stream: each place is heard once more than it was.
    for instance in [1, 1, 2, 1] {
        let _stream = greeted(host.stream(&world, &slot, of(instance)).await).await;
        until("heard", async || identities.newest(bootstrap.node) == Some([instance; 16])).await;
        until("recorded", async || recorded(&world, bootstrap.node).await.is_some()).await;
    }
    assert_eq!(alarms(&world, Reason::NodeCloned), 0);
    host.certificate(&world, &bootstrap).await.unwrap();

    let mut returning = greeted(host.stream(&world, &slot, of(2)).await).await;
    let said = until_away(&mut returning, &bootstrap).await;
    assert!(said.contains(&"update".to_owned()), "signed state goes to both: {said:?}");
    assert!(said.contains(&"node.cloned".to_owned()), "{said:?}");
    assert_eq!(alarms(&world, Reason::NodeCloned), 1);
    let mut other = greeted(host.stream(&world, &slot, of(1)).await).await;
    let said = until_away(&mut other, &bootstrap).await;
    assert!(said.contains(&"node.cloned".to_owned()) && said.contains(&"update".to_owned()), "{said:?}");
    assert_eq!(alarms(&world, Reason::NodeCloned), 1, "once an hour");
    assert_eq!(audited(&world, "alarm.raise").await, [format!("node/{}", bootstrap.node)]);
    assert_eq!(reason(host.certificate(&world, &bootstrap).await.err().unwrap()), Reason::NodeCloned);

    let name = v1::NodeRef { cluster: "prod".into(), node: "one".into() };
    let shown = world.node("one").await;
    assert_eq!(shown.doubt, "node.cloned");
    let mut admin = world.admin().await;
    let status = admin.status(world.request(v1::StatusRequest {})).await.unwrap().into_inner();
    assert!(status.alarms.iter().any(|alarm| alarm.reason == "node.cloned"), "{:?}", status.alarms);
    let accepted = admin.node_accept(world.request(name.clone())).await.unwrap().into_inner();
    assert_eq!((accepted.name.as_str(), accepted.doubt.as_str()), ("one", ""));
    assert_eq!(audited(&world, "node.accept").await, [format!("node/{}", bootstrap.node)]);
    host.certificate(&world, &bootstrap).await.unwrap();
    let again = admin.node_accept(world.request(name)).await.unwrap_err();
    assert_eq!(reason(again), Reason::ResourceNotFound);
    let status = admin.status(world.request(v1::StatusRequest {})).await.unwrap().into_inner();
    assert!(status.alarms.iter().all(|alarm| alarm.reason != "node.cloned"), "{:?}", status.alarms);
    world.stop().await;
}

/// What the database knows of a node's identity.
async fn recorded(world: &World, node: NodeId) -> Option<(u64, u64)> {
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    identity_read(&mut transaction, node).await.unwrap().map(|known| known.held())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_places_with_streams_to_two_replicas_are_found_through_contacts() {
    let mut world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let second = world.replica().await;
    let one = greeted(host.stream(&world, &slot, of(1)).await).await;
    let first = world.through(second);
    until("the other replica knows the cluster", async || {
        world.running.replica.serving.clusters.by_id(bootstrap.contract.header().cluster).is_some()
    })
    .await;
    // The same agent at both replicas is in one place.
    let same = greeted(host.stream(&world, &slot, of(1)).await).await;
    for _ in 0..8 {
        one.say(Say::Report(v1::NodeReport::default())).await;
        same.say(Say::Report(v1::NodeReport::default())).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let found = |world: &World| {
        alarms(world, Reason::NodeCloned) + first.replica.watch.metrics.alarms(Reason::NodeCloned)
    };
    assert_eq!(found(&world), 0);
    drop(same);
    let mut one = one;
    let mut two = greeted(host.stream(&world, &slot, of(2)).await).await;
    until("two places are found", async || {
        one.say(Say::Report(v1::NodeReport::default())).await;
        two.say(Say::Report(v1::NodeReport::default())).await;
        tokio::time::sleep(Duration::from_millis(280)).await;
        found(&world) > 0
    })
    .await;
    one.say(Say::Report(v1::NodeReport::default())).await;
    two.say(Say::Report(v1::NodeReport::default())).await;
    assert_eq!(
        (notice(&mut one).await.as_str(), notice(&mut two).await.as_str()),
        ("node.cloned", "node.cloned")
    );
    first.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_node_that_comes_back_with_less_than_it_acknowledged_is_doubted_until_its_key_is_rotated() {
    let world = World::dev().await;
    let (mut host, bootstrap, slot) = member(&world).await;
    let mut stream = greeted(host.stream(&world, &slot, of(1)).await).await;
    let snapshot = Kept::new(&bootstrap).apply(&stream.update().await);
    acknowledge(&stream, &snapshot).await;
    stream.say(Say::Report(v1::NodeReport::default())).await;
    let order = snapshot.head().order;
    let held = (order.incarnation.0, order.version.0);
    until("what it acknowledged is recorded", async || recorded(&world, bootstrap.node).await == Some(held))
        .await;

    let newest_head = snapshot.head_document().envelope().to_vec();
    let floor = |version| Some(v1::HeadOrder { incarnation: held.0, version, refresh: 0 });
    let lost_cache = v1::NodeHello { floor: floor(held.1 - 1), ..of(2) };
    let as_it_was = v1::NodeHello { floor: floor(held.1), newest_head: newest_head.clone(), ..of(3) };
    for hello in [lost_cache, as_it_was] {
        let mut stream = greeted(host.stream(&world, &slot, hello).await).await;
        stream.update().await;
    }
    assert_eq!(alarms(&world, Reason::NodeRolledBack), 0);

    let old = v1::NodeHello { floor: floor(held.1 - 1), newest_head, ..of(4) };
    let mut stream = greeted(host.stream(&world, &slot, old).await).await;
    assert_eq!(notice(&mut stream).await, "node.rolled_back");
    assert_eq!(alarms(&world, Reason::NodeRolledBack), 1);
    assert_eq!(world.node("one").await.doubt, "node.rolled_back");
    assert_eq!(reason(host.certificate(&world, &bootstrap).await.err().unwrap()), Reason::NodeRolledBack);
    let new = Signer::generate(&mut rand::rng());
    assert_eq!(host.rotate(&world, &bootstrap, Some(&new), None).await.unwrap().key_generation, 2);
    host.key = new;
    host.certificate(&world, &bootstrap).await.unwrap();
    assert_eq!(world.node("one").await.doubt, "");
    world.stop().await;
}

/// Whoever writes a contact is refused.
const NO_CONTACTS: &str = "CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'refused'; END$$; \
    CREATE TRIGGER refused BEFORE INSERT OR UPDATE ON node_contacts EXECUTE FUNCTION refused()";

#[tokio::test]
async fn what_was_acknowledged_in_a_short_stream_counts_before_a_report_and_before_it_is_written() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let database = world.database.as_ref().unwrap();
    database.as_superuser(NO_CONTACTS).await;
    let mut stream = host.stream(&world, &slot, of(1)).await;
    let snapshot = Kept::new(&bootstrap).apply(&stream.update().await);
    acknowledge(&stream, &snapshot).await;
    let order = snapshot.head().order;
    let (incarnation, version) = (order.incarnation.0, order.version.0);
    until("the acknowledgement was heard", async || world.node("one").await.acked_version == version).await;
    drop(stream);

    // A start without a cache says nothing, and its stream is no later word than the one before.
    let floor = |version| Some(v1::HeadOrder { incarnation, version, refresh: 0 });
    let mut stream = host.stream(&world, &slot, v1::NodeHello { floor: floor(version), ..of(2) }).await;
    stream.update().await;
    drop(stream);
    assert_eq!(recorded(&world, bootstrap.node).await, None);

    let newest_head = snapshot.head_document().envelope().to_vec();
    let old = v1::NodeHello { floor: floor(version - 1), newest_head, ..of(3) };
    let mut stream = host.stream(&world, &slot, old).await;
    assert_eq!(notice(&mut stream).await, "node.rolled_back");
    assert_eq!(alarms(&world, Reason::NodeRolledBack), 1);
    database.as_superuser("DROP TRIGGER refused ON node_contacts").await;
    stream.say(Say::Report(v1::NodeReport::default())).await;
    until("it is recorded", async || recorded(&world, bootstrap.node).await == Some((incarnation, version)))
        .await;
    assert_eq!(world.node("one").await.doubt, "node.rolled_back");
    assert_eq!(alarms(&world, Reason::NodeCloned), 0);
    world.stop().await;
}
