//! What the agent shows: status, snapshots, configuration.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fake::agent::{Host, terminate};
use crate::fake::plane::Plane;
use crate::*;

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
        "authority_sequence",
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
    std::fs::write(&again, "somebody's file").unwrap();
    let taken = host.run(&["snapshot", "export", again.to_str().unwrap()]).await.expect(5);
    assert!(taken.err().contains("error[resource.exists]"), "{}", taken.err());
    assert_eq!(std::fs::read(&again).unwrap(), b"somebody's file");
    host.run(&["snapshot", "export", "--force", again.to_str().unwrap()]).await.expect(0);
    assert_eq!(std::fs::read(&export).unwrap(), std::fs::read(&again).unwrap());
    let check = host.run(&["check", "--json"]).await;
    let text = check.out();
    assert!(text.contains("chain and snapshot 1.1.0 verify"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_json_an_error_is_one_line_with_its_code() {
    let host = Host::new();
    for (arguments, exit, code) in [
        (&["snapshot", "show", "--json"][..], 3, "membership.absent"),
        (&["status", "--json", "--no-such-option"], 2, "request.invalid"),
    ] {
        let refused = host.run(arguments).await.expect(exit);
        let document: serde_json::Value = serde_json::from_str(refused.err().trim()).unwrap();
        assert_eq!((&document["schema"], &document["code"]), (&"rap.error.v1".into(), &code.into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_is_printed_with_origins_and_refused_with_every_problem() {
    let host = Host::new();
    let config = host.run(&["config", "--effective"]).await.expect(0).json();
    assert_eq!(config["schema"], "rap.config.v1");
    assert_eq!((&config["values"]["name"], &config["origins"]["name"]), (&"own".into(), &"file".into()));
    assert_eq!(config["origins"]["data_dir"], "given");
    assert_eq!(config["origins"]["region"], "default");
    let bad = host.run(&["check", "--membership", "../x", "--listen-link", "nowhere"]).await.expect(2);
    assert!(bad.err().contains("membership") && bad.err().contains("listen_link"), "{}", bad.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one() {
    let host = Host::new();
    for arguments in [&["config", "--effective"][..], &["memberships"], &["memberships", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let into = async |out: std::process::Stdio| {
            let child = host.command(arguments).stdout(out).stderr(std::process::Stdio::piped()).spawn();
            child.unwrap().wait_with_output().await.unwrap()
        };
        assert_eq!(into(writer.into()).await.status.code(), Some(0), "{arguments:?}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = into(full.into()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("state.io") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

/// Asks until the agent answers; it may have no place for a caller at first.
async fn answers(host: &Host) {
    let asking =
        async { while !host.run(&["memberships", "--json"]).await.out().contains("running agent") {} };
    tokio::time::timeout(crate::fake::agent::DEADLINE, asking).await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_callers_of_the_socket_keep_nobody_out_for_long() {
    let host = Host::new();
    let agent = host.agent().await;
    let socket = host.run_dir().join("agent.sock");
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(tokio::net::UnixStream::connect(&socket).await.unwrap());
    }
    answers(&host).await;
    // Each is sent away: 64 had a place for a while, the others none.
    for mut caller in silent {
        let mut said = Vec::new();
        tokio::time::timeout(crate::fake::agent::DEADLINE, caller.read_to_end(&mut said))
            .await
            .expect("its end")
            .unwrap();
    }
    // One that begins to speak and says no more has no place of another.
    let mut half = tokio::net::UnixStream::connect(&socket).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0").await.unwrap();
    answers(&host).await;
    drop(half);
    assert!(terminate(agent).await.success());
}
