//! Tables on their way to data planes of this release and of the one before.

use crate::fake::agent::{DEADLINE, Host, terminate};
use crate::fake::plane::Plane;
use crate::support::peer;
use crate::*;

/// Waits until the data plane has a table with this many peers.
async fn until_peers(plane: &Plane, count: usize) -> v1::ForwardingTable {
    let mut tables = plane.table.clone();
    let fits = tables.wait_for(|table| table.as_ref().is_some_and(|table| table.peers.len() == count));
    tokio::time::timeout(DEADLINE, fits).await.expect("a table").unwrap().clone().unwrap()
}

fn kinds(plane: &Plane) -> Vec<&'static str> {
    plane.kinds.lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_table_is_whole_the_next_are_changes_and_revocations_go_by_themselves() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let plane = Plane::speaking(&host.run_dir(), "default", 2, &[]);
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 2, Duration::from_secs(300))));
    let agent = host.agent().await;
    until_peers(&plane, 2).await;
    assert_eq!(plane.hellos.lock().unwrap().len(), 1);
    let hello = plane.hellos.lock().unwrap()[0].clone();
    assert_eq!((hello.protocol_min, hello.protocol_max), (1, 2));
    control.say(update(&publish(control, HeadOrder::new(1, 2, 0), 5, Duration::from_secs(300))));
    let table = until_peers(&plane, 5).await;
    assert_eq!(table.addresses.len(), 2, "what did not change is still there");
    let sent = kinds(&plane);
    assert_eq!(sent.iter().filter(|kind| **kind == "whole").count(), 1, "{sent:?}");
    assert!(sent.contains(&"change") && !sent.contains(&"revoke"), "{sent:?}");

    let revoking = publish_with(control, HeadOrder::new(1, 3, 0), 5, Duration::from_secs(300), &[3]);
    control.say(update(&revoking));
    let table = until_peers(&plane, 4).await;
    assert_eq!(*plane.revoked.borrow(), [peer(3).node_id]);
    assert_eq!(table.revoked.len(), 1);
    let sent = kinds(&plane);
    let (revoke, last) =
        (sent.iter().position(|kind| *kind == "revoke"), sent.iter().rposition(|kind| *kind == "change"));
    assert!(revoke < last, "the revocation goes first: {sent:?}");
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_does_not_fit_is_followed_by_one_whole_table() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let plane = Plane::speaking(&host.run_dir(), "default", 2, &[]);
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    until_peers(&plane, 1).await;
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    plane.lose_table();
    control.say(update(&publish(control, HeadOrder::new(1, 2, 0), 3, Duration::from_secs(300))));
    until_peers(&plane, 3).await;
    assert_eq!(kinds(&plane).iter().filter(|kind| **kind == "whole").count(), 2);
    let (_, status) = host
        .status_when("applied", |status| {
            status["dataplane"]["table_version"] == status["dataplane"]["table_applied"]
        })
        .await;
    assert!(status["dataplane"]["table_refused"].is_null());
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_table_keeps_the_connection_and_revocations_pass_it() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let refusals = ["dataplane.table_too_large"; 3];
    let plane = Plane::speaking(&host.run_dir(), "default", 2, &refusals);
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 2, Duration::from_secs(300))));
    let agent = host.agent().await;
    host.status_when("refused", |status| status["dataplane"]["table_refused"] == "dataplane.table_too_large")
        .await;
    let revoking = publish_with(control, HeadOrder::new(1, 2, 0), 2, Duration::from_secs(300), &[2]);
    control.say(update(&revoking));
    let mut revoked = plane.revoked.clone();
    let told = revoked.wait_for(|nodes| *nodes == [peer(2).node_id]);
    tokio::time::timeout(DEADLINE, told).await.expect("the revocation").unwrap();
    assert!(plane.table.borrow().is_none(), "no table is in force");
    // 1, 2 and 4 s later it is tried again, on the same connection.
    until_peers(&plane, 1).await;
    assert_eq!(plane.hellos.lock().unwrap().len(), 1);
    let tables = kinds(&plane).iter().filter(|kind| **kind != "revoke").count();
    assert!((4..=6).contains(&tables), "{:?}", kinds(&plane));
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_of_the_release_before_gets_whole_tables_with_the_revocations_in_them() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 2, Duration::from_secs(300))));
    let agent = host.agent().await;
    until_peers(&plane, 2).await;
    let revoking = publish_with(control, HeadOrder::new(1, 2, 0), 2, Duration::from_secs(300), &[2]);
    control.say(update(&revoking));
    let table = until_peers(&plane, 1).await;
    assert_eq!(table.revoked.iter().map(|revoked| &revoked.node_id).collect::<Vec<_>>(), [&peer(2).node_id]);
    assert!(kinds(&plane).iter().all(|kind| *kind == "whole"));
    terminate(agent).await;
}

/// A data plane that comes up and ends every connection at once, as one did when a table was above its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_at_once_is_tried_less_and_less_often() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300))));
    let hellos = Plane::that_hangs_up(&host.run_dir(), "default");
    let begun = Clock::new().now().mono;
    let agent = host.agent().await;
    let mut seen = hellos.clone();
    let third = seen.wait_for(|hellos| *hellos >= 3);
    tokio::time::timeout(DEADLINE, third).await.expect("hellos").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Without pauses it would be about a hundred.
    let (count, passed) = (*hellos.borrow(), Clock::new().now().mono.since(begun));
    let least: Duration = [50, 100, 200, 400, 800, 1_600]
        .into_iter()
        .chain(std::iter::repeat(2_000))
        .take(count as usize - 1)
        .map(Duration::from_millis)
        .sum();
    assert!(least <= passed, "{count} connections in {passed:?}, with pauses of {least:?}");
    terminate(agent).await;
}
