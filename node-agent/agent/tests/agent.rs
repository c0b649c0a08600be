//! The agent's program from outside: join, run, status, snapshot, ping, restart, cold boot.

mod fake;
#[path = "../../trust/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use fake::agent::{DEADLINE, Host, contains, kill, terminate};
use fake::control::{Control, Running};
use fake::plane::Plane;
use rap_contract::{JoinTokenText, PublicKeyFile, Signer, join_secret_hash, sign};
use rap_runtime::Clock;
use rap_types::{HeadOrder, Wall};
use rap_wire::v1;
use support::{Published, SECRET, World, peer};
use tokio::sync::mpsc;
use v1::{control_message, node_message};

fn now() -> Wall {
    Clock::new().now().wall
}

/// The world's token, valid now.
fn token(control: &Control) -> JoinTokenText {
    let world = control.world.lock().unwrap();
    let mut token = world.join_token();
    let header = token.header.as_mut().unwrap();
    (header.issued_at_ms, header.expires_at_ms) = (now().0 - 1_000, now().0 + 3_600_000);
    token.secret_hash = join_secret_hash(&SECRET).to_vec();
    JoinTokenText::new(sign(&token, &[&world.authority]), SECRET)
}

/// Takes the keys that the node made for itself into the world, so that snapshots are for it.
fn adopt_keys(control: &Control) {
    let state = control.state.lock().unwrap();
    let join = state.joins.last().unwrap();
    let mut world = control.world.lock().unwrap();
    world.wireguard_key = join.wireguard_public_key.clone().try_into().unwrap();
}

/// A version for the node that joined. Its identity key is known to it alone.
fn publish(control: &Control, order: HeadOrder, peers: u8, fresh_for: Duration) -> Published {
    let world = control.world.lock().unwrap();
    let node_key = control.state.lock().unwrap().joins.last().unwrap().node_public_key.clone();
    let mut contents = world.contents(peers);
    let mut assignment = world.assignment();
    assignment.node_key_sha256 = rap_types::KeyId::of(&node_key).to_vec();
    contents.put("assignment", Some(v1::chunk::Body::Assignment(assignment)));
    let fresh_until = now().plus(fresh_for).0;
    world.publish_as(order, &contents, now(), |head| head.fresh_until_ms = fresh_until)
}

fn update(published: &Published) -> Vec<control_message::Body> {
    let hello = v1::ControlHello { protocol: 1, server_time_ms: now().0, report_interval_ms: 1_000 };
    vec![control_message::Body::Hello(hello), control_message::Body::Update(published.full())]
}

async fn joined(host: &Host) -> (Running, mpsc::Receiver<v1::NodeMessage>) {
    let world = World { dev: host.dev, ..World::default() };
    let (running, heard) = Control::start(world).await;
    running.control.state.lock().unwrap().approved = true;
    let file = host.file("token", token(&running.control).text().as_bytes());
    host.run(&["join", "--token-file", file.to_str().unwrap()]).await.expect(0);
    adopt_keys(&running.control);
    (running, heard)
}

