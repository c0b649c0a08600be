//! The cache and the snapshots in it: order, cap, damage of sled's own files.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rap_state::{Cache, CacheLimits, Change, MembershipDir, Snapshots, Tree};
use rap_types::{ClusterId, HeadOrder};
use support::{CLUSTER, assert_whole, limits, membership, open_cache, snapshot};

fn put(tree: Tree, key: &[u8], value: Vec<u8>) -> Change {
    Change::Put { tree, key: key.to_vec(), value }
}

fn order(version: u64) -> HeadOrder {
    HeadOrder::new(1, version, 0)
}

/// Regular files below `path`.
fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

async fn versions(snapshots: &Snapshots) -> Vec<u64> {
    snapshots.candidates().await.unwrap().iter().map(|found| found.order.version.0).collect()
}

#[tokio::test]
async fn candidates_come_back_highest_first_byte_for_byte_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let dir = membership(data.path());
    let cache = open_cache(&dir).await;
    let mut snapshots = Snapshots::new(cache.clone());
    for n in [2, 300, 1] {
        snapshots.put(snapshot(n)).await.unwrap();
    }
    cache.close().await.unwrap();
    let cache = open_cache(&dir).await;
    assert_eq!((cache.status().quarantined, cache.status().dropped), (0, 0));
    let snapshots = Snapshots::new(cache);
    let found = snapshots.candidates().await.unwrap();
    assert_eq!(found.iter().map(|found| found.order).collect::<Vec<_>>(), [order(300), order(2), order(1)]);
    found.iter().for_each(assert_whole);
}

#[tokio::test]
async fn activation_removes_older_snapshots_and_only_their_chunks() {
    let data = tempfile::tempdir().unwrap();
    let cache = open_cache(&membership(data.path())).await;
    let mut snapshots = Snapshots::new(cache.clone());
    for n in 1..=3 {
        snapshots.put(snapshot(n)).await.unwrap();
    }
    snapshots.discard(order(3)).await.unwrap();
    assert_eq!(versions(&snapshots).await, [2, 1]);
    snapshots.keep_only(order(2)).await.unwrap();
    let found = snapshots.candidates().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_whole(&found[0]);
    let keys = cache.keys(Tree::Snapshot, b"", usize::MAX).await.unwrap();
    assert_eq!(keys.len(), 1 + found[0].chunks.len(), "one record and its chunks");
}

#[tokio::test]
async fn chunk_that_is_not_there_is_named() {
    let data = tempfile::tempdir().unwrap();
    let mut snapshots = Snapshots::new(open_cache(&membership(data.path())).await);
    let mut partial = snapshot(1);
    let (absent, _) = partial.new_chunks.pop().unwrap();
    snapshots.put(partial).await.unwrap();
    assert_eq!(snapshots.candidates().await.unwrap()[0].missing, [absent]);
}

#[tokio::test]
async fn cap_refuses_a_write_whole_and_room_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let limits = CacheLimits { max_bytes: 10_000, ..limits() };
    let cache = Cache::open(&membership(data.path()), CLUSTER, limits).await.unwrap();
    cache.write(vec![put(Tree::Peers, b"a", vec![1; 6000])]).await.unwrap();
    let both = vec![put(Tree::Peers, b"b", vec![2; 1000]), put(Tree::Routes, b"c", vec![3; 6000])];
    let error = cache.write(both).await.unwrap_err();
    assert_eq!(error.code(), "state.full");
    assert_eq!(cache.read(Tree::Peers, b"b").await.unwrap(), None, "nothing of a refused write is there");
    // Replacing counts once, and removing first makes room within one write.
    cache.write(vec![put(Tree::Peers, b"a", vec![4; 9000])]).await.unwrap();
    let key = b"a".to_vec();
    cache
        .write_flushed(vec![
            Change::Remove { tree: Tree::Peers, key },
            put(Tree::Routes, b"c", vec![3; 6000]),
        ])
        .await
        .unwrap();
    assert!(cache.status().bytes < 10_000 && cache.status().bytes > 6000);
    assert_eq!(cache.status().failed, None);
}

