//! A running agent: the whole way, degraded mode, refusals, renewal, its socket.

use crate::fake::agent::{DEADLINE, Host, kill, terminate};
use crate::fake::plane::Plane;
use crate::support::peer;
use crate::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_runs_and_goes_on_without_its_control_plane() {
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = running.control.clone();
    let plane = Plane::start(&host.run_dir());
    control.say(update(&publish(&control, HeadOrder::new(1, 1, 0), 2, Duration::from_secs(300))));
    let agent = host.agent().await;
    let hello = heard(&mut messages, "hello", |body| matches!(body, node_message::Body::Hello(_))).await;
    let node_message::Body::Hello(hello) = hello else { unreachable!() };
    assert!(hello.newest_head.is_empty() && hello.leaf_hash.is_empty());
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(ack) if ack.version == 1))
        .await;
    let (code, status) = host
        .status_when("healthy", |status| status["state"] == "healthy" && status["links"][1].is_object())
        .await;
    assert_eq!(code, Some(0));
    assert_eq!(status["active"]["sequence"], 1);
    assert_eq!(status["peers"]["active"].as_array().unwrap().len(), 2);
    assert_eq!(status["control"]["connected"], true);
    let table = plane.table.borrow().clone().unwrap();
    assert_eq!(table.peers.len(), 2);
    assert_eq!(table.node_id, control.world.lock().unwrap().node.to_vec());

    // Ping, from here and asked for by the control plane.
    let ping = host.run(&["ping", "peer-1", "--count", "2", "--json"]).await.expect(0).json();
    assert_eq!(ping["schema"], "rap.ping.v1");
    assert_eq!(ping["overlay"]["samples"][1]["rtt_ms"], 1.5);
    assert_eq!((&ping["overlay"]["sent"], &ping["overlay"]["lost"]), (&2.into(), &0.into()));
    host.run(&["ping", "nobody"]).await.expect(3);
    control.say(vec![control_message::Body::Diagnostic(v1::DiagnosticRequest {
        diagnostic_id: vec![5; 16],
        body: Some(v1::diagnostic_request::Body::Ping(v1::PingRequest {
            node_id: peer(2).node_id,
            count: 3,
            interval_ms: 10,
        })),
    })]);
    let result = heard(&mut messages, "ping", |body| matches!(body, node_message::Body::Diagnostic(_))).await;
    let node_message::Body::Diagnostic(result) = result else { unreachable!() };
    assert_eq!((result.reason.as_str(), result.ping.unwrap().link.len()), ("", 3));

    // The control plane goes away: a warning at once, and the agent can be replaced all the same.
    drop(running);
    let lost = host.status_when("lost", |status| status["control"]["connected"] == false).await;
    assert_eq!(lost.0, Some(0), "lost contact alone is a warning");
    assert!(!lost.1["warnings"].as_array().unwrap().is_empty());
    kill(agent).await;
    host.run(&["status"]).await.expect(6);
    let verify = host.run(&["snapshot", "verify", "--json"]).await.expect(0).json();
    assert_eq!((&verify["source"], &verify["verified"]), (&"disk".into(), &true.into()));
    let before = plane.table.borrow().as_ref().unwrap().version;
    let agent = host.agent().await;
    let (_, status) = host.status_when("up from disk", |status| status["state"] == "healthy").await;
    assert_eq!(status["active"]["sequence"], 1, "cold boot without a control plane");
    assert_eq!(status["control"]["connected"], false);
    let mut tables = plane.table.clone();
    let newer = tables.wait_for(|table| table.as_ref().is_some_and(|table| table.version > before));
    tokio::time::timeout(DEADLINE, newer).await.expect("the data plane gets a newer table").unwrap();
    assert_eq!(plane.hellos.lock().unwrap().len(), 2, "the data plane was adopted");

    // It comes back with a newer version: the node hears it, and says what it had.
    control.say(update(&publish(&control, HeadOrder::new(1, 2, 0), 1, Duration::from_secs(300))));
    let running = control.restart().await;
    let hello = heard(&mut messages, "hello", |body| matches!(body, node_message::Body::Hello(_))).await;
    let node_message::Body::Hello(hello) = hello else { unreachable!() };
    assert_eq!(hello.leaf_hash.len(), 32);
    let (_, status) = host.status_when("version 2", |status| status["active"]["sequence"] == 2).await;
    assert_eq!(status["contact"], "connected");
    assert_eq!(control.state.lock().unwrap().certificates, 1, "one leaf serves until half its life");
    assert!(terminate(agent).await.success());
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_head_is_degraded_with_a_clock_and_a_new_one_heals() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_millis(1))));
    let agent = host.agent().await;
    let (code, status) = host
        .status_when("degraded", |status| {
            status["freshness"]["state"] == "degraded" && status["dataplane"]["up"] == true
        })
        .await;
    assert_eq!(code, Some(8));
    assert_eq!(status["degraded_reasons"], serde_json::json!(["snapshot.stale"]));
    assert!(status["freshness"]["degraded_for_ms"].as_i64().unwrap() > 0);
    let refused = status["freshness"]["refused"].to_string();
    assert!(refused.contains("lease") && refused.contains("route_expansion"), "{refused}");
    let text = host.run(&["status"]).await.expect(8).out();
    assert!(text.contains("DEGRADED") && text.contains("traffic goes on"), "{text}");
    let fresh = publish(control, HeadOrder::new(1, 2, 0), 1, Duration::from_secs(300));
    control.say(update(&fresh));
    let (code, _) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert_eq!(code, Some(0));
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_changes_nothing_and_is_counted() {
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    let good = publish(control, HeadOrder::new(1, 5, 0), 1, Duration::from_secs(300));
    control.say(update(&good));
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    let old = publish(control, HeadOrder::new(1, 4, 0), 2, Duration::from_secs(300));
    control.say(vec![control_message::Body::Update(old.full())]);
    let nack = heard(&mut messages, "nack", |body| matches!(body, node_message::Body::Nack(_))).await;
    let node_message::Body::Nack(nack) = nack else { unreachable!() };
    assert_eq!(nack.reason, "snapshot.rollback");
    let (_, status) = host.status().await;
    assert_eq!(status["active"]["sequence"], 5);
    assert_eq!(status["last_reject"]["reason"], "snapshot.rollback");
    assert_eq!(status["rejects"]["snapshot.rollback"], 1);
    // Equal version, another root: frozen, on disk too.
    let other = publish(control, HeadOrder::new(1, 5, 0), 3, Duration::from_secs(300));
    control.say(vec![control_message::Body::Update(other.full())]);
    heard(&mut messages, "nack", |body| matches!(body, node_message::Body::Nack(_))).await;
    let (code, status) = host.status().await;
    assert_eq!((code, status["active"]["sequence"].as_u64()), (Some(8), Some(5)));
    assert_eq!(status["degraded_reasons"], serde_json::json!(["snapshot.frozen"]));
    let evidence = host.data().join("default/evidence-1-5-0.json");
    assert!(std::fs::read_to_string(evidence).unwrap().contains("rap.evidence.v1"));
    kill(agent).await;
    control.say(vec![]);
    let agent = host.agent().await;
    let (code, status) = host.status_when("up", |status| status["dataplane"]["up"] == true).await;
    assert_eq!((code, &status["degraded_reasons"]), (Some(8), &serde_json::json!(["snapshot.frozen"])));
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_is_renewed_before_it_ends_and_the_data_plane_gets_it() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let plane = Plane::start(&host.run_dir());
    // Half of its life is over two seconds after it was issued.
    control.state.lock().unwrap().leaf_life_s = 9;
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    let mut tables = plane.table.clone();
    let leaf = |table: &Option<v1::ForwardingTable>| {
        table.as_ref().and_then(|table| table.identity.clone()).map(|identity| identity.certificate)
    };
    let first = tokio::time::timeout(DEADLINE, tables.wait_for(|table| table.is_some())).await;
    let first = leaf(&first.expect("a table").unwrap());
    let renewed = tables.wait_for(|table| leaf(table) != first);
    let renewed = leaf(&tokio::time::timeout(DEADLINE, renewed).await.expect("renewed").unwrap()).unwrap();
    assert!(control.state.lock().unwrap().certificates >= 2);
    let (_, status) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert_eq!(status["certificate"]["state"], "valid");
    assert!(!renewed.is_empty());
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_was_off_past_its_leaf_and_its_snapshot_renews_by_its_key_and_is_back() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let plane = Plane::start(&host.run_dir());
    control.state.lock().unwrap().leaf_life_s = 3;
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(2))));
    let agent = host.agent().await;
    // Leaf and snapshot may have ended already on a slow host.
    host.status_when("in use", |status| status["active"]["sequence"] == 1).await;
    terminate(agent).await;
    let issued = control.state.lock().unwrap().certificates;
    // Off until the leaf has ended, by the same clock that judges it.
    let ended = now().plus(Duration::from_secs(4));
    while now() < ended {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    control.state.lock().unwrap().leaf_life_s = 86_400;
    control.say(update(&publish(control, HeadOrder::new(1, 2, 0), 1, Duration::from_secs(300))));
    let before = plane.table.borrow().clone().and_then(|table| table.identity).map(|leaf| leaf.certificate);
    let agent = host.agent().await;
    let (_, status) = host
        .status_when("back", |status| status["state"] == "healthy" && status["active"]["sequence"] == 2)
        .await;
    assert_eq!(status["certificate"]["state"], "valid");
    assert!(control.state.lock().unwrap().certificates > issued);
    let mut tables = plane.table.clone();
    let renewed = tables.wait_for(|table| {
        let leaf = table.as_ref().and_then(|table| table.identity.as_ref()).map(|leaf| &leaf.certificate);
        leaf.is_some() && leaf != before.as_ref()
    });
    tokio::time::timeout(DEADLINE, renewed).await.expect("links get the new leaf").unwrap();
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_cache_is_fetched_again_and_the_floor_still_holds() {
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, 5, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    kill(agent).await;
    assert!(damage(&host.data().join("default/cache")) > 0);
    // Without the cache an older version would look new; the floor is elsewhere.
    control.say(update(&publish(control, HeadOrder::new(1, 4, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    let nack = heard(&mut messages, "nack", |body| matches!(body, node_message::Body::Nack(_))).await;
    let node_message::Body::Nack(nack) = nack else { unreachable!() };
    assert_eq!(nack.reason, "snapshot.rollback");
    let (code, status) = host.status().await;
    assert_eq!((code, &status["active"]), (Some(8), &serde_json::Value::Null));
    control.say(update(&publish(control, HeadOrder::new(1, 6, 0), 1, Duration::from_secs(300))));
    let (_, status) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert_eq!(status["active"]["sequence"], 6);
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_is_private_and_one_agent_serves_it() {
    let host = Host::new();
    let agent = host.agent().await;
    let socket = std::fs::metadata(host.run_dir().join("agent.sock")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&socket) & 0o777, 0o600);
    let second = host.run(&["run"]).await.expect(5);
    assert!(second.err().contains("state.locked"), "{}", second.err());
    // A socket that a killed agent left is taken over.
    kill(agent).await;
    assert!(host.run_dir().join("agent.sock").exists());
    terminate(host.agent().await).await;
    assert!(!host.run_dir().join("agent.sock").exists());
}

/// Alters every byte of every file below `folder`; how many files.
fn damage(folder: &std::path::Path) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    damaged
}

/// Most that an agent that does not hurry did since then: it pauses for half a second and draws each pause.
fn four_a_second(since: rap_types::Mono) -> u32 {
    let passed = Clock::new().now().mono.since(since).as_secs_f64();
    (passed * 4.0).ceil() as u32
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_control_plane_neither_stops_nor_hurries_the_agent() {
    use control_message::Body;
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, 5, 0), 1, Duration::from_secs(300))));
    let told = Clock::new().now().mono;
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    let before = host.status().await.1;
    let junk = |count: usize| vec![vec![7_u8; 200]; count];
    let ping = v1::PingRequest { node_id: vec![9; 16], count: u32::MAX, interval_ms: u32::MAX };
    let entry = v1::DirectoryEntry {
        node_id: vec![9; 5],
        link_hints: vec!["999.9.9.9:99999".into(); 50],
        observed_at_ms: i64::MIN,
        ..Default::default()
    };
    let head = v1::HeadUpdate { head: vec![7; 100_000], proof: None };
    let shown = v1::AuditWitness {
        log_key_records: junk(2_000),
        checkpoint: vec![0xff; 100_000],
        consistency: junk(2_000),
    };
    control.say(vec![
        Body::Hello(v1::ControlHello {
            protocol: 99,
            server_time_ms: i64::MIN,
            report_interval_ms: 1,
            ..Default::default()
        }),
        Body::Authority(v1::AuthorityRecords { records: Vec::new() }),
        Body::Authority(v1::AuthorityRecords { records: junk(5_000) }),
        Body::Checkpoint(shown),
        Body::Checkpoint(v1::AuditWitness::default()),
        Body::BreakGlassAck(v1::BreakGlassAck { digest: vec![1; 50_000], reason: "\u{1b}".repeat(9_000) }),
        Body::Diagnostic(v1::DiagnosticRequest {
            diagnostic_id: vec![1; 100_000],
            body: Some(v1::diagnostic_request::Body::Ping(ping)),
        }),
        Body::Diagnostic(v1::DiagnosticRequest::default()),
        Body::Directory(v1::DirectoryUpdate { entries: vec![entry; 1_000] }),
        Body::Head(head),
        Body::Update(v1::SnapshotUpdate::default()),
        Body::Update(v1::SnapshotUpdate { chunks: junk(5_000), full: true, ..Default::default() }),
    ]);
    heard(&mut messages, "nack", |body| matches!(body, node_message::Body::Nack(_))).await;
    let mut reports = 0;
    let counting = async {
        while let Some(message) = messages.recv().await {
            reports += u32::from(matches!(message.body, Some(node_message::Body::Report(_))));
        }
    };
    let _over = tokio::time::timeout(Duration::from_secs(3), counting).await;
    assert!(reports <= four_a_second(told), "{reports} reports");
    // Sent away again and again, at once: the node takes its time to come back.
    let streams = || control.state.lock().unwrap().streams;
    let (before_it, sent_away) = (streams(), Clock::new().now().mono);
    control.say(vec![Body::GoingAway(v1::GoingAway::default())]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let back = async {
        while streams() == before_it {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, back).await.expect("it comes back");
    let again = streams() - before_it;
    assert!(again <= four_a_second(sent_away), "{again} streams");
    let after = host.status().await.1;
    for field in
        ["node_id", "cluster", "authority_fingerprint", "authority_sequence", "active", "break_glass"]
    {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert!(!host.log_text().contains("panicked"), "{}", host.log_text());
    assert!(terminate(agent).await.success());
}