async fn heard(
    messages: &mut mpsc::Receiver<v1::NodeMessage>,
    what: &str,
    fits: impl Fn(&node_message::Body) -> bool,
) -> node_message::Body {
    let waiting = async {
        loop {
            let body = messages.recv().await.expect("the control plane runs").body.unwrap();
            if fits(&body) {
                return body;
            }
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never heard {what}"))
}

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
    assert_eq!(ping["overlay"][1]["rtt_ms"], 1.5);
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
async fn status_has_every_promised_field() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let _plane = Plane::start(&host.run_dir());
    running.control.say(update(&publish(
        &running.control,
        HeadOrder::new(1, 1, 0),
        1,
        Duration::from_secs(300),
    )));
    let agent = host.agent().await;
    let (_, status) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert_eq!(status["schema"], "rap.status.v1");
    for field in [
        "state",
        "cluster",
        "node_id",
        "node_name",
        "membership",
        "installation",
        "authority_fingerprint",
        "agent_version",
        "active",
        "freshness",
        "degraded",
        "degraded_reasons",
        "last_reject",
        "rejects",
        "pinned_key_ids",
        "pinned_keys",
        "leases",
        "peers",
        "links",
        "routes",
        "update",
        "update_slot",
        "control",
        "certificate",
        "dataplane",
        "warnings",
        "contact",
        "dev",
        "workloads",
    ] {
        assert!(status.get(field).is_some(), "{field}: {status:#}");
    }
    for field in ["incarnation", "sequence", "refresh", "manifest_digest"] {
        assert!(status["active"].get(field).is_some(), "active.{field}");
    }
    for field in ["state", "fresh_until_ms", "degraded_until_ms", "allowed", "refused"] {
        assert!(status["freshness"].get(field).is_some(), "freshness.{field}");
    }
    for tier in ["active", "warm", "cold"] {
        assert!(status["peers"][tier].is_array(), "peers.{tier}");
    }
    assert_eq!(status["leases"], serde_json::json!([]));
    let route = &status["routes"][0];
    assert_eq!((&route["class"], &route["hops"]), (&"direct".into(), &1.into()));
    assert!(route["generation"].is_u64());
    let text = host.run(&["status"]).await.expect(0).out();
    assert!(text.contains("healthy") && text.contains("fresh, ends in"), "{text}");
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_join_resumes_and_asks_nothing_twice() {
    let host = Host::new();
    let (running, _messages) = Control::start(World::default()).await;
    let control = &running.control;
    let file = host.file("token", token(control).text().as_bytes());
    let args = ["join", "--token-file", file.to_str().unwrap()];
    let child = host.command(&args).spawn().unwrap();
    let polled = async {
        while control.state.lock().unwrap().polls == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polled).await.expect("it polls");
    kill(child).await;
    let identity = std::fs::read_to_string(host.data().join("default/identity.json")).unwrap();
    assert!(identity.contains("pending_join_request_id"), "{identity}");
    std::fs::remove_file(file).unwrap();
    control.state.lock().unwrap().approved = true;
    let done = host.run(&["join", "--json"]).await.expect(0);
    assert!(done.err().contains("resuming"), "{}", done.err());
    assert_eq!(done.json()["node_id"], control.world.lock().unwrap().node.to_string());
    let state = control.state.lock().unwrap();
    assert_eq!(state.joins.len(), 1, "the join was sent once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_agent_loads_a_membership_that_is_joined_later() {
    let host = Host::new();
    let _plane = Plane::start(&host.run_dir());
    let agent = host.agent().await;
    host.run(&["status"]).await.expect(3);
    let (running, _messages) = Control::start(World::default()).await;
    running.control.state.lock().unwrap().approved = true;
    let file = host.file("token", token(&running.control).text().as_bytes());
    let joined = host.run(&["join", "--json", "--token-file", file.to_str().unwrap()]).await.expect(0);
    assert_eq!(joined.json()["agent_loaded"], true);
    adopt_keys(&running.control);
    running.control.say(update(&publish(
        &running.control,
        HeadOrder::new(1, 1, 0),
        1,
        Duration::from_secs(300),
    )));
    let (code, _) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert_eq!(code, Some(0));
    // Joined already: refused, and the running node does not notice.
    host.run(&["join", "--token-file", file.to_str().unwrap()]).await.expect(5);
    assert_eq!(host.status().await.0, Some(0));
    terminate(agent).await;
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
async fn snapshot_commands_work_with_and_without_an_agent_and_find_damage() {
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 2, Duration::from_secs(300))));
    host.run(&["snapshot", "show"]).await.expect(3);
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    let live = host.run(&["snapshot", "show", "--json"]).await.expect(0).json();
    assert_eq!((&live["source"], live["peers"].as_array().unwrap().len()), (&"running agent".into(), 2));
    let root = control.world.lock().unwrap().root.public();
    let root = host.file("root.pub", PublicKeyFile::of("product-root", root).text().as_bytes());
    let chain = ["snapshot", "verify", "--json", "--root", root.to_str().unwrap()];
    assert_eq!(host.run(&chain).await.expect(0).json()["product_root_checked"], true);
    let other = PublicKeyFile::of("product-root", Signer::from_seed(&[88; 32]).public()).text();
    let other = host.file("other.pub", other.as_bytes());
    let refused = host.run(&["snapshot", "verify", "--root", other.to_str().unwrap()]).await.expect(7);
    assert!(refused.err().contains("key.unknown"), "{}", refused.err());
    let export = host.dir.path().join("snapshot.rap");
    host.run(&["snapshot", "export", export.to_str().unwrap()]).await.expect(0);
    terminate(agent).await;
    let offline = host.run(&["snapshot", "show", "--json"]).await.expect(0).json();
    assert_eq!((&offline["source"], &offline["leaf"]), (&"disk".into(), &live["leaf"]));
    host.run(&chain).await.expect(0);
    let again = host.dir.path().join("again.rap");
    host.run(&["snapshot", "export", again.to_str().unwrap()]).await.expect(0);
    assert_eq!(std::fs::read(&export).unwrap(), std::fs::read(&again).unwrap());
    let check = host.run(&["check", "--json"]).await;
    let text = check.out();
    assert!(text.contains("chain and snapshot 1.1.0 verify"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tokens_pins_and_modes_join_nothing() {
    let host = Host::new();
    let (running, _messages) = Control::start(World::default()).await;
    let good = token(&running.control);
    let file = host.file("token", good.text().as_bytes());
    let path = file.to_str().unwrap();
    let refused = async |args: &[&str], code: i32, reason: &str| {
        let done = host.run(args).await.expect(code);
        assert!(done.err().contains(reason), "{reason}: {}", done.err());
        assert!(!contains(done.err().as_bytes(), good.text().as_bytes()));
    };
    refused(&["join"], 2, "secret.missing").await;
    refused(&["join", "rapj1.x"], 7, "token.malformed").await;
    let other = Signer::from_seed(&[1; 32]).id().to_string();
    refused(&["join", "--token-file", path, "--cluster-authority-fingerprint", &other], 7, "pin.mismatch")
        .await;
    let altered = good.text().replacen("rapj1.C", "rapj1.D", 1);
    let altered = host.file("altered", altered.as_bytes());
    refused(&["join", "--token-file", altered.to_str().unwrap()], 7, "envelope.malformed").await;
    let open = host.file("open", good.text().as_bytes());
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    refused(&["join", "--token-file", open.to_str().unwrap()], 2, "secret.exposed").await;
    assert!(running.control.state.lock().unwrap().joins.is_empty(), "nothing was asked");

    // A server that is not the pinned one: nothing is told to it.
    let (dev, _messages) = Control::start(World { dev: true, ..World::default() }).await;
    let dev_token = host.file("dev", token(&dev.control).text().as_bytes());
    refused(&["join", "--token-file", dev_token.to_str().unwrap()], 7, "authority.dev_refused").await;
    let stolen = {
        let control = &running.control;
        let mut world = control.world.lock().unwrap();
        let (urls, pin) = (vec![format!("https://127.0.0.1:{}", dev.control.port)], world.server_pin);
        let honest = std::mem::replace(&mut world.control_urls, urls);
        assert_eq!(pin, control.tls_ca.pin());
        drop(world);
        let text = token(control);
        control.world.lock().unwrap().control_urls = honest;
        text
    };
    let stolen = host.file("stolen", stolen.text().as_bytes());
    refused(&["join", "--token-file", stolen.to_str().unwrap()], 7, "pin.mismatch").await;
    assert!(dev.control.state.lock().unwrap().joins.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_development_membership_runs_only_in_development_mode_and_secrets_stay_inside() {
    let mut host = Host::new();
    host.dev = true;
    let (running, mut messages) = joined(&host).await;
    let _plane = Plane::start(&host.run_dir());
    running.control.say(update(&publish(
        &running.control,
        HeadOrder::new(1, 1, 0),
        1,
        Duration::from_secs(300),
    )));
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    let (_, status) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert_eq!(status["dev"], true);
    terminate(agent).await;
    host.dev = false;
    let refused = host.run(&["snapshot", "show"]).await.expect(7);
    assert!(refused.err().contains("authority.dev_refused"), "{}", refused.err());
    let agent = host.agent().await;
    host.run(&["status"]).await.expect(3);
    terminate(agent).await;
    assert!(host.log_text().contains("authority.dev_refused"));

    let folder = host.data().join("default");
    let credentials = std::fs::read_to_string(folder.join("credentials-2.json")).unwrap();
    let credentials: serde_json::Value = serde_json::from_str(&credentials).unwrap();
    let log = host.outputs();
    for key in ["node_key", "wireguard_key"] {
        let secret = credentials["body"][key].as_str().unwrap();
        assert!(!contains(&log, secret.as_bytes()), "{key} in the log");
    }
    assert!(credentials["body"]["join_secret"].is_null(), "the token's secret is gone after approval");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}
