//! What nodes observe, as operators see it.

use rap_wire::v1;
use v1::node_message::Body as Say;

use crate::host::{hello, member};
use crate::sync::{Kept, acknowledge};
use crate::world::World;

/// In memory, with the stream: storage of observations is another matter.
#[tokio::test]
async fn what_a_node_observes_is_shown_to_operators_while_its_stream_is_here() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let mut stream = host.stream(&world, &slot, hello()).await;
    let snapshot = Kept::new(&bootstrap).apply(&stream.update().await);
    let link = v1::LinkReport {
        peer: vec![9; 16],
        state: "established".into(),
        rtt_us: 850,
        lane: v1::LinkLane::A as i32,
        samples: 15,
        ..Default::default()
    };
    let head = v1::PeerHeadReport { peer: vec![9; 16], incarnation: 1, version: 4, refresh: 2 };
    let exit = v1::DataplaneExit {
        at_ms: 5,
        status: "signal: 9 (SIGKILL)".into(),
        reason: "dataplane.unavailable".into(),
        text: "no device".into(),
    };
    let report = v1::NodeReport {
        dataplane_up: 1,
        links: vec![link.clone()],
        peer_heads: vec![head.clone()],
        dataplane_exit: Some(exit.clone()),
        ..Default::default()
    };
    stream.say(Say::Report(report)).await;
    // Messages of a stream are read in order: once this is seen, so was the report.
    acknowledge(&stream, &snapshot).await;
    let node = loop {
        let node = world.node(&bootstrap.node.to_string()).await;
        if node.acked_version == snapshot.head().order.version.0 {
            break node;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((node.links, node.peer_heads, node.dataplane_exit), (vec![link], vec![head], Some(exit)));
    drop(stream);
    while world.node(&bootstrap.node.to_string()).await.connected {
        tokio::task::yield_now().await;
    }
    let node = world.node(&bootstrap.node.to_string()).await;
    assert_eq!((node.links.len(), node.dataplane_exit), (0, None));
    world.stop().await;
}
