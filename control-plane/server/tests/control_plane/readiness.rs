//! A replica whose database takes no new connections: it is not ready, and its nodes go where they are served.

use std::path::Path;
use std::time::Duration;

use rap_control_plane::database::opened::OpenDatabase;
use rap_control_plane::start;
use rap_control_plane::start::Running;
use rap_rpc::v1::node_sync_client::NodeSyncClient;
use rap_types::Reason;
use rap_wire::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use v1::control_message::Body;

use crate::host::{Host, NodeStream, hello};
use crate::world::{World, reason};

/// A replica that reaches the database through `link`, and knows the replica at `other`.
async fn replica_through(world: &World, link: &Path, other: String) -> Running {
    let mut config = world.running.replica.config.as_ref().clone();
    config.control_urls = vec![other];
    config.metrics = Some("127.0.0.1:0".parse().unwrap());
    config.pushing.reconnect_window = Duration::from_millis(200);
    let target = world.database.as_ref().unwrap().through(link);
    start::start(config, OpenDatabase { target, embedded: None }).await.unwrap()
}

async fn get(running: &Running, page: &str) -> String {
    let mut stream = TcpStream::connect(running.metrics.unwrap()).await.unwrap();
    stream.write_all(format!("GET {page} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
    text
}

/// The next message that ends a stream; `None` if none comes in time.
async fn sent_away(stream: &mut NodeStream, within: Duration) -> Option<v1::GoingAway> {
    let waiting = async {
        loop {
            match stream.receive.message().await.unwrap().and_then(|message| message.body) {
                Some(Body::GoingAway(going)) => return going,
                Some(_) => {}
                None => panic!("the stream ended without a word"),
            }
        }
    };
    tokio::time::timeout(within, waiting).await.ok()
}

#[tokio::test]
async fn a_replica_that_cannot_write_sends_its_nodes_to_one_that_can_and_else_keeps_them() {
    let mut world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let directory = tempfile::tempdir().unwrap();
    let links = ["led", "alone"].map(|name| directory.path().join(name));
    // One replica knows one that is ready; the other one knows that one, which will not be ready.
    let led = replica_through(&world, &links[0], format!("https://{}", world.address())).await;
    let alone = replica_through(&world, &links[1], format!("https://{}", led.address)).await;
    let mut streams = Vec::new();
    let mut members = Vec::new();
    let ready = world.running.address;
    for (name, running) in [("one", led), ("two", alone)] {
        let host = Host::new(&token, name);
        let bootstrap = host.enrol(&world).await;
        let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
        let first = world.through(running);
        let mut stream = host.stream(&world, &slot, hello()).await;
        stream.update().await;
        streams.push(stream);
        members.push((host, slot, world.through(first)));
    }
    assert!(get(&members[0].2, "/readyz").await.starts_with("HTTP/1.1 200"));
    let begun = tokio::time::Instant::now();
    std::fs::remove_file(&links[0]).unwrap();
    let going = sent_away(&mut streams[0], Duration::from_secs(30)).await.expect("another replica is ready");
    assert!(going.not_ready && going.reconnect_after_ms == 0, "{going:?}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(5), "one heartbeat that fails alone changes nothing: {took:?}");

    let (host, slot, led) = members.remove(0);
    let page = get(&led, "/readyz").await;
    assert!(page.starts_with("HTTP/1.1 503") && page.ends_with("store.unavailable\n"), "{page}");
    assert!(get(&led, "/metrics").await.contains("\nrap_control_database_up 0\n"));
    let first = world.through(led);
    // Connections that were open before still answer.
    let status = world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap().into_inner();
    assert_eq!(status.database, "not ready (store.unavailable)");
    let channel = host.node_channel(&world, &slot).await;
    let refused = NodeSyncClient::new(channel).sync(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(reason(refused), Reason::ServerUnavailable);
    let led = world.through(first);
    assert_eq!(world.address(), ready);
    let mut stream = host.stream(&world, &slot, hello()).await;
    stream.update().await;

    // The other replica asks as soon as it is not ready, and again; the only one that it knows is not ready either.
    std::fs::remove_file(&links[1]).unwrap();
    let unready = async {
        while !get(&members[0].2, "/readyz").await.starts_with("HTTP/1.1 503") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), unready).await.expect("not ready");
    assert_eq!(sent_away(&mut streams[1], Duration::from_secs(8)).await, None);
    let (.., alone) = members.remove(0);
    led.stop().await;
    alone.stop().await;
    world.stop().await;
}
