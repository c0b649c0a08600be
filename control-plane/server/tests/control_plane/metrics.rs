//! The metrics endpoint over HTTP, the page that lists it, and the watchdog of a service manager.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use rap_control_plane::watch::metrics::FAMILIES;
use rap_runtime::metrics::{names_in, table_in};
use rap_wire::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::World;

const PAGE: &str = include_str!("../../../../docs/operate/metrics.md");

async fn scrape(world: &World) -> String {
    let mut stream = TcpStream::connect(world.running.metrics.unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
    text
}

#[tokio::test]
async fn refusals_are_counted_under_their_codes_and_nothing_undeclared_is_exposed() {
    let world = World::dev_with(|raw| raw.metrics = Some("127.0.0.1:0".into())).await;
    let cluster = world.cluster("metered").await;
    let (mut client, _) = world.enrollment().await;
    let request = v1::JoinRequest { token: vec![0; 64 * 1024], ..Default::default() };
    client.join(request).await.unwrap_err();
    let token = v1::TokenCreateRequest { cluster: "nowhere".into(), uses: 1, ..Default::default() };
    world.admin().await.token_create(world.request(token)).await.unwrap_err();
    // A stranger's protocol never gets past the handshake.
    let mut stream = TcpStream::connect(world.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let text = scrape(&world).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for line in [
        "rap_control_rejected_total{reason=\"request.too_large\"} 1",
        "rap_control_rejected_total{reason=\"resource.not_found\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let id = rap_types::ClusterId::from_slice(&cluster.cluster_id).unwrap();
    assert!(text.contains(&format!("rap_control_nodes_connected{{cluster=\"{id}\"}} 0")), "{text}");
    assert_eq!(names_in(&text), FAMILIES.map(|family| family.name));
    world.running.replica.watch.metrics.alarmed(rap_types::Reason::RowTampered);
    let text = scrape(&world).await;
    assert!(text.contains("rap_control_alarms_total{reason=\"row.tampered\"} 1"), "{text}");
    world.stop().await;
}

#[test]
fn the_page_lists_exactly_what_the_endpoint_exposes() {
    let page: BTreeSet<_> =
        table_in(PAGE).into_iter().filter(|(name, ..)| name.starts_with("rap_control_")).collect();
    let families = FAMILIES.map(|family| {
        let labels = family.labels.join(" ");
        (family.name.to_owned(), family.kind.as_str().to_owned(), family.unit.to_owned(), labels)
    });
    assert_eq!(page, families.into_iter().collect());
}

#[test]
fn a_service_manager_hears_ready_and_then_progress() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = directory.path().join("notify");
    let heard = UnixDatagram::bind(&path).unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let data = directory.path().join("data");
    let command = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rap-control-plane"));
        command.arg(verb).arg("--data-dir").arg(&data).env_clear().env("PATH", "/usr/bin:/bin");
        command.args(["--authority-mode", "dev", "--metrics", "off", "--listen", "127.0.0.1:0"]);
        command.args(["--control-url", "https://127.0.0.1:8443"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(directory.path());
        command
    };
    assert!(command("init").status().unwrap().success());
    let mut serving =
        command("serve").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000").spawn().unwrap();
    let (mut words, mut buffer) = (Vec::new(), [0; 4096]);
    while words.iter().filter(|word| *word == "WATCHDOG=1").count() < 3 {
        let length = heard.recv(&mut buffer).expect("the control plane goes on");
        words.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(serving.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(serving.wait().unwrap().success());
    assert!(words.contains(&"READY=1".to_owned()), "{words:?}");
    assert!(words.iter().any(|word| word.starts_with("STATUS=database: 0 clusters")), "{words:?}");
}
