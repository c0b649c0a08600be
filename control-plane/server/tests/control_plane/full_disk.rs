//! The disk of the private PostgreSQL fills up under load: refused, said, nothing acknowledged lost, and over by itself
//! once there is room.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use rap_types::{Reason, TokenId};
use rap_wire::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::disk::mounted;
use crate::host::{Host, hello};
use crate::sync::{Kept, acknowledge};
use crate::world::{World, reason};

/// Takes all the room that is left.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

async fn get(world: &World, page: &str) -> String {
    let mut stream = TcpStream::connect(world.running.metrics.unwrap()).await.unwrap();
    stream.write_all(format!("GET {page} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
    text
}

/// Waits until the page of readiness begins like this; a heartbeat comes every two seconds.
async fn readiness(world: &World, begin: &str) -> String {
    let waiting = async {
        loop {
            let page = get(world, "/readyz").await;
            if page.starts_with(begin) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("readiness follows the database")
}

/// Creates a token; its id if that was acknowledged.
async fn create(world: &World) -> Result<TokenId, Reason> {
    let tags = (0..16).map(|tag| format!("tag-{tag}")).collect();
    let request = v1::TokenCreateRequest { cluster: "prod".into(), tags, ..Default::default() };
    match world.admin().await.token_create(world.request(request)).await {
        Ok(answer) => Ok(TokenId::from_slice(&answer.into_inner().token.unwrap().token_id).unwrap()),
        Err(status) => Err(reason(status)),
    }
}

async fn scenario(directory: &Path) {
    let world = World::embedded_with(|raw| {
        raw.data_dir = Some(directory.join("data"));
        raw.metrics = Some("127.0.0.1:0".into());
    })
    .await;
    world.cluster("prod").await;
    let mut acknowledged = BTreeSet::new();
    for _ in 0..20 {
        acknowledged.insert(create(&world).await.unwrap());
    }
    assert!(get(&world, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&world, "/metrics").await.contains("\nrap_control_database_up 1\n"));

    let filler = directory.join("filler");
    fill(&filler);
    let refused = async {
        let mut refused = BTreeSet::new();
        let mut times = 0;
        while times < 20 {
            match create(&world).await {
                Ok(token) => drop(acknowledged.insert(token)),
                Err(reason) => {
                    refused.insert(reason);
                    times += 1;
                }
            }
        }
        refused
    };
    let refused = tokio::time::timeout(Duration::from_secs(300), refused).await.expect("the disk is full");
    let expected =
        [Reason::StateNoSpace, Reason::StoreUnavailable, Reason::StoreOutcomeUnknown, Reason::RequestTimeout];
    assert!(refused.iter().all(|reason| expected.contains(reason)), "{refused:?}");
    let metrics = get(&world, "/metrics").await;
    let down = get(&world, "/readyz").await.starts_with("HTTP/1.1 503");
    let alarmed = metrics.contains("rap_control_alarms_total{reason=\"state.no_space\"}");
    assert!(down || alarmed, "nobody is told: {metrics}");
    for reason in &refused {
        assert!(metrics.contains(&format!("rap_control_rejected_total{{reason=\"{reason}\"}}")), "{metrics}");
    }

    std::fs::remove_file(&filler).unwrap();
    let recovered = async {
        while create(&world).await.map(|token| acknowledged.insert(token)).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), recovered).await.expect("goes on by itself");
    readiness(&world, "HTTP/1.1 200").await;
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let rows = &world.running.replica.serving.clusters.all()[0].rows;
    for token in &acknowledged {
        let row = rap_store::token_read(&mut transaction, rows, *token).await.unwrap();
        assert!(row.is_some(), "{token} was acknowledged and is gone");
    }
    drop(transaction);
    println!(
        "{} acknowledged, refused for {refused:?}, alarm {alarmed}, not ready {down}",
        acknowledged.len()
    );
    world.stop().await;
}

/// Writes into PostgreSQL's log until PostgreSQL ends because it cannot grow; says what it said.
async fn panic_by_log(world: &World, log: &Path) -> String {
    let panicking = async {
        loop {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            if said.contains("PANIC") {
                return said;
            }
            // Between two lives of the server there is none.
            if let Ok(mut transaction) = world.running.replica.database.store.system().begin().await {
                while rap_store::testing::log_write(&mut transaction).await.is_ok() {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), panicking).await.expect("PostgreSQL's log is full")
}

/// The log of PostgreSQL cannot grow: PostgreSQL ends at once, and cannot start either.
async fn log_scenario(directory: &Path) {
    let world = World::embedded_with(|raw| {
        raw.data_dir = Some(directory.join("data"));
        raw.metrics = Some("127.0.0.1:0".into());
    })
    .await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 9, true).await, "one");
    let bootstrap = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = host.stream(&world, &slot, hello()).await;
    let mut kept = Kept::new(&bootstrap);
    let leaf = kept.apply(&stream.update().await);
    acknowledge(&stream, &leaf).await;
    let mut acknowledged = BTreeSet::new();
    for _ in 0..20 {
        acknowledged.insert(create(&world).await.unwrap());
    }

    let filler = directory.join("filler");
    fill(&filler);
    let said = panic_by_log(&world, &directory.join("data/postgres.log")).await;
    assert!(said.contains("No space left on device"), "{said}");
    // Started again and again, it cannot finish its recovery; whoever asks is told so, and nobody is lied to.
    let mut refused = BTreeSet::new();
    while refused.len() < 30 {
        match create(&world).await {
            Ok(token) => drop(acknowledged.insert(token)),
            Err(reason) => {
                let expected = [
                    Reason::StateNoSpace,
                    Reason::StoreUnavailable,
                    Reason::StoreOutcomeUnknown,
                    Reason::RequestTimeout,
                ];
                assert!(expected.contains(&reason), "{reason}");
                refused.insert((refused.len(), reason));
            }
        }
    }
    let ready = readiness(&world, "HTTP/1.1 503").await;
    assert!(ready.ends_with("store.unavailable\n"), "{ready}");
    assert!(get(&world, "/metrics").await.contains("\nrap_control_database_up 0\n"));
    // The node's stream is what it was: it is told nothing that would make it stop.
    let quiet = tokio::time::timeout(Duration::from_secs(3), stream.next()).await;
    assert!(!matches!(quiet, Ok(Err(_))), "{quiet:?}");

    std::fs::remove_file(&filler).unwrap();
    let recovered = async {
        while create(&world).await.map(|token| acknowledged.insert(token)).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), recovered).await.expect("goes on by itself");
    readiness(&world, "HTTP/1.1 200").await;
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let rows = &world.running.replica.serving.clusters.all()[0].rows;
    for token in &acknowledged {
        let row = rap_store::token_read(&mut transaction, rows, *token).await.unwrap();
        assert!(row.is_some(), "{token} was acknowledged and is gone");
    }
    drop(transaction);
    // And distribution goes on, on the stream that was there all the time.
    Host::new(&world.token("prod", 1, true).await, "two").enrol(&world).await;
    let next = kept.apply(&stream.update().await);
    assert!(next.head().order.version > leaf.head().order.version);
    world.stop().await;
}

mod needs_root {
    use super::*;

    #[test]
    #[ignore = "mounts a file system of its own: run as root"]
    fn a_log_that_cannot_grow_ends_postgresql_and_loses_nothing_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        assert!(mounted(directory.path(), "192m"), "root may mount");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(log_scenario(directory.path()));
    }

    #[test]
    #[ignore = "mounts a file system of its own: run as root"]
    fn a_full_disk_loses_nothing_acknowledged_and_is_over_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        // Before the runtime has threads: they inherit this one's mounts.
        assert!(mounted(directory.path(), "192m"), "root may mount");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(scenario(directory.path()));
    }
}