#[tokio::test]
async fn files_that_outgrow_the_cap_are_rewritten_with_all_values() {
    let data = tempfile::tempdir().unwrap();
    let dir = membership(data.path());
    let limits = CacheLimits { max_bytes: 1 << 20, ..limits() };
    let cache = Cache::open(&dir, CLUSTER, limits).await.unwrap();
    // Far more than twice the cap plus the fixed allowance.
    for round in 0..600_u32 {
        let value = round.to_be_bytes().repeat(20_000);
        cache.write_flushed(vec![put(Tree::Update, &[(round % 8) as u8], value)]).await.unwrap();
    }
    let on_disk: u64 =
        files_below(&dir.join("cache")).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(on_disk < (18 << 20) + (1 << 20), "{on_disk}");
    cache.close().await.unwrap();
    let cache = Cache::open(&dir, CLUSTER, limits).await.unwrap();
    for round in 592..600_u32 {
        let value = cache.read(Tree::Update, &[(round % 8) as u8]).await.unwrap().unwrap();
        assert_eq!(value, round.to_be_bytes().repeat(20_000));
    }
    assert_eq!(cache.status().quarantined, 0);
}

#[tokio::test]
async fn values_of_another_cluster_are_dropped() {
    let data = tempfile::tempdir().unwrap();
    let dir = membership(data.path());
    let cache = open_cache(&dir).await;
    cache.write(vec![put(Tree::Peers, b"a", b"v".to_vec())]).await.unwrap();
    cache.close().await.unwrap();
    let other = Cache::open(&dir, ClusterId::from_bytes([8; 16]), limits()).await.unwrap();
    assert_eq!(other.read(Tree::Peers, b"a").await.unwrap(), None);
    assert_eq!((other.status().dropped, other.status().bytes), (1, 0));
}

#[tokio::test]
async fn second_owner_is_refused_until_the_first_closed() {
    let data = tempfile::tempdir().unwrap();
    let dir = membership(data.path());
    let cache = open_cache(&dir).await;
    assert_eq!(Cache::open(&dir, CLUSTER, limits()).await.unwrap_err().code(), "state.locked");
    let other = cache.clone();
    cache.close().await.unwrap();
    assert_eq!(other.flush().await.unwrap_err().code(), "state.io", "a closed cache says so");
    open_cache(&dir).await;
}

/// Whoever opens this file waits for ever.
fn pipe(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
}

#[tokio::test]
async fn database_that_hangs_while_opening_is_moved_aside_and_an_empty_one_serves() {
    let data = tempfile::tempdir().unwrap();
    let dir = membership(data.path());
    let cache = open_cache(&dir).await;
    cache.write(vec![put(Tree::Peers, b"a", b"v".to_vec())]).await.unwrap();
    cache.close().await.unwrap();
    let conf = dir.join("cache/db-1/conf");
    fs::remove_file(&conf).unwrap();
    pipe(&conf);
    let limits = CacheLimits { open_deadline: Duration::from_secs(3), ..limits() };
    let cache = Cache::open(&dir, CLUSTER, limits).await.unwrap();
    assert_eq!((cache.status().quarantined, cache.status().failed), (1, None));
    assert!(dir.join("quarantine-1/db-1/conf").exists());
    cache.write_flushed(vec![put(Tree::Peers, b"b", b"v".to_vec())]).await.unwrap();
    assert_eq!(cache.read(Tree::Peers, b"a").await.unwrap(), None);
    cache.close().await.unwrap();
}

#[tokio::test]
async fn open_that_misses_its_deadline_twice_fails_and_may_be_tried_again() {
    let data = tempfile::tempdir().unwrap();
    let dir = membership(data.path());
    open_cache(&dir).await.close().await.unwrap();
    pipe(&dir.join("cache/opening"));
    let hurried = CacheLimits { open_deadline: Duration::from_millis(100), ..limits() };
    let error = Cache::open(&dir, CLUSTER, hurried).await.unwrap_err();
    assert_eq!(error.code(), "state.timeout");
    fs::remove_file(dir.join("cache/opening")).unwrap();
    let cache = open_cache(&dir).await;
    assert_eq!((cache.status().quarantined, cache.status().failed), (0, None));
}

#[tokio::test]
async fn database_that_ended_two_processes_while_opening_is_moved_aside() {
    let data = tempfile::tempdir().unwrap();
    let dir = membership(data.path());
    let cache = open_cache(&dir).await;
    cache.write(vec![put(Tree::Peers, b"a", b"v".to_vec())]).await.unwrap();
    cache.close().await.unwrap();
    for (unfinished, quarantined) in [("1", 0), ("2", 1)] {
        fs::write(dir.join("cache/opening"), unfinished).unwrap();
        let cache = open_cache(&dir).await;
        assert_eq!(cache.status().quarantined, quarantined, "{unfinished}");
        assert!(!dir.join("cache/opening").exists());
        cache.close().await.unwrap();
    }
}

