//! A node whose replica brings nothing new, or says that it cannot work: it goes to another control URL.

use crate::fake::agent::{DEADLINE, Host, terminate};
use crate::fake::plane::Plane;
use crate::*;

/// Waits until there are as many hellos as these, and compares: at which port, and whether of a second stream.
async fn hellos(control: &Control, expected: &[(u16, bool)]) {
    let waiting = async {
        while control.state.lock().unwrap().hellos.len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let come = tokio::time::timeout(DEADLINE, waiting).await;
    let hellos = control.state.lock().unwrap().hellos.clone();
    assert!(come.is_ok() && hellos.starts_with(expected), "{expected:?} do not begin {hellos:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_stale_head_goes_where_a_newer_one_is_and_leaves_a_replica_that_is_not_ready() {
    let host = Host::new();
    let (running, mut messages) = Control::start(World::default()).await;
    let control = running.control.clone();
    let (_second, other) = control.also().await;
    join(&host, &control).await;
    let _plane = Plane::start(&host.run_dir());
    // Every replica says that its newest head is this one.
    let newest = v1::HeadOrder { incarnation: 1, version: 2, refresh: 0 };
    let hello = v1::ControlHello { protocol: 1, newest: Some(newest), ..Default::default() };
    let published = publish(&control, HeadOrder::new(1, 1, 0), 2, Duration::from_secs(8));
    let says = |more| vec![control_message::Body::Hello(hello), more];
    control.say(says(control_message::Body::Update(published.full())));
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(ack) if ack.version == 1))
        .await;
    let first = control.port;
    // While the head is fresh the node asks nobody; then it asks once, and its stream moves.
    hellos(&control, &[(first, false), (other, true), (other, false)]).await;

    // A stream that lasted, whose URL would be the next one again; but the replica there is not ready.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let going = v1::GoingAway { reconnect_after_ms: 0, not_ready: true };
    control.say(says(control_message::Body::GoingAway(going)));
    hellos(&control, &[(first, false), (other, true), (other, false), (first, false)]).await;
    assert!(terminate(agent).await.success());
}
