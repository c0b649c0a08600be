//! A node that has its stream to another replica.

use rap_types::Reason;
use rap_wire::v1;
use v1::control_message::Body;
use v1::node_message::Body as Say;

use crate::host::{Host, hello};
use crate::sync::{Kept, acknowledge};
use crate::world::{World, reason, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_its_stream_to_another_replica_is_connected_and_answers_a_ping() {
    let mut world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let (one, two) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let bootstrap = one.enrol(&world).await;
    let other = two.enrol(&world).await;
    let (slot, _) = one.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = one.stream(&world, &slot, hello()).await;
    let mut kept = Kept::new(&bootstrap);
    loop {
        let snapshot = kept.apply(&stream.update().await);
        acknowledge(&stream, &snapshot).await;
        if snapshot.contents().peers.contains_key(&other.node) {
            break;
        }
    }
    let second = world.replica().await;
    let first = world.through(second);
    let ping = |from: &str, to: &str| {
        let (cluster, from, to) = ("prod".into(), from.into(), to.into());
        world.request(v1::AdminPingRequest { cluster, from, to, count: 1, interval_ms: 10 })
    };
    until("the other replica says that it is connected", async || {
        let node = world.node("one").await;
        node.connected && node.elsewhere
    })
    .await;
    let list = v1::NodeListRequest { cluster: "prod".into(), pending: false };
    let listed = world.admin().await.node_list(world.request(list)).await.unwrap().into_inner().nodes;
    let shown = |name: &str| {
        listed.iter().find(|node| node.name == name).map(|node| (node.connected, node.elsewhere))
    };
    assert_eq!((shown("one"), shown("two")), (Some((true, true)), Some((false, false))));
    let status = world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap().into_inner();
    assert_eq!(status.clusters[0].nodes_connected, 1);

    let answer_pings = async {
        loop {
            let Body::Diagnostic(request) = stream.next().await.unwrap() else { continue };
            let Some(v1::diagnostic_request::Body::Ping(ping)) = request.body else { panic!("only ping") };
            assert_eq!((ping.node_id, ping.count, ping.interval_ms), (other.node.to_vec(), 1, 10));
            let overlay = vec![v1::PingSample { sequence: 1, rtt_ns: 42 }];
            let ping = Some(v1::PingResult { overlay, ..Default::default() });
            let diagnostic_id = request.diagnostic_id;
            stream
                .say(Say::Diagnostic(v1::DiagnosticResult { diagnostic_id, ping, ..Default::default() }))
                .await;
            return;
        }
    };
    let mut admin = world.admin().await;
    let (answer, ()) = tokio::join!(admin.ping(ping("one", "two")), answer_pings);
    assert_eq!(answer.unwrap().into_inner().overlay[0].rtt_ns, 42);
    // Longer than what is told at once.
    let document = "{\"explained\": true}".repeat(1000);
    let answer_path = async {
        loop {
            let Body::Diagnostic(request) = stream.next().await.unwrap() else { continue };
            let Some(v1::diagnostic_request::Body::PathExplain(path)) = request.body else {
                panic!("only a path")
            };
            assert_eq!((path.node_id, path.class.as_str()), (other.node.to_vec(), "input"));
            assert_eq!(path.down, ["r1"]);
            let (diagnostic_id, path_explain) = (request.diagnostic_id, document.clone());
            let result = v1::DiagnosticResult { diagnostic_id, path_explain, ..Default::default() };
            return stream.say(Say::Diagnostic(result)).await;
        }
    };
    let explain = |from: &str, down: &str| {
        let (cluster, from, to) = ("prod".into(), from.into(), "two".into());
        let (class, down) = ("input".into(), vec![down.into()]);
        world.request(v1::AdminPathExplainRequest { cluster, from, to, class, down })
    };
    let (answer, ()) = tokio::join!(admin.path_explain(explain("one", "r1")), answer_path);
    assert_eq!(answer.unwrap().into_inner().json, document);
    let long = admin.path_explain(explain("one", &"r".repeat(8000))).await.unwrap_err();
    assert_eq!(reason(long), Reason::RequestTooLarge);
    let itself = admin.ping(ping("one", "one")).await.unwrap_err();
    assert_eq!(reason(itself), Reason::LinkPeerUnknown, "what the stream refuses is passed on");
    assert_eq!(reason(admin.ping(ping("two", "one")).await.unwrap_err()), Reason::NodeOffline);
    drop(stream);
    until("it is offline", async || !world.node("one").await.connected).await;
    assert_eq!(reason(admin.ping(ping("one", "two")).await.unwrap_err()), Reason::NodeOffline);
    for replica in [&first.replica, &world.running.replica] {
        assert_eq!(replica.watch.metrics.alarms(Reason::RowTampered), 0);
    }
    first.stop().await;
    world.stop().await;
}
