//! Joining from outside: resumption, refusals, modes, other URLs.

use rap_types::Reason;

use crate::fake::agent::{DEADLINE, Host, contains, kill, terminate};
use crate::fake::control::Control;
use crate::fake::plane::Plane;
use crate::support::World;
use crate::*;

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
async fn the_pins_of_the_environment_admit_their_authority_and_no_other() {
    let host = Host::new();
    let (running, _messages) = Control::start(World::default()).await;
    running.control.state.lock().unwrap().approved = true;
    let file = host.file("token", token(&running.control).text().as_bytes());
    let authority = running.control.world.lock().unwrap().authority.public();
    let other = Signer::from_seed(&[9; 32]).public();
    let join = |key: Option<String>, fingerprint: Option<String>| {
        let mut command = host.command(&["join", "--token-file", file.to_str().unwrap()]);
        if let Some(key) = key {
            command.env("RAP_CLUSTER_AUTHORITY_PUBLIC_KEY", key);
        }
        if let Some(fingerprint) = fingerprint {
            command.env("RAP_CLUSTER_AUTHORITY_FINGERPRINT", fingerprint);
        }
        async move { fake::agent::Done(command.output().await.unwrap()) }
    };
    for (key, fingerprint) in [
        (Some(other.to_string()), None),
        (None, Some(other.id().to_string())),
        (Some(authority.to_string()), Some(other.id().to_string())),
        (Some(other.to_string()), Some(authority.id().to_string())),
    ] {
        let done = join(key, fingerprint).await;
        assert_ne!(done.code(), Some(0));
        assert!(done.err().contains("pin.mismatch"), "{}", done.err());
    }
    assert!(running.control.state.lock().unwrap().joins.is_empty(), "nothing was told to it");
    join(Some(authority.to_string()), Some(authority.id().to_string())).await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_join_ends_with_the_words_of_the_control_plane() {
    let host = Host::new();
    let (running, _messages) = Control::start(World::default()).await;
    running.control.state.lock().unwrap().refuse_join = Some(Reason::RequestInvalid);
    let file = host.file("token", token(&running.control).text().as_bytes());
    let done = host.run(&["join", "--token-file", file.to_str().unwrap()]).await.expect(2);
    assert!(done.err().contains("error[request.invalid]: refused"), "{}", done.err());
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
    let stopped = host.run(&["status", "--json"]).await.expect(8).json();
    assert_eq!(
        (&stopped["state"], &stopped["degraded_reasons"][0]),
        (&"stopped".into(), &"authority.dev_refused".into())
    );
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_control_url_serves_for_joining_certificates_and_the_stream() {
    let host = Host::new();
    let (running, mut messages) = Control::start(World::default()).await;
    let control = &running.control;
    // A port that nobody listens on comes first.
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    control.world.lock().unwrap().control_urls.insert(0, format!("https://{dead}"));
    control.state.lock().unwrap().approved = true;
    let file = host.file("token", token(control).text().as_bytes());
    host.run(&["join", "--token-file", file.to_str().unwrap()]).await.expect(0);
    adopt_keys(control);
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    let (_, status) = host.status_when("healthy", |status| status["state"] == "healthy").await;
    assert_eq!(status["control"]["url"], format!("https://127.0.0.1:{}", control.port));
    terminate(agent).await;
}
