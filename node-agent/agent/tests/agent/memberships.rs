//! Several memberships in one agent: side by side, isolated, and never with the same addresses.

use rap_types::{ClusterId, NodeId};
use serde_json::Value;

use crate::fake::agent::terminate;
use crate::fake::plane::Plane;
use crate::support::peer;
use crate::*;

/// A cluster with pools of its own.
fn office() -> World {
    World {
        cluster: ClusterId::from_bytes([9; 16]),
        node: NodeId::from_bytes([8; 16]),
        pool: ("100.97.0", "fd01:"),
        ..World::default()
    }
}

/// Joins the cluster of `world` as membership `name`; how the command ended.
async fn join_as(
    host: &Host,
    name: &str,
    world: World,
) -> (fake::agent::Done, Running, mpsc::Receiver<v1::NodeMessage>) {
    let (running, heard) = Control::start(world).await;
    running.control.state.lock().unwrap().approved = true;
    let file = host.file(&format!("token-{name}"), token(&running.control).text().as_bytes());
    let done = host.run(&["join", "--membership", name, "--token-file", file.to_str().unwrap()]).await;
    if done.code() == Some(0) {
        adopt_keys(&running.control);
    }
    (done, running, heard)
}

fn version(control: &Control, version: u64) -> Vec<control_message::Body> {
    update(&publish(control, HeadOrder::new(1, version, 0), 1, Duration::from_secs(300)))
}