/// Opens a cache whose files were damaged, uses it, and says whether it was moved aside.
async fn up_after_damage(dir: &MembershipDir, what: &str) -> bool {
    let cache = open_cache(dir).await;
    assert_eq!(cache.status().failed, None, "{what}");
    let mut snapshots = Snapshots::new(cache.clone());
    for found in snapshots.candidates().await.unwrap() {
        // Chunks may be gone; what is there is what was stored.
        if found.missing.is_empty() {
            assert_whole(&found)
        } else {
            assert!(found.order <= order(3), "{what}")
        }
    }
    if let Err(error) = snapshots.put(snapshot(9)).await {
        // Damage that shows only on this write: the cache is empty then and takes it at once.
        assert_eq!(error.code(), "state.corrupt", "{what}");
        snapshots.put(snapshot(9)).await.unwrap();
    }
    assert_whole(&snapshots.candidates().await.unwrap()[0]);
    let quarantined = cache.status().quarantined;
    assert_eq!(dir.join("quarantine-1").exists(), quarantined > 0, "{what}");
    cache.close().await.unwrap();
    quarantined > 0
}

#[tokio::test]
async fn every_file_of_the_database_may_be_cut_or_flipped() {
    let data = tempfile::tempdir().unwrap();
    {
        let dir = membership(data.path());
        for n in 1..=3 {
            // Reopened each time, so that there is a recovery file too; a large value makes a blob file.
            let cache = open_cache(&dir).await;
            cache.write(vec![put(Tree::Update, b"large", vec![n as u8; 1 << 20])]).await.unwrap();
            Snapshots::new(cache.clone()).put(snapshot(n)).await.unwrap();
            cache.close().await.unwrap();
        }
    }
    let cache = data.path().join("home/cache");
    let files = files_below(&cache);
    assert!(files.iter().any(|path| path.to_string_lossy().contains("snap.")), "{files:?}");
    let (mut rounds, mut moved) = (0, 0);
    for path in &files {
        let bytes = fs::read(path).unwrap();
        // The head of each file densely, the rest at steps that hit no alignment.
        let steps =
            (0..bytes.len().min(48)).step_by(7).chain((48..bytes.len()).step_by(bytes.len() / 12 + 101));
        for at in steps {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            for (kind, bad) in [("cut", bytes[..at].to_vec()), ("flip", flipped)] {
                let copy = tempfile::tempdir().unwrap();
                let name = path.strip_prefix(data.path()).unwrap();
                for from in files_below(data.path()) {
                    let to = copy.path().join(from.strip_prefix(data.path()).unwrap());
                    fs::create_dir_all(to.parent().unwrap()).unwrap();
                    fs::copy(from, to).unwrap();
                }
                fs::write(copy.path().join(name), bad).unwrap();
                let what = format!("{} {kind} at {at}", name.display());
                moved += usize::from(up_after_damage(&membership(copy.path()), &what).await);
                rounds += 1;
            }
        }
    }
    println!("{rounds} damages, {moved} moved the cache aside");
    assert!(moved > 0 && moved < rounds, "{moved} of {rounds}");
}

#[tokio::test]
async fn what_cannot_be_a_file_of_the_database_is_moved_aside_unread() {
    let data = tempfile::tempdir().unwrap();
    let cache = data.path().join("home/cache");
    let write = async || {
        let opened = open_cache(&membership(data.path())).await;
        Snapshots::new(opened.clone()).put(snapshot(1)).await.unwrap();
        opened.close().await.unwrap();
    };
    write().await;
    let names: Vec<_> =
        files_below(&cache).into_iter().filter_map(|path| Some(path.file_name()?.to_owned())).collect();
    assert!(names.iter().any(|name| name == "conf") && names.iter().any(|name| name == "db"), "{names:?}");
    for name in ["conf", "db"] {
        for kind in ["directory", "pipe", "link", "huge"] {
            let place = files_below(&cache).into_iter().find(|path| path.ends_with(name)).unwrap();
            fs::remove_file(&place).unwrap();
            match kind {
                "directory" => fs::create_dir(&place).unwrap(),
                "pipe" => nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                "link" => std::os::unix::fs::symlink("/dev/zero", &place).unwrap(),
                _ => fs::File::create(&place).unwrap().set_len(1 << 42).unwrap(),
            }
            assert!(
                up_after_damage(&membership(data.path()), &format!("{name} {kind}")).await,
                "{name} {kind}"
            );
            write().await;
        }
    }
}
