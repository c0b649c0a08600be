//! What others may see of a running agent: metrics over HTTP, words to a service manager, a support bundle.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fake::agent::{DEADLINE, Host, contains, terminate};
use crate::fake::plane::Plane;
use crate::*;

/// A port that was free a moment ago.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A host that joined, with a data plane and version `version` with two peers waiting for it.
async fn member(host: &Host, version: u64) -> (Running, mpsc::Receiver<v1::NodeMessage>, Plane) {
    let (running, messages) = joined(host).await;
    let control = &running.control;
    let plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, version, 0), 2, Duration::from_secs(300))));
    (running, messages, plane)
}

async fn scrape(address: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the endpoint listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_refusals_under_their_codes_and_name_nobody() {
    let host = Host::new();
    let (running, mut messages, _plane) = member(&host, 5).await;
    let control = &running.control;
    let address = free_address();
    let agent = host.answering(host.spawn_with(&["--metrics", &address], &[])).await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    control.say(update(&publish(control, HeadOrder::new(1, 4, 0), 1, Duration::from_secs(300))));
    heard(&mut messages, "nack", |body| matches!(body, node_message::Body::Nack(_))).await;
    control.say(update(&publish(control, HeadOrder::new(1, 5, 0), 3, Duration::from_secs(300))));
    heard(&mut messages, "second nack", |body| matches!(body, node_message::Body::Nack(_))).await;
    let (_, status) = host.status_when("linked", |status| status["links"][1].is_object()).await;
    let text = scrape(&address).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for line in [
        "rap_agent_membership_up{membership=\"default\"} 1",
        "rap_agent_rejected_total{membership=\"default\",reason=\"snapshot.rollback\"} 1",
        "rap_agent_alarms_total{membership=\"default\",reason=\"snapshot.equivocation\"} 1",
        "rap_agent_frozen{membership=\"default\"} 1",
        "rap_agent_snapshot_version{membership=\"default\"} 5",
        "rap_agent_freshness{membership=\"default\",state=\"fresh\"} 1",
        "rap_agent_links{membership=\"default\",state=\"established\"} 2",
        "rap_agent_dataplane_up{membership=\"default\"} 1",
        "rap_agent_control_connected{membership=\"default\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let expiry = status["certificate"]["not_after_ms"].as_i64().unwrap() / 1000;
    assert!(
        text.contains(&format!("certificate_expiry_timestamp_seconds{{membership=\"default\"}} {expiry}"))
    );
    for secret in ["peer-1", status["node_id"].as_str().unwrap(), "127.0.0.1", "100.96."] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_metrics_port_does_not_keep_the_agent_from_running() {
    let host = Host::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let agent = host.answering(host.spawn_with(&["--metrics", &address], &[])).await;
    host.logs("no metrics endpoint").await;
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_hears_ready_progress_and_a_status_line() {
    let host = Host::new();
    let (_running, mut messages, _plane) = member(&host, 7).await;
    let path = host.dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let agent = host.answering(host.spawn_with(&["--metrics", "off"], &environment)).await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    let words = tokio::task::spawn_blocking(move || {
        let (mut words, mut buffer) = (Vec::new(), [0; 4096]);
        let enough = |words: &[String]| {
            words.iter().filter(|word| *word == "WATCHDOG=1").count() >= 3
                && words.iter().any(|word| word.starts_with("STATUS=default: version 7, fresh, connected"))
        };
        while !enough(&words) {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {words:?}"));
            words.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
        words
    });
    assert!(words.await.unwrap().contains(&"READY=1".to_owned()));
    terminate(agent).await;
}

/// Files of an archive by path.
fn unpack(host: &Host, archive: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let folder = host.dir.path().join("unpacked");
    std::fs::create_dir_all(&folder).unwrap();
    let tar = std::process::Command::new("tar").arg("xf").arg(archive).arg("-C").arg(&folder).status();
    assert!(tar.unwrap().success());
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&folder).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
    found
}

/// Every private value of the membership, in each form in which it could have been written.
fn secrets(host: &Host) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut add = |what: String, bytes: &[u8]| {
        for form in [
            bytes.to_vec(),
            hex::encode(bytes).into_bytes(),
            hex::encode_upper(bytes).into_bytes(),
            STANDARD.encode(bytes).into_bytes(),
            URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
        ] {
            found.push((what.clone(), form));
        }
    };
    add("join secret".to_owned(), &SECRET);
    let folder = host.data().join("default");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !(name.starts_with("credentials") || name.starts_with("certificate")) {
            continue;
        }
        let document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let body = document["body"].as_object().unwrap();
        for (field, value) in
            body.iter().filter(|(field, _)| field.contains("key") || field.contains("secret"))
        {
            let Some(text) = value.as_str() else { continue };
            let bytes = STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec());
            assert!(bytes.len() >= 16, "{name} {field}");
            add(format!("{name} {field}"), &bytes);
            if bytes.len() > 32 {
                // A wrapped key: its last 32 bytes are the seed.
                add(format!("{name} {field} seed"), &bytes[bytes.len() - 32..]);
            }
        }
    }
    for wanted in ["node_key", "wireguard_key", "certificate.json private_key seed"] {
        assert!(found.iter().any(|(what, _)| what.contains(wanted)), "{wanted}");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_has_what_helps_and_no_secret_in_any_form() {
    let host = Host::new();
    let (_running, mut messages, _plane) = member(&host, 3).await;
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    let (_, status) = host.status_when("linked", |status| status["links"][1].is_object()).await;
    let node = status["node_id"].as_str().unwrap().to_owned();

    let out = host.dir.path().join("support.tar");
    host.run(&["bundle", "--out", out.to_str().unwrap()]).await.expect(0);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&out).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    host.run(&["bundle", "--out", out.to_str().unwrap()]).await.expect(5);
    let files = unpack(&host, &out);
    let json =
        |name: &str| -> Value { serde_json::from_slice(&files[&format!("rap-bundle/{name}")]).unwrap() };
    assert_eq!(json("manifest.json")["schema"], "rap.bundle.v1");
    assert_eq!(json("config.json")["values"]["name"], "own");
    assert_eq!(json("checks.json")["schema"], "rap.check.v1");
    assert_eq!(json("agent.json")["running"], true);
    assert!(json("host.json")["kernel"].is_string());
    assert_eq!(json("memberships/default/status.json")["node_id"], node.as_str());
    assert_eq!(json("memberships/default/snapshot.json")["sequence"], 3);
    assert_eq!(json("memberships/default/floors.json")["body"]["version"], 3);
    assert_eq!(json("memberships/default/dataplane.json")["dataplane"]["up"], true);
    let listed = json("memberships/default/files.json").to_string();
    assert!(listed.contains("identity.json.twin"), "{listed}");
    let text = |name: &str| String::from_utf8_lossy(&files[&format!("rap-bundle/{name}")]).into_owned();
    assert!(text("agent.log").contains("agent runs") && text("metrics.txt").contains("rap_agent_peers"));
    let archive = std::fs::read(&out).unwrap();
    for (what, form) in secrets(&host) {
        assert!(!contains(&archive, &form), "{what} is in the bundle");
        assert!(!contains(&host.outputs(), &form), "{what} is in the log");
    }
    terminate(agent).await;

    // Without an agent it still says what the disk has.
    let cold = host.dir.path().join("cold.tar");
    host.run(&["bundle", "--out", cold.to_str().unwrap()]).await.expect(0);
    let files = unpack(&host, &cold);
    let snapshot: Value =
        serde_json::from_slice(&files["rap-bundle/memberships/default/snapshot.json"]).unwrap();
    assert_eq!((&snapshot["source"], &snapshot["sequence"]), (&"disk".into(), &3.into()));
    let archive = std::fs::read(&cold).unwrap();
    assert!(secrets(&host).iter().all(|(_, form)| !contains(&archive, form)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anonymous_bundle_names_nobody_and_stays_consistent() {
    let host = Host::new();
    let (_running, mut messages, _plane) = member(&host, 3).await;
    let agent = host.agent().await;
    heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
    let (_, status) = host.status_when("linked", |status| status["links"][1].is_object()).await;
    let mut bundles = Vec::new();
    for name in ["one.tar", "two.tar"] {
        let out = host.dir.path().join(name);
        host.run(&["bundle", "--anonymize", "--out", out.to_str().unwrap()]).await.expect(0);
        let archive = std::fs::read(&out).unwrap();
        for original in originals(&status) {
            assert!(!contains(&archive, original.as_bytes()), "{original} is in {name}");
        }
        let folder = host.dir.path().display().to_string();
        assert!(!contains(&archive, folder.as_bytes()), "{folder} is in {name}");
        bundles.push(unpack(&host, &out));
    }
    let json = |files: &BTreeMap<String, Vec<u8>>, name: &str| -> Value {
        let path = format!("rap-bundle/memberships/default/{name}");
        let bytes = files.get(&path).unwrap_or_else(|| panic!("{path} in {:?}", files.keys()));
        serde_json::from_slice(bytes).unwrap()
    };
    let [status_doc, snapshot] = ["status.json", "snapshot.json"].map(|name| json(&bundles[0], name));
    assert!(status_doc["node_id"].as_str().unwrap().starts_with("id-"), "{status_doc}");
    assert_eq!(status_doc["node_id"], snapshot["node_id"], "one original, one pseudonym");
    assert_ne!(
        status_doc["node_id"],
        json(&bundles[1], "status.json")["node_id"],
        "another bundle, another salt"
    );
    assert_eq!(status_doc["state"], status["state"], "what names nobody stays");
    terminate(agent).await;
}

/// Everything in a status document that names somebody.
fn originals(status: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut fields = vec![status];
    while let Some(next) = fields.pop() {
        match next {
            Value::Object(map) => {
                for (key, value) in map {
                    let names = [
                        "node_id",
                        "peer",
                        "name",
                        "node_name",
                        "cluster",
                        "cluster_name",
                        "installation",
                        "boot_id",
                        "node_fingerprint",
                        "authority_fingerprint",
                        "cluster_authority_public_key",
                        "authority_words",
                        "key_id",
                        "overlay_ipv4",
                        "overlay_ipv6",
                        "manifest_digest",
                        "head_digest",
                        "leaf",
                        "url",
                        "destination",
                    ];
                    let lists =
                        ["urls", "pinned_key_ids", "link_endpoints", "wireguard_endpoints", "prefixes"];
                    if names.contains(&key.as_str()) {
                        found.extend(value.as_str().map(str::to_owned));
                    }
                    if lists.contains(&key.as_str()) {
                        let each = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                        found.extend(each.map(str::to_owned));
                    }
                    fields.push(value);
                }
            }
            Value::Array(list) => fields.extend(list),
            _ => {}
        }
    }
    // Short names are words of their own elsewhere; what is looked for must be unmistakable.
    found.retain(|original| original.len() > 4 && original != "default");
    // Without scheme, port or prefix length, too.
    let bare: Vec<String> = found
        .iter()
        .map(|original| original.trim_start_matches("https://").trim_start_matches("SHA256:").to_owned())
        .map(|original| original.split(['/']).next().unwrap_or_default().to_owned())
        .collect();
    found.extend(bare);
    assert!(found.len() > 30, "{found:?}");
    found
}
