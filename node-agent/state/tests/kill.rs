//! kill -9 of a writer: floors never below what was acknowledged, the cache valid or empty.
//!
//! `RAP_STATE_KILL_ROUNDS` sets the number of rounds (default 20).

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rap_state::{FloorStore, Snapshots};
use support::{assert_whole, child, child_data, membership, open_cache, raise, snapshot};

fn rounds() -> u64 {
    std::env::var("RAP_STATE_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

/// The write order of an agent, acknowledged step by step on standard output, until killed.
#[tokio::test]
async fn child_writes_until_killed() {
    let Some(data) = child_data() else { return };
    let dir = membership(&data);
    let (mut floors, _) = FloorStore::open(&dir).unwrap();
    let mut snapshots = Snapshots::new(open_cache(&dir).await);
    let mut out = std::io::stdout();
    for n in floors.current().version.0 + 1.. {
        snapshots.put(snapshot(n)).await.unwrap();
        floors.raise(&raise(n)).unwrap();
        writeln!(out, "\nacknowledged {n}").and_then(|()| out.flush()).unwrap();
        snapshots.keep_only(snapshot(n).order).await.unwrap();
    }
}

/// When the writer dies.
enum Kill {
    /// During whatever follows this many acknowledgements.
    After(u64),
    /// This long after it started, so that the kill hits opening and recovery too.
    At(Duration),
}

/// Starts the writer, kills it, and returns the highest version it acknowledged, if any.
fn write_and_kill(data: &Path, kill: &Kill) -> u64 {
    let mut writer = child("child_writes_until_killed", data).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut versions =
        lines.filter_map(|line| line.strip_prefix("acknowledged ").map(|n| n.parse::<u64>().unwrap()));
    let mut highest = 0;
    match kill {
        Kill::After(count) => {
            for _ in 0..*count {
                highest = versions.next().expect("the writer ended by itself");
            }
        }
        Kill::At(delay) => {
            // Nothing is waited for: the moment of the fault is what varies.
            let (_open, never) = std::sync::mpsc::sync_channel::<()>(0);
            assert!(never.recv_timeout(*delay).is_err());
        }
    }
    writer.kill().unwrap();
    highest = versions.fold(highest, u64::max);
    writer.wait().unwrap();
    highest
}

#[tokio::test]
async fn killed_writer_never_leaves_a_floor_below_the_acknowledged_one() {
    let data = tempfile::tempdir().unwrap();
    let (mut quarantined, mut kept) = (0, 0);
    for round in 0..rounds() {
        let kill = match round % 2 {
            0 => Kill::After(round % 5 + 1),
            _ => Kill::At(Duration::from_micros(round * 731 % 30_000)),
        };
        let acknowledged = write_and_kill(data.path(), &kill);
        let dir = membership(data.path());
        let (floors, recovery) = FloorStore::open(&dir).unwrap();
        let floor = floors.current().version.0;
        assert!(floor >= acknowledged, "round {round}: floor {floor}, acknowledged {acknowledged}");
        assert_eq!(recovery.unhealed, None);
        let cache = open_cache(&dir).await;
        assert_eq!(cache.status().failed, None, "round {round}");
        let found = Snapshots::new(cache.clone()).candidates().await.unwrap();
        found.iter().for_each(assert_whole);
        quarantined += cache.status().quarantined;
        let usable = found.iter().any(|found| found.order.version.0 >= floor);
        assert!(
            usable || cache.status().quarantined > 0,
            "round {round}: a flushed snapshot is gone unannounced"
        );
        kept += u64::from(usable);
        cache.close().await.unwrap();
    }
    println!("{} kills, {kept} with the snapshot kept, {quarantined} caches moved aside", rounds());
}