/// The status of one membership once it fits.
async fn status_of(host: &Host, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let waiting = async {
        loop {
            last = host.run(&["status", "--json", "--membership", name]).await.json();
            if fits(&last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
        panic!("never {what}: {last:#}\n{}", host.log_text());
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_memberships_run_side_by_side_and_one_that_fails_leaves_the_other_alone() {
    let host = Host::new();
    // In the order of time, not of the alphabet.
    let (first, control, _messages) = join_as(&host, "work", World::default()).await;
    first.expect(0);
    let (second, other, _others) = join_as(&host, "home", office()).await;
    second.expect(0);
    control.control.say(version(&control.control, 1));
    other.control.say(version(&other.control, 1));
    let planes = [Plane::of(&host.run_dir(), "work"), Plane::of(&host.run_dir(), "home")];
    let agent = host.agent().await;
    for name in ["work", "home"] {
        status_of(&host, name, "healthy", |status| status["state"] == "healthy").await;
    }
    let all = host.run(&["status", "--json"]).await.expect(0).json();
    assert_eq!(
        (&all["schema"], all["memberships"].as_array().unwrap().len()),
        (&"rap.status.all.v1".into(), 2)
    );
    let text = host.run(&["status"]).await.expect(0).out();
    assert!(text.contains("membership work") && text.contains("membership home"), "{text}");
    let listed = host.run(&["memberships", "--json"]).await.expect(0).json();
    let place = |document: &Value, name: &str| {
        let all = document["memberships"].as_array().unwrap().clone();
        all.into_iter().find(|entry| entry["membership"] == name).unwrap()
    };
    let (work, home) = (place(&listed, "work"), place(&listed, "home"));
    assert_eq!((&work["place"], &home["place"]), (&0.into(), &1.into()));
    assert_eq!(
        (&work["listen_wireguard"], &home["listen_wireguard"]),
        (&"[::]:51820".into(), &"[::]:51821".into())
    );
    assert_eq!((&work["listen_link"], &home["listen_link"]), (&"[::]:7443".into(), &"[::]:7444".into()));
    // Each table has its own node, cluster and peers, and nothing of the other.
    let [a, b] = planes.each_ref().map(|plane| plane.table.borrow().clone().unwrap());
    assert_ne!((&a.cluster_id, &a.wireguard_private_key), (&b.cluster_id, &b.wireguard_private_key));
    assert!(
        a.peers[0].allowed_ips[0].starts_with("100.96.") && b.peers[0].allowed_ips[0].starts_with("100.97.")
    );
    for name in ["work", "home"] {
        let folder = std::fs::metadata(host.data().join(name)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&folder) & 0o777, 0o700);
    }
    // Calls for one membership need its name where there are two.
    let refused = host.run(&["ping", "peer-1", "--count", "1"]).await;
    assert!(
        refused.err().contains("request.invalid") && refused.err().contains("home, work"),
        "{}",
        refused.err()
    );
    for command in [&["leave"][..], &["key", "rotate"], &["unload"], &["load"]] {
        let refused = host.run(command).await.expect(2);
        assert!(refused.err().contains("home, work; give --membership"), "{command:?}: {}", refused.err());
    }
    host.run(&["ping", "peer-1", "--count", "1", "--membership", "home"]).await.expect(0);
    let shown = host.run(&["snapshot", "show", "--json"]).await.expect(0).json();
    assert_eq!(shown["memberships"].as_array().unwrap().len(), 2);
    assert!(host.run(&["check"]).await.out().contains("membership home: running"));

    // One is unloaded: the other does not notice, and it comes back when it is loaded.
    host.run(&["unload", "--membership", "home"]).await.expect(0);
    host.run(&["status", "--membership", "home"]).await.expect(3);
    assert_eq!(host.run(&["status", "--json"]).await.expect(0).json()["membership"], "work");
    host.run(&["load", "--membership", "home"]).await.expect(0);
    status_of(&host, "home", "healthy again", |status| status["state"] == "healthy").await;
    terminate(agent).await;

    // The state of one is damaged beyond repair.
    let floors = ["floors.json", "floors.json.twin"].map(|name| host.data().join("home").join(name));
    let kept = floors.each_ref().map(|path| std::fs::read(path).unwrap());
    floors.iter().for_each(|path| std::fs::write(path, b"x").unwrap());
    let agent = host.agent().await;
    status_of(&host, "work", "healthy", |status| status["state"] == "healthy").await;
    let stopped = status_of(&host, "home", "stopped", |status| status["state"] == "stopped").await;
    assert_eq!(stopped["degraded_reasons"][0], "state.corrupt");
    let listed = host.run(&["memberships", "--json"]).await.expect(0).json();
    assert_eq!(
        (&place(&listed, "home")["place"], &place(&listed, "home")["state"]),
        (&1.into(), &"stopped".into())
    );
    host.run(&["status", "--membership", "work"]).await.expect(0);
    host.run(&["status"]).await.expect(8);
    // Restored, it is started without a restart of the agent.
    floors.iter().zip(&kept).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    status_of(&host, "home", "back", |status| status["state"] == "healthy").await;
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_addresses_that_the_host_uses_is_refused_and_the_first_goes_on() {
    let host = Host::new();
    let (first, control, _messages) = join_as(&host, "work", World::default()).await;
    first.expect(0);
    let _plane = Plane::of(&host.run_dir(), "work");
    control.control.say(version(&control.control, 1));
    let agent = host.agent().await;
    status_of(&host, "work", "healthy", |status| status["state"] == "healthy").await;
    // The token names the pools: nothing is asked, so no use is burned.
    let same_ipv6 = ("100.99.0", "fd00:");
    let (done, other, _others) =
        join_as(&host, "home", World { pool: same_ipv6, pools_in_token: true, ..office() }).await;
    let done = done.expect(5);
    assert!(done.err().contains("overlay.overlap") && done.err().contains("`work`"), "{}", done.err());
    assert!(other.control.state.lock().unwrap().joins.is_empty());
    // A token of an older control plane names none: refused when the contract does, before it is written.
    let same_ipv4 = ("100.96.0", "fd01:");
    let (done, _other, _others) = join_as(&host, "home", World { pool: same_ipv4, ..office() }).await;
    assert!(done.expect(5).err().contains("overlay.overlap"));
    let identity = std::fs::read_to_string(host.data().join("home/identity.json")).unwrap();
    assert!(identity.contains("\"pending\""), "{identity}");
    assert_eq!(host.run(&["status", "--json"]).await.expect(0).json()["membership"], "work");
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_snapshot_that_wants_another_memberships_addresses_is_refused() {
    let host = Host::new();
    let (first, control, _messages) = join_as(&host, "work", World::default()).await;
    first.expect(0);
    let (second, other, mut messages) = join_as(&host, "home", office()).await;
    second.expect(0);
    control.control.say(version(&control.control, 1));
    other.control.say(version(&other.control, 1));
    let planes = [Plane::of(&host.run_dir(), "work"), Plane::of(&host.run_dir(), "home")];
    let agent = host.agent().await;
    for name in ["work", "home"] {
        status_of(&host, name, "healthy", |status| status["state"] == "healthy").await;
    }
    let taking = |version: u64, wants_pool: bool| {
        let world = other.control.world.lock().unwrap();
        let mut contents = world.contents(1);
        let node_key = other.control.state.lock().unwrap().joins.last().unwrap().node_public_key.clone();
        let mut assignment = world.assignment();
        assignment.node_key_sha256 = rap_types::KeyId::of(&node_key).to_vec();
        if wants_pool {
            let others = control.control.world.lock().unwrap();
            let (ipv4, ipv6) = others.pool;
            assignment.overlay_ipv4 = format!("{ipv4}.77/16");
            assignment.overlay_ipv6 = format!("{ipv6}:77/48");
            contents.put("policy", Some(v1::chunk::Body::Policy(others.policy())));
        } else {
            contents.add_peer(v1::PeerRecord { overlay_ipv6: "fd01::99".into(), ..peer(2) });
        }
        contents.put("assignment", Some(v1::chunk::Body::Assignment(assignment)));
        world.publish_as(HeadOrder::new(1, version, 0), &contents, now(), |head| {
            head.fresh_until_ms = now().0 + 300_000
        })
    };
    // A peer of the office under an address of the other cluster would take that address's traffic: it is not used.
    other.control.say(update(&taking(2, false)));
    let status = status_of(&host, "home", "taken", |status| status["active"]["sequence"] == 2).await;
    assert_eq!(status["unused_slots"][0]["reason"], "snapshot.peer_invalid", "{status:#}");
    assert_eq!(planes[1].table.borrow().as_ref().unwrap().peers.len(), 1, "it is in no table");
    // The pool of the other cluster itself.
    other.control.say(update(&taking(3, true)));
    let nack = heard(&mut messages, "nack", |body| matches!(body, node_message::Body::Nack(_))).await;
    let node_message::Body::Nack(nack) = nack else { unreachable!() };
    assert_eq!(nack.reason, "overlay.overlap");
    let status = status_of(&host, "home", "refused", |status| status["state"] == "degraded").await;
    assert_eq!(
        (&status["active"]["sequence"], &status["degraded_reasons"]),
        (&2.into(), &serde_json::json!(["overlay.overlap"]))
    );
    assert!(status["warnings"].to_string().contains("`work`"), "{status:#}");
    assert_eq!(planes[1].table.borrow().as_ref().unwrap().peers.len(), 1, "no table was made of it");
    host.run(&["status", "--membership", "work"]).await.expect(0);
    // A good version heals.
    other.control.say(version(&other.control, 4));
    let status = status_of(&host, "home", "healed", |status| status["state"] == "healthy").await;
    assert_eq!(status["active"]["sequence"], 4);
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_systemd_each_membership_is_an_instance_with_its_own_ports_also_as_peers_see_them() {
    let host = Host::new();
    let mut controls = Vec::new();
    for (name, world, link) in [("work", World::default(), 7443), ("home", office(), 7444)] {
        let (running, heard) = Control::start(world).await;
        running.control.state.lock().unwrap().approved = true;
        let file = host.file(name, token(&running.control).text().as_bytes());
        let args = ["join", "--membership", name, "--advertise", "192.0.2.1:7443", "--token-file"];
        host.run(&[&args[..], &[file.to_str().unwrap()]].concat()).await.expect(0);
        let told = running.control.state.lock().unwrap().joins[0].link_endpoints.clone();
        assert_eq!(told, [format!("192.0.2.1:{link}")]);
        controls.push((running, heard));
    }
    // A service manager that only notes what it is asked for.
    let log = host.dir.path().join("systemctl.log");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display());
    let tool = host.file("systemctl", script.as_bytes());
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let path = format!("{}:/usr/bin:/bin", host.dir.path().display());
    let child = host.spawn_with(&["--metrics", "off", "--dataplane", "systemd"], &[("PATH", path.as_str())]);
    let agent = host.answering(child).await;
    let asked = async {
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if ["work", "home"]
                .iter()
                .all(|name| text.contains(&format!("start --job-mode=fail rap-dataplane@{name}.service")))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("{}", host.log_text()));
    for (name, link, wireguard, number) in [("work", 7443, 51820, 0), ("home", 7444, 51821, 1)] {
        let settings = std::fs::read_to_string(host.run_dir().join(name).join("dataplane.env")).unwrap();
        for line in [
            format!("RAP_DATAPLANE_LINK_LISTEN=[::]:{link}"),
            format!("RAP_DATAPLANE_WIREGUARD_LISTEN=[::]:{wireguard}"),
            format!("RAP_DATAPLANE_INTERFACE=rap{number}"),
        ] {
            assert!(settings.contains(&line), "{name}: {line} not in {settings}");
        }
    }
    terminate(agent).await;
}
