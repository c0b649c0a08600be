//! Burn-in of a membership's state with the real agent: kill -9 under write load, cut and flipped files, full and read-only disks.
//!
//! Short by default. `RAP_BURN_IN_KILLS` and `RAP_BURN_IN_OFFSETS` (per file) make it long.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rap_state::{FloorStore, MembershipDir, MembershipName};
use serde_json::Value;

use crate::fake::agent::{DEADLINE, Host, kill, terminate};
use crate::fake::local::ask_status;
use crate::fake::plane::Plane;
use crate::*;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Version of the floor on disk. No agent may run.
pub fn floor(host: &Host) -> u64 {
    let dir = MembershipDir::open(&host.data(), &MembershipName::new("default").unwrap()).unwrap();
    FloorStore::open(&dir).unwrap().0.current().version.0
}

/// Waits until the agent answers with the membership; the document and how long that took, milliseconds.
pub async fn up(host: &Host) -> (Value, u64) {
    let began = Clock::new().now().mono;
    let waiting = async {
        loop {
            if let Some(status) = ask_status(&host.run_dir().join("agent.sock")).await
                && status["node_id"].is_string()
            {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let status = tokio::time::timeout(DEADLINE, waiting).await;
    let status = status.unwrap_or_else(|_| panic!("never up: {}", host.log_text()));
    (status, Clock::new().now().mono.since(began).as_millis() as u64)
}

/// Publishes a new version as soon as the last one was acknowledged.
struct Writer {
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    #[allow(clippy::disallowed_methods)] // A test's task, joined below.
    fn start(control: Arc<Control>, mut messages: mpsc::Receiver<v1::NodeMessage>) -> Self {
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (highest, stopping) = (acknowledged.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut version = 1;
            while !stopping.load(Ordering::SeqCst) {
                let peers = (version % 5) as u8 + 1;
                control.say(update(&publish(&control, HeadOrder::new(1, version, 0), peers, FRESH)));
                loop {
                    // An agent that was killed gets the version again at its next stream.
                    match tokio::time::timeout(Duration::from_millis(200), messages.recv()).await {
                        Ok(Some(v1::NodeMessage { body: Some(node_message::Body::Ack(ack)) })) => {
                            highest.fetch_max(ack.version, Ordering::SeqCst);
                            if ack.version >= version {
                                break;
                            }
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => return,
                        Err(_) if stopping.load(Ordering::SeqCst) => return,
                        Err(_) => {}
                    }
                }
                version += 1;
            }
        });
        Self { acknowledged, stop, task }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until this version was acknowledged.
    async fn wait_for(&self, version: u64) {
        let waiting = async {
            while self.acknowledged() < version {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("writes go on");
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        tokio::time::timeout(DEADLINE, self.task).await.expect("the writer ends").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burn_in_a_killed_agent_comes_back_and_never_with_a_lower_floor() {
    let host = Host::new();
    let (running, messages) = joined(&host).await;
    let _plane = Plane::start(&host.run_dir());
    let writer = Writer::start(running.control.clone(), messages);
    let agent = host.spawn();
    writer.wait_for(1).await;
    kill(agent).await;
    let rounds = number("RAP_BURN_IN_KILLS", 25);
    let (mut times, mut lowest, mut quarantined, mut empty) = (Vec::new(), 0, 0, 0);
    for round in 0..rounds {
        let agent = host.spawn();
        if round % 3 == 2 {
            // In the middle of its start.
            tokio::time::sleep(Duration::from_micros(round * 1009 % 80_000)).await;
        } else {
            let (status, took) = up(&host).await;
            times.push(took);
            let active = status["active"]["sequence"].as_u64();
            assert!(active.is_none_or(|active| active >= lowest), "round {round}: {active:?} below {lowest}");
            empty += u64::from(active.is_none());
            quarantined += status["cache"]["quarantined"].as_u64().unwrap();
            if round % 3 == 0 {
                // In the middle of a write: some were acknowledged, the next is under way.
                writer.wait_for(writer.acknowledged() + round % 4 + 1).await;
            }
            tokio::time::sleep(Duration::from_micros(round * 7919 % 50_000)).await;
        }
        kill(agent).await;
        let (acknowledged, stored) = (writer.acknowledged(), floor(&host));
        assert!(
            stored >= lowest.max(acknowledged),
            "round {round}: floor {stored}, before {lowest}, acknowledged {acknowledged}"
        );
        lowest = stored;
    }
    let agent = host.spawn();
    up(&host).await;
    writer.stop().await;
    terminate(agent).await;
    times.sort_unstable();
    assert!(lowest > rounds / 3, "there was no write load: floor {lowest}");
    println!(
        "{rounds} kills: floor {lowest}, no regression; up within {} ms at most, {} ms in the middle; started {empty} \
         times without a snapshot, {quarantined} caches moved aside",
        times.last().unwrap(),
        times[times.len() / 2]
    );
}

/// Every file below `folder`, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// The folder as it was.
fn restore(folder: &Path, pristine: &BTreeMap<PathBuf, Vec<u8>>) {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    std::fs::remove_dir_all(folder).unwrap();
    for (path, bytes) in pristine {
        let parent = path.parent().unwrap();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).unwrap();
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
        file.unwrap().write_all(bytes).unwrap();
    }
}

/// What a status document says that damage must not change.
pub fn identity_of(status: &Value) -> Vec<Value> {
    [
        "node_id",
        "cluster",
        "installation",
        "node_fingerprint",
        "authority_fingerprint",
        "pinned_key_ids",
        "roles",
    ]
    .map(|field| status[field].clone())
    .to_vec()
}

/// A host with a membership, a snapshot and a certificate on disk, whose control plane is gone.
async fn left_alone(host: &Host) -> (Value, BTreeMap<PathBuf, Vec<u8>>) {
    let (running, mut messages) = joined(host).await;
    for version in 1..=3 {
        let published = publish(&running.control, HeadOrder::new(1, version, 0), 2, FRESH);
        running.control.say(update(&published));
        if version == 1 {
            let agent = host.agent().await;
            heard(&mut messages, "ack", |body| matches!(body, node_message::Body::Ack(_))).await;
            // Once more from disk, so that the database has been reopened.
            terminate(agent).await;
        }
    }
    let agent = host.agent().await;
    let acked = |body: &node_message::Body| matches!(body, node_message::Body::Ack(ack) if ack.version == 3);
    heard(&mut messages, "version 3", acked).await;
    let status = host.status_when("version 3", |status| status["active"]["sequence"] == 3).await.1;
    terminate(agent).await;
    drop(running);
    (status, files(&host.data()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burn_in_no_cut_or_flipped_file_changes_who_the_node_is() {
    let host = Host::new();
    let _plane = Plane::start(&host.run_dir());
    let (before, pristine) = left_alone(&host).await;
    let offsets = number("RAP_BURN_IN_OFFSETS", 1);
    let (mut tried, mut kept, mut slowest) = (BTreeMap::<String, u64>::new(), 0, 0);
    for (path, bytes) in pristine.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        for number in 0..offsets {
            let at = (2 * number + 1) as usize * bytes.len() / (2 * offsets as usize);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << ((at + number as usize) % 8);
            for (damage, bad) in [("cut", &bytes[..at]), ("flip", &flipped[..])] {
                let name = path.strip_prefix(host.data()).unwrap().display().to_string();
                restore(&host.data(), &pristine);
                std::fs::write(path, bad).unwrap();
                let agent = host.spawn();
                let (status, took) = up(&host).await;
                kill(agent).await;
                let what = format!("{name} {damage} at {at}: {status}");
                assert_eq!(identity_of(&status), identity_of(&before), "{what}");
                let active = &status["active"];
                assert!(
                    active.is_null() || active["manifest_digest"] == before["active"]["manifest_digest"],
                    "{what}"
                );
                assert_eq!(floor(&host), 3, "{what}");
                kept += u64::from(!active.is_null());
                slowest = slowest.max(took);
                *tried.entry(format!("{} {damage}", kind(&name))).or_default() += 1;
            }
        }
    }
    let all: u64 = tried.values().sum();
    assert!(kept > 0 && kept <= all);
    println!(
        "{all} damages, 0 accepted, snapshot kept {kept} times, up within {slowest} ms at most: {tried:?}"
    );
}

/// `identity`, `credentials`, `floors`, `cache` and so on.
fn kind(name: &str) -> String {
    let name = name.strip_prefix("default/").unwrap_or(name);
    name.split(['/', '.', '-']).next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burn_in_two_damaged_copies_stop_the_membership_and_are_not_reset() {
    let host = Host::new();
    let (_, pristine) = left_alone(&host).await;
    let mut damaged = 0;
    for (path, bytes) in &pristine {
        let mut twin = path.clone().into_os_string();
        twin.push(".twin");
        let twin = PathBuf::from(twin);
        // A certificate can be issued again: two damaged copies of it are none.
        if !pristine.contains_key(&twin) || path.ends_with("certificate.json") {
            continue;
        }
        restore(&host.data(), &pristine);
        let mut bad = bytes.clone();
        bad[bytes.len() / 2] ^= 1;
        for copy in [path, &twin] {
            std::fs::write(copy, &bad).unwrap();
        }
        let agent = host.agent().await;
        let status = ask_status(&host.run_dir().join("agent.sock")).await;
        let runs = status.is_some_and(|status| status["active"].is_object());
        assert!(!runs, "{}: runs on a state it cannot know", path.display());
        terminate(agent).await;
        assert_eq!(std::fs::read(path).unwrap(), bad, "{}: evidence is left as it is", path.display());
        damaged += 1;
    }
    assert!(damaged >= 3, "identity, credentials and floors at least, {damaged}");
    println!("{damaged} kinds of files with two damaged copies: none started, none was reset");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burn_in_a_copy_that_is_gone_changes_nothing_and_is_made_again() {
    let host = Host::new();
    let _plane = Plane::start(&host.run_dir());
    let (before, pristine) = left_alone(&host).await;
    let durable = |path: &&PathBuf| {
        let kind = kind(&path.strip_prefix(host.data()).unwrap().display().to_string());
        ["identity", "credentials", "floors"].contains(&kind.as_str())
    };
    for path in pristine.keys().filter(durable) {
        restore(&host.data(), &pristine);
        std::fs::remove_file(path).unwrap();
        let agent = host.spawn();
        let (status, _) = up(&host).await;
        kill(agent).await;
        assert_eq!(identity_of(&status), identity_of(&before), "{}", path.display());
        assert_eq!(floor(&host), 3, "{}", path.display());
        assert!(path.exists(), "{}: is made again", path.display());
    }
}

pub const FRESH: Duration = Duration::from_secs(3600);
