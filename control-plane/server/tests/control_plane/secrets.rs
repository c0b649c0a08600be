//! A whole run of the program at its most talkative: no secret is in anything it writes.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message as _;
use rap_contract::{EXPORTER_LABEL, KeyFile, Signer};
use rap_rpc::v1::admin_client::AdminClient;
use rap_rpc::v1::enrollment_client::EnrollmentClient;
use rap_runtime::{Clock, tls};
use rap_types::{Digest, Reason};
use rap_wire::v1;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tonic::Request;

use crate::host::{Host, nonce};
use crate::world::{channel, login_proof, reason, source, tls_stream};

fn program(data: &Path, command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"));
    program
        .args([command, "--authority-mode", "dev", "--listen", "127.0.0.1:0", "--metrics", "off"])
        .args(["--control-url", "https://127.0.0.1:8443", "--log", "trace", "--data-dir"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    program
}

/// What an operator and a host do, and what they held while they did it.
async fn use_it(address: std::net::SocketAddr, pin: Digest, owner: &Signer) -> Vec<String> {
    let config = tls::operator_client(tls::Pins::one(pin), Arc::new(Clock::new())).unwrap();
    let stream = tls_stream(address, source(), config).await.unwrap();
    let exporter = tls::exporter(stream.get_ref().1, EXPORTER_LABEL).unwrap();
    let channel = channel(stream).await;
    let mut admin = AdminClient::new(channel.clone());
    let challenge = admin.login_challenge(v1::LoginChallengeRequest {}).await.unwrap().into_inner();
    let signature = login_proof(owner, &challenge, &exporter);
    let operator_key = owner.public().to_vec();
    let login = v1::LoginRequest { operator_key, nonce: challenge.nonce, signature };
    let session = admin.login(login).await.unwrap().into_inner().session;
    let authorization: tonic::metadata::MetadataValue<_> = format!("Bearer {session}").parse().unwrap();
    let cluster = v1::ClusterCreateRequest { name: "prod".into(), ..Default::default() };
    let mut request = Request::new(cluster);
    request.metadata_mut().insert("authorization", authorization.clone());
    admin.cluster_create(request).await.unwrap();
    let token = v1::TokenCreateRequest {
        cluster: "prod".into(),
        auto_approve: true,
        ttl_ms: 60_000,
        ..Default::default()
    };
    let mut request = Request::new(token);
    request.metadata_mut().insert("authorization", authorization);
    let token = admin.token_create(request).await.unwrap().into_inner();

    let host = Host::new(&token, "web");
    let mut client = EnrollmentClient::new(channel);
    let guess = vec![0x5a; 32];
    let first = nonce(&mut client).await;
    let wrong = v1::JoinRequest { secret: guess.clone(), ..host.join_request(first, &exporter) };
    assert_eq!(reason(client.join(wrong).await.unwrap_err()), Reason::TokenSecret);
    let second = nonce(&mut client).await;
    client.join(host.join_request(second, &exporter)).await.unwrap();
    let mut forged = Request::new(v1::StatusRequest {});
    forged.metadata_mut().insert("authorization", "Bearer raps1.a-guess-of-an-attacker".parse().unwrap());
    assert_eq!(reason(admin.status(forged).await.unwrap_err()), Reason::SessionMissing);

    let mut secrets = vec![session, token.text.clone(), "a-guess-of-an-attacker".into()];
    for bytes in [host.token.secret().to_vec(), guess] {
        secrets.extend([hex::encode(&bytes), STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)]);
        // As Debug prints bytes.
        secrets.push(format!("{bytes:?}").trim_matches(['[', ']']).to_owned());
    }
    secrets
}

#[tokio::test]
async fn a_whole_run_at_level_trace_writes_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    // The account of a private PostgreSQL passes through.
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    let made = program(&data, "init").output().await.unwrap();
    let mut written = String::from_utf8([made.stdout, made.stderr].concat()).unwrap();
    assert!(made.status.success(), "{written}");

    let mut serve = program(&data, "serve").spawn().unwrap();
    let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines();
    let address = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it serves");
            written.push_str(&line);
            if let Some((_, rest)) = line.split_once("serving address=") {
                return rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        }
    });
    let address = address.await.expect("it serves in time");
    // Reads on, so that the program is never held up by a full pipe; the test awaits it below.
    #[allow(clippy::disallowed_methods)]
    let rest = tokio::spawn(async move {
        let mut text = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            text.push_str(&line);
        }
        text
    });

    let manifest = std::fs::read(data.join("dev.manifest")).unwrap();
    let manifest = v1::SignedEnvelope::decode(manifest.as_slice()).unwrap();
    let manifest = v1::ActivationManifest::decode(manifest.payload.as_slice()).unwrap();
    let key = std::fs::read_to_string(data.join("dev.owner.key")).unwrap();
    let owner = KeyFile::parse(&key).unwrap().unprotected().unwrap().unwrap();
    let pin = Digest::from_slice(&manifest.tls_ca_spki_sha256).unwrap();
    let mut secrets = use_it(address, pin, &owner).await;

    kill(Pid::from_raw(serve.id().unwrap().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), serve.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    written.push_str(&rest.await.unwrap());
    written.push_str(&std::fs::read_to_string(data.join("postgres.log")).unwrap());

    for file in ["dev.owner.key", "dev-root.key"] {
        let text = std::fs::read_to_string(data.join(file)).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        secrets.push(document["protection"]["seed"].as_str().unwrap().to_owned());
    }
    let sealing = std::fs::read_to_string(data.join("secret.key")).unwrap().trim().to_owned();
    secrets.extend([hex::encode(STANDARD.decode(&sealing).unwrap()), sealing]);
    assert!(written.contains("TRACE"), "the run was not at its most talkative");
    for secret in &secrets {
        assert!(secret.len() > 16);
        assert!(!written.contains(secret.as_str()), "{secret} is in the output");
    }
}
