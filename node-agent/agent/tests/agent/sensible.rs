//! What a start finds in the directory of a membership: another node's files, files that others could reach, files that
//! are gone, and a wall clock that went back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rap_runtime::clock::WALL_OFFSET_FILE;
use rap_runtime::tls::{NodeCertificate, NodeIdentity};
use serde_json::Value;

use crate::fake::agent::{Host, kill, terminate};
use crate::fake::plane::Plane;
use crate::support::peer;
use crate::*;

/// A node that runs under its first version.
async fn running(host: &Host) -> (Running, mpsc::Receiver<v1::NodeMessage>, Plane) {
    let (running, messages) = joined(host).await;
    let plane = Plane::start(&host.run_dir());
    running.control.say(update(&publish(
        &running.control,
        HeadOrder::new(1, 1, 0),
        1,
        Duration::from_secs(300),
    )));
    (running, messages, plane)
}

fn file(host: &Host, name: &str) -> PathBuf {
    host.data().join("default").join(name)
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn both(host: &Host, name: &str) -> [PathBuf; 2] {
    [file(host, name), file(host, &format!("{name}.twin"))]
}

/// The certificate on disk.
fn leaf(host: &Host) -> Vec<u8> {
    use base64::Engine as _;
    let text = std::fs::read_to_string(file(host, "certificate.json")).unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    let text = body["body"]["certificate"].as_str().unwrap();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn warned(status: &Value, reason: &str) -> bool {
    status["warnings"].as_array().is_some_and(|all| all.iter().any(|warning| warning["reason"] == reason))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_node_is_not_used_and_a_new_one_is_asked_for() {
    let (host, other) = (Host::new(), Host::new());
    let (running, _messages, _plane) = running(&host).await;
    let world = World { node: rap_types::NodeId::from_bytes([9; 16]), ..World::default() };
    let (foreign, _heard) = Control::start(world).await;
    foreign.control.state.lock().unwrap().approved = true;
    let token = other.file("token", token(&foreign.control).text().as_bytes());
    other.run(&["join", "--token-file", token.to_str().unwrap()]).await.expect(0);
    for host in [&host, &other] {
        let agent = host.agent().await;
        host.status_when("a certificate", |status| status["certificate"]["state"] == "valid").await;
        terminate(agent).await;
    }
    let own = leaf(&host);
    for (from, to) in both(&other, "certificate.json").iter().zip(both(&host, "certificate.json")) {
        std::fs::copy(from, to).unwrap();
    }
    assert_ne!(leaf(&host), own);
    let agent = host.agent().await;
    let fits = |status: &Value| status["state"] == "healthy" && status["control"]["connected"] == true;
    let (_, status) = host.status_when("healthy again", fits).await;
    assert!(warned(&status, "state.foreign"), "{status:#}");
    assert_eq!(status["alarms"]["state.foreign"], 1);
    let NodeIdentity { node, .. } = NodeCertificate::from_der(&leaf(&host)).unwrap().identity;
    assert_eq!(node, running.control.world.lock().unwrap().node);
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_others_could_reach_are_closed_and_said_and_an_open_identity_key_stops() {
    let host = Host::new();
    let (running, _messages, _plane) = running(&host).await;
    let agent = host.agent().await;
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    terminate(agent).await;
    let issued = running.control.state.lock().unwrap().certificates;
    chmod(&file(&host, "certificate.json"), 0o666);
    chmod(&file(&host, "floors.json"), 0o644);
    let agent = host.agent().await;
    let fits = |status: &Value| status["state"] == "healthy" && status["control"]["connected"] == true;
    let (_, status) = host.status_when("healthy with another certificate", fits).await;
    assert_eq!(running.control.state.lock().unwrap().certificates, issued + 1);
    let said = status["warnings"].to_string();
    assert!(said.contains("certificate.json") && said.contains("floors.json"), "{said}");
    for name in ["certificate.json", "floors.json"] {
        let mode = std::fs::metadata(file(&host, name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    terminate(agent).await;

    let stopped = async |reason: &str| {
        let agent = host.agent().await;
        let (_, status) = host.status_when(reason, |status| status["state"] == "stopped").await;
        assert_eq!(status["degraded_reasons"], serde_json::json!([reason]), "{status:#}");
        kill(agent).await;
        status["text"].to_string()
    };
    let names = std::fs::read_dir(host.data().join("default")).unwrap().flatten();
    let key =
        names.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("credentials-")).unwrap();
    chmod(&key, 0o640);
    stopped("secret.exposed").await;
    chmod(&key, 0o600);
    chmod(&host.data(), 0o777);
    stopped("secret.exposed").await;
    chmod(&host.data(), 0o755);
    std::fs::rename(file(&host, "floors.json"), host.data().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(host.data().join("elsewhere"), file(&host, "floors.json")).unwrap();
    let text = stopped("state.corrupt").await;
    assert!(text.contains("floors.json") && text.contains("link"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_files_of_a_joined_membership_stop_it_by_name_and_a_return_goes_on_with_the_same_key() {
    let host = Host::new();
    let (running, _messages, _plane) = running(&host).await;
    let control = &running.control;
    let agent = host.agent().await;
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    terminate(agent).await;
    for name in ["floors.json", "enrollment.json", "identity.json"] {
        let aside = both(&host, name).map(|path| (std::fs::read(&path).unwrap(), path));
        // One copy is enough.
        std::fs::remove_file(&aside[0].1).unwrap();
        let agent = host.agent().await;
        host.status_when("healthy", |status| status["state"] == "healthy").await;
        terminate(agent).await;
        aside.iter().for_each(|(_, path)| std::fs::remove_file(path).unwrap());
        let agent = host.agent().await;
        let (_, status) = host.status_when(name, |status| status["state"] == "stopped").await;
        assert_eq!(status["degraded_reasons"], serde_json::json!(["state.missing"]), "{status:#}");
        let text = status["text"].to_string();
        assert!(text.contains(name) && text.contains("join --rejoin"), "{text}");
        kill(agent).await;
        for (bytes, path) in &aside {
            std::fs::write(path, bytes).unwrap();
            chmod(path, 0o600);
        }
    }
    both(&host, "floors.json").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let file = host.file("new.token", token(control).text().as_bytes());
    host.run(&["join", "--rejoin", "--token-file", file.to_str().unwrap()]).await.expect(0);
    let state = control.state.lock().unwrap();
    let [first, second] = state.joins.as_slice() else { panic!("{} joins", state.joins.len()) };
    assert_eq!(first.node_public_key, second.node_public_key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_a_clock_set_back_makes_nothing_fresh_again() {
    let host = Host::new();
    let (running, _messages, _plane) = running(&host).await;
    let offset = host.file("offset", b"0\n");
    let set = |seconds: i64| std::fs::write(&offset, format!("{}\n", seconds * 1000)).unwrap();
    let environment = [(WALL_OFFSET_FILE, offset.to_str().unwrap())];
    let start = async || host.answering(host.spawn_with(&["--metrics", "off"], &environment)).await;
    let agent = start().await;
    host.status_when("fresh", |status| status["freshness"]["state"] == "fresh").await;
    drop(running);
    // An hour passes, as the wall clock says; the head is fresh for 5 minutes.
    set(3_600);
    host.status_when("stale", |status| status["freshness"]["state"] == "degraded").await;
    terminate(agent).await;
    set(-365 * 86_400);
    let agent = start().await;
    let up = |status: &Value| status["freshness"]["state"].is_string();
    let (code, status) = host.status_when("up again", up).await;
    assert_eq!((code, &status["freshness"]["state"]), (Some(8), &"degraded".into()));
    assert!(warned(&status, "clock.regressed"), "{status:#}");
    terminate(agent).await;
    // The same without what the start before left: the head's own time is all that is known.
    both(&host, "time.json").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let agent = start().await;
    let (_, status) = host.status_when("up again", up).await;
    assert_eq!(status["freshness"]["state"], "fresh", "a control: the stored time makes the difference");
    kill(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_gives_up_leaves_no_secret_on_the_disk() {
    let host = Host::new();
    let (running, _messages) = Control::start(World::default()).await;
    let token = host.file("token", token(&running.control).text().as_bytes());
    let secret = |host: &Host| {
        let name = rap_state::MembershipName::new("default").unwrap();
        let dir = rap_state::MembershipDir::open(&host.data(), &name).unwrap();
        let (store, _) = rap_state::IdentityStore::open(&dir).unwrap().unwrap();
        store.credentials().join_secret.is_some()
    };
    // Nobody decides.
    let join = ["join", "--enrollment-poll-timeout-seconds", "2", "--token-file", token.to_str().unwrap()];
    let done = host.run(&join).await;
    assert!(done.err().contains("request.timeout"), "{}", done.err());
    assert!(!secret(&host), "the request is polled by the identity key");
    running.control.state.lock().unwrap().approved = true;
    host.run(&["join"]).await.expect(0);
    assert_eq!(running.control.state.lock().unwrap().joins.len(), 1, "nothing was asked twice");
    // Nobody answers: then it needs the token again.
    let far = Host::new();
    let port = running.control.port;
    let control = running.control.clone();
    drop(running);
    let token = far.file("token", crate::token(&control).text().as_bytes());
    let join = ["join", "--enrollment-poll-timeout-seconds", "2", "--token-file", token.to_str().unwrap()];
    let done = far.run(&join).await;
    assert!(done.err().contains("with the token"), "{}", done.err());
    assert!(!secret(&far));
    let running = control.restart().await;
    assert_eq!(running.control.port, port);
    let bare = far.run(&["join"]).await;
    assert!(bare.err().contains("secret.missing"), "{}", bare.err());
    far.run(&join).await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_senseless_peer_is_shown_and_a_grant_can_be_dropped() {
    use v1::break_glass_grant::Permit;
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let plane = Plane::start(&host.run_dir());
    let mut published = publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300));
    {
        let world = control.world.lock().unwrap();
        published.contents.add_peer(v1::PeerRecord { overlay_ipv4: "8.8.8.8".into(), ..peer(9) });
        let until = published.clone();
        let fresh = now().plus(Duration::from_secs(300)).0;
        published = world
            .publish_as(HeadOrder::new(1, 1, 0), &until.contents, now(), |head| head.fresh_until_ms = fresh);
    }
    control.say(update(&published));
    let agent = host.agent().await;
    let fits = |status: &Value| status["state"] == "healthy" && status["links"][0].is_object();
    let (_, status) = host.status_when("healthy", fits).await;
    assert!(warned(&status, "snapshot.peer_invalid"), "{status:#}");
    assert_eq!(status["unused_slots"][0]["reason"], "snapshot.peer_invalid");
    assert_eq!(plane.table.borrow().as_ref().unwrap().peers.len(), 1);

    let grant = {
        let world = control.world.lock().unwrap();
        let record = v1::PeerRecord {
            node_id: vec![77; 16],
            name: "rescue".into(),
            node_key_sha256: vec![77; 32],
            wireguard_public_key: vec![78; 32],
            overlay_ipv4: "100.96.7.7".into(),
            overlay_ipv6: "fd00::77".into(),
            ..peer(1)
        };
        let permit = Permit::PermitPeer(v1::PermitPeer { peer: Some(record) });
        let grant = world.grant(1, now(), &world.authority, permit);
        rap_contract::BreakGlassText::new(sign(&grant, &[&world.authority]), vec![]).text()
    };
    let file = host.file("x.grant", grant.as_bytes());
    let applied =
        host.run(&["break-glass", "apply", file.to_str().unwrap(), "--json"]).await.expect(0).json();
    let all = |status: &Value| status["peers"].to_string();
    let (_, status) = host.status_when("admitted", |status| all(status).contains("rescue")).await;
    assert!(all(&status).contains("admitted_until_ms"));
    let digest = applied["digest"].as_str().unwrap();
    host.run(&["break-glass", "drop", "00000000"]).await.expect(3);
    let dropped = host.run(&["break-glass", "drop", &digest[..10], "--json"]).await.expect(0).json();
    assert_eq!((&dropped["state"], &dropped["digest"]), (&"dropped".into(), &applied["digest"]));
    let (_, status) = host.status_when("gone", |status| !all(status).contains("rescue")).await;
    assert_eq!(status["break_glass"][0]["state"], "dropped");
    let mut tables = plane.table.clone();
    let without = tables.wait_for(|table| table.as_ref().is_some_and(|table| table.peers.len() == 1));
    tokio::time::timeout(fake::agent::DEADLINE, without).await.expect("the tunnel ends").unwrap();
    kill(agent).await;
    let agent = host.agent().await;
    let (_, status) = host.status_when("up again", |status| status["state"] == "healthy").await;
    assert_eq!(status["break_glass"][0]["state"], "dropped", "also after a restart");
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_shows_the_own_addresses_in_use_not_senseless_ones_of_the_snapshot() {
    let host = Host::new();
    let (running, _messages, _plane) = running(&host).await;
    let control = &running.control;
    let agent = host.agent().await;
    let (_, before) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    let used = before["overlay"]["ipv4"].clone();
    assert!(used.is_string(), "{before:#}");
    let published = {
        let world = control.world.lock().unwrap();
        let node_key = control.state.lock().unwrap().joins.last().unwrap().node_public_key.clone();
        let mut assignment = world.assignment();
        assignment.node_key_sha256 = rap_types::KeyId::of(&node_key).to_vec();
        assignment.overlay_ipv4 = "10.0.0.1/8".into();
        let mut contents = world.contents(1);
        contents.put("assignment", Some(v1::chunk::Body::Assignment(assignment)));
        let fresh = now().plus(Duration::from_secs(300)).0;
        world.publish_as(HeadOrder::new(1, 2, 0), &contents, now(), |head| head.fresh_until_ms = fresh)
    };
    control.say(update(&published));
    let noticed = |status: &Value| status["unused_slots"][0].is_object();
    let (_, after) = host.status_when("the slot is not used", noticed).await;
    assert_eq!(after["overlay"]["ipv4"], used, "{after:#}");
    terminate(agent).await;
}
