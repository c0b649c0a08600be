//! Nodes that leave or were thrown out.

use crate::fake::agent::{Host, kill, terminate};
use crate::fake::plane::Plane;
use crate::*;
use rap_types::Reason;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_agent_leaves_and_nothing_of_the_membership_stays() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    let left = host.run(&["leave", "--json"]).await.expect(0).json();
    assert_eq!((&left["schema"], &left["told"]), (&"rap.leave.v1".into(), &true.into()));
    assert_eq!(control.state.lock().unwrap().leaves, 1);
    assert_eq!(names(&host), Vec::<String>::new());
    assert!(!host.run_dir().join("default").exists(), "sockets and locks of the data plane go, too");
    let list = host.run(&["memberships", "--json"]).await.expect(0).json();
    assert_eq!(list["memberships"], serde_json::json!([]));
    host.run(&["leave"]).await.expect(3);
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_agent_it_leaves_too_and_an_unreachable_control_plane_keeps_everything() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = running.control.clone();
    drop(running);
    let refused = host.run(&["leave"]).await.expect(6);
    assert!(refused.err().contains("nothing was removed"), "{}", refused.err());
    assert_eq!(names(&host).len(), 1);
    let running = control.restart().await;
    host.run(&["leave"]).await.expect(0);
    assert_eq!(control.state.lock().unwrap().leaves, 1);
    assert_eq!(names(&host), Vec::<String>::new());
    host.run(&["leave"]).await.expect(3);
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn force_leaves_alone_and_says_so() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    drop(running);
    let done = host.run(&["leave", "--force"]).await.expect(0);
    assert!(done.out().contains("NOT told"), "{}", done.out());
    assert_eq!(names(&host), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_says_so_and_stops_asking() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = running.control.clone();
    control.state.lock().unwrap().leaf_life_s = 4;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(&control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    control.state.lock().unwrap().refuse = Some(Reason::NodeRevoked);
    let (code, status) = host
        .status_when("revoked", |status| status["degraded_reasons"].to_string().contains("node.revoked"))
        .await;
    assert_eq!(code, Some(8));
    assert_eq!(status["certificate"]["last_error"]["reason"], "node.revoked");
    let asked = control.state.lock().unwrap().refused;
    host.status_when("stopped links", |status| {
        status["degraded_reasons"].to_string().contains("certificate.invalid")
    })
    .await;
    assert_eq!(control.state.lock().unwrap().refused, asked, "the next try is minutes away");
    // Leaving needs nobody's leave any more.
    host.run(&["leave"]).await.expect(0);
    assert_eq!(names(&host), Vec::<String>::new());
    kill(agent).await;
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_that_is_a_member_again_is_healthy_again() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = running.control.clone();
    control.state.lock().unwrap().leaf_life_s = 4;
    let _plane = Plane::start(&host.run_dir());
    let snapshot = |version| publish(&control, HeadOrder::new(1, version, 0), 1, Duration::from_secs(300));
    control.say(update(&snapshot(1)));
    let agent = host.agent().await;
    host.status_when("in use", |status| status["active"]["sequence"] == 1).await;
    control.state.lock().unwrap().refuse = Some(Reason::NodeRevoked);
    let revoked =
        |status: &serde_json::Value| status["degraded_reasons"].to_string().contains("node.revoked");
    host.status_when("revoked", revoked).await;
    // As after a restore that has the node: the next request is minutes away.
    {
        let mut state = control.state.lock().unwrap();
        (state.refuse, state.leaf_life_s) = (None, 86_400);
    }
    control.say(update(&snapshot(2)));
    let (_, status) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert_eq!(status["certificate"]["last_error"], serde_json::Value::Null);
    assert!(terminate(agent).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_is_refused_for_stands_beside_its_stale_snapshot_with_the_way_back() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = running.control.clone();
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(&control, HeadOrder::new(1, 1, 0), 1, Duration::from_millis(1))));
    let agent = host.agent().await;
    host.status_when("in use", |status| status["active"]["sequence"] == 1).await;
    control.state.lock().unwrap().refuse_sync = Some(Reason::AuthorityMismatch);
    control.say(vec![control_message::Body::GoingAway(v1::GoingAway::default())]);
    let both = |status: &serde_json::Value| {
        let reasons = status["degraded_reasons"].to_string();
        reasons.contains("snapshot.stale") && reasons.contains("authority.mismatch")
    };
    let (code, status) = host.status_when("stale and refused", both).await;
    assert_eq!((code, &status["control"]["refusal"]["reason"]), (Some(8), &"authority.mismatch".into()));
    let said = host.run(&["status"]).await.expect(8).out();
    assert!(said.contains("refused this node") && said.contains("join --rejoin --token-file"), "{said}");
    control.state.lock().unwrap().refuse_sync = None;
    control.say(update(&publish(&control, HeadOrder::new(1, 2, 0), 1, Duration::from_secs(300))));
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert!(terminate(agent).await.success());
}

/// Directories in the data directory.
fn names(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.data()).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
