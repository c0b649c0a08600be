//! A full disk and a read-only one, on small file systems in a private mount namespace.

mod support;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rap_state::{Change, FloorStore, IdentityStore, Snapshots, Tree, space};
use rap_types::{Reason, Version};
use support::{
    assert_whole, child, child_data, credentials, fill, identity, membership, open_cache, raise, snapshot,
};

const NONE: Option<&str> = None;

/// Runs `name` in a child process, which makes its own mount namespace; says so if that is not allowed.
fn in_namespace(name: &str) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped {name}: needs root for a mount namespace");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let text = passes(name, data.path());
    text.lines()
        .filter(|line| line.starts_with("skipped") || line.starts_with("full"))
        .for_each(|line| println!("{line}"));
}

/// Runs the test `name` in a child process and gives what it printed.
fn passes(name: &str, data: &Path) -> String {
    let output = child(name, data).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text
}

/// A fresh file system of `size` at `path`; `false` if the kernel refuses.
fn mount_small(path: &Path, size: &str) -> bool {
    let options = format!("size={size},mode=0700");
    let made = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE))
        .and_then(|()| mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())));
    if let Err(error) = made {
        println!("skipped: no mount namespace: {error}");
    }
    made.is_ok()
}

/// The kernel refuses to make a file system read-only while a file on it is open for writing, and a cache that was closed ends
/// its threads a moment later.
fn remount(path: &Path, flags: MsFlags) {
    for _ in 0..500 {
        match mount(NONE, path, NONE, MsFlags::MS_REMOUNT | flags, NONE) {
            Err(nix::errno::Errno::EBUSY) => std::thread::park_timeout(Duration::from_millis(20)),
            made => return made.unwrap(),
        }
    }
    panic!("{} stays busy", path.display());
}

/// Takes all room but `leave` bytes.
fn exhaust(path: &Path, leave: u64) {
    let room = space::room(path).unwrap().available.saturating_sub(leave);
    fs::write(path.join("ballast"), vec![0; usize::try_from(room).unwrap()]).unwrap();
}

#[test]
fn full_disk_refuses_floors_with_its_own_code_at_every_amount_of_room() {
    in_namespace("child_full_disk");
}

#[test]
fn read_only_disk_is_readable_and_refuses_writes_with_its_own_code() {
    in_namespace("child_read_only_disk");
}

#[test]
fn cache_on_a_full_disk_stops_writing_and_is_whole_when_room_is_back() {
    in_namespace("child_full_disk_cache");
}

#[test]
fn child_full_disk() {
    let Some(data) = child_data() else { return };
    if !mount_small(&data, "1m") {
        return;
    }
    fill(&data, 1);
    let dir = membership(&data);
    let (mut floors, _) = FloorStore::open(&dir).unwrap();
    let (mut refused, mut version) = (0, 1);
    // From no room at all to room for both copies, so that every write of the sequence fails once.
    for pages in 0..6 {
        exhaust(&data, pages * 4096);
        match floors.raise(&raise(version + 1)) {
            Ok(_) => version += 1,
            Err(error) => {
                assert_eq!(error.reason(), Reason::StateNoSpace, "{error}");
                assert_eq!(floors.current().version, Version(version), "memory and answer agree");
                refused += 1;
            }
        }
        // What the disk has is never lower than what was acknowledged, full or not.
        let (reopened, _) = FloorStore::open(&dir).unwrap();
        assert!(reopened.current().version >= Version(version));
        fs::remove_file(data.join("ballast")).unwrap();
        floors.raise(&raise(version + 2)).unwrap();
        version += 2;
        assert_eq!(FloorStore::open(&dir).unwrap().0.current().version, Version(version));
    }
    assert!(refused > 0);
    exhaust(&data, 0);
    assert_eq!(space::probe(&data).unwrap_err().code(), "state.no_space");
    let (mut store, _) = IdentityStore::open(&dir).unwrap().unwrap();
    assert_eq!(store.replace_credentials(credentials(9)).unwrap_err().code(), "state.no_space");
    assert_eq!(IdentityStore::open(&dir).unwrap().unwrap().0.credentials(), &credentials(3));
    println!("full disk refused {refused} of 6 raises");
}

#[test]
fn child_read_only_disk() {
    let Some(data) = child_data() else { return };
    if !mount_small(&data, "8m") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        fill(&data, 1);
        let dir = membership(&data);
        let cache = open_cache(&dir).await;
        Snapshots::new(cache.clone()).put(snapshot(1)).await.unwrap();
        cache.close().await.unwrap();
        drop(dir);
        remount(&data, MsFlags::MS_RDONLY);

        assert_eq!(space::probe(&data).unwrap_err().code(), "state.read_only");
        let dir = membership(&data);
        let (mut floors, _) = FloorStore::open(&dir).unwrap();
        assert_eq!(floors.raise(&raise(2)).unwrap_err().code(), "state.read_only");
        assert_eq!(floors.current().version, Version(1));
        let (mut store, _) = IdentityStore::open(&dir).unwrap().unwrap();
        assert_eq!(store.identity().name, identity().name);
        let error = store.update(|identity| identity.tls_key_generation = 1).unwrap_err();
        assert_eq!(error.code(), "state.read_only");
        let cache = open_cache(&dir).await;
        assert_eq!(cache.status().failed.unwrap().reason, Reason::StateReadOnly);
        assert_eq!(cache.flush().await.unwrap_err().code(), "state.read_only");
        Snapshots::new(cache.clone()).candidates().await.unwrap().iter().for_each(assert_whole);
        cache.close().await.unwrap();
        assert_eq!(
            fs::read_dir(data.join("home"))
                .unwrap()
                .flatten()
                .filter(|e| e.file_name() == "quarantine-1")
                .count(),
            0
        );

        remount(&data, MsFlags::empty());
        let cache = open_cache(&dir).await;
        assert_eq!((cache.status().failed, cache.status().quarantined), (None, 0));
        let found = Snapshots::new(cache).candidates().await.unwrap();
        assert_eq!(found.len(), 1);
        assert_whole(&found[0]);
    });
}

/// A process of its own for each step: an agent whose disk is full ends and is started again.
#[test]
fn child_full_disk_cache() {
    let Some(data) = child_data() else { return };
    if !mount_small(&data, "8m") {
        return;
    }
    let step = |name: &str| passes(name, &data);
    for leave in [0, 4096, 16_384, 65_536, 262_144, 1 << 20] {
        step("child_stores_a_snapshot");
        exhaust(&data, leave);
        step("child_writes_until_refused");
        step("child_starts_on_the_full_disk");
        fs::remove_file(data.join("ballast")).unwrap();
        let text = step("child_starts_with_room_again");
        let fate = text.lines().find(|line| line.starts_with("afterwards")).unwrap();
        println!("full disk with {leave} bytes left: {fate}");
        fs::remove_dir_all(data.join("home")).unwrap();
    }
}

#[tokio::test]
async fn child_stores_a_snapshot() {
    let Some(data) = child_data() else { return };
    let cache = open_cache(&membership(&data)).await;
    assert_eq!(cache.status().failed, None);
    Snapshots::new(cache.clone()).put(snapshot(1)).await.unwrap();
    cache.close().await.unwrap();
}

#[tokio::test]
async fn child_writes_until_refused() {
    let Some(data) = child_data() else { return };
    let cache = open_cache(&membership(&data)).await;
    let large = |n: u8| vec![Change::Put { tree: Tree::Update, key: vec![n], value: vec![n; 400_000] }];
    let mut refused = None;
    for n in 0..20 {
        refused = cache.write_flushed(large(n)).await.err();
        if refused.is_some() {
            break;
        }
    }
    let error = refused.expect("a full disk takes no eight megabytes");
    assert_eq!(error.reason(), Reason::StateNoSpace, "{error}");
    let status = cache.status();
    assert_eq!(status.failed.expect("recorded").reason, Reason::StateNoSpace);
    assert_eq!(status.quarantined, 0, "a full disk is no damage");
    assert_eq!(
        cache.write(large(1)).await.unwrap_err().reason(),
        Reason::StateNoSpace,
        "no write after a failure"
    );
    cache.close().await.unwrap();
}

#[tokio::test]
async fn child_starts_on_the_full_disk() {
    let Some(data) = child_data() else { return };
    let cache = open_cache(&membership(&data)).await;
    Snapshots::new(cache.clone()).candidates().await.unwrap().iter().for_each(assert_whole);
    assert_eq!(cache.status().quarantined, 0, "up, and not by throwing the cache away");
    cache.close().await.unwrap();
}

#[tokio::test]
async fn child_starts_with_room_again() {
    let Some(data) = child_data() else { return };
    let cache = open_cache(&membership(&data)).await;
    let status = cache.status();
    assert_eq!(status.failed, None);
    let mut snapshots = Snapshots::new(cache.clone());
    let found = snapshots.candidates().await.unwrap();
    assert!(found.len() == 1 || status.quarantined == 1, "{status:?}");
    found.iter().for_each(assert_whole);
    snapshots.put(snapshot(2)).await.unwrap();
    println!("\nafterwards {} of 1 snapshots, {} moved aside", found.len(), status.quarantined);
    cache.close().await.unwrap();
}

#[test]
fn a_full_disk_at_start_is_read_from_a_copy_and_opened_when_there_is_room() {
    in_namespace("child_full_disk_at_start");
}

#[test]
fn child_full_disk_at_start() {
    let Some(data) = child_data() else { return };
    if !mount_small(&data, "8m") {
        return;
    }
    let step = |name: &str| passes(name, &data);
    step("child_stores_a_snapshot");
    exhaust(&data, 0);
    step("child_reads_on_the_full_disk_and_goes_on_with_room");
}

#[tokio::test]
async fn child_reads_on_the_full_disk_and_goes_on_with_room() {
    let Some(data) = child_data() else { return };
    let left = Path::new("/dev/shm/rap-cache-left-by-the-disk-test");
    fs::create_dir_all(left.join("blobs")).unwrap();
    let cache = open_cache(&membership(&data)).await;
    let stored = async || Snapshots::new(cache.clone()).candidates().await.unwrap();
    assert!(!left.exists(), "the copy of a killed process");
    assert_eq!(cache.status().failed.expect("no room").reason, Reason::StateNoSpace);
    let found = stored().await;
    found.iter().for_each(assert_whole);
    assert_eq!(found.len(), 1, "reading needs no room");
    let change = || vec![Change::Put { tree: Tree::Update, key: vec![1], value: vec![1; 1000] }];
    assert_eq!(cache.write(change()).await.unwrap_err().reason(), Reason::StateNoSpace);
    let copies = || fs::read_dir("/dev/shm").unwrap().flatten().filter(is_copy).count();
    assert_eq!(copies(), 1);
    fs::remove_file(data.join("ballast")).unwrap();
    cache.write_flushed(change()).await.expect("there is room");
    assert_eq!((cache.status().failed, copies()), (None, 0));
    assert_eq!(stored().await.len(), 1);
    cache.close().await.unwrap();
}

#[test]
fn a_disk_that_was_full_is_written_again_without_a_restart() {
    in_namespace("child_full_disk_while_it_runs");
}

#[tokio::test]
async fn child_full_disk_while_it_runs() {
    let Some(data) = child_data() else { return };
    if !mount_small(&data, "8m") {
        return;
    }
    let cache = open_cache(&membership(&data)).await;
    Snapshots::new(cache.clone()).put(snapshot(1)).await.unwrap();
    exhaust(&data, 65_536);
    let change = |n: u8| vec![Change::Put { tree: Tree::Update, key: vec![n], value: vec![n; 400_000] }];
    let mut refused = None;
    for n in 0..20 {
        refused = refused.or(cache.write_flushed(change(n)).await.err());
    }
    assert_eq!(refused.expect("no room").reason(), Reason::StateNoSpace);
    fs::remove_file(data.join("ballast")).unwrap();
    for _ in 0..1_500 {
        if cache.write_flushed(change(0)).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((cache.status().failed, cache.status().quarantined), (None, 0));
    let found = Snapshots::new(cache.clone()).candidates().await.unwrap();
    assert_eq!(found.len(), 1);
    found.iter().for_each(assert_whole);
    cache.close().await.unwrap();
}

/// A copy of this process's cache.
fn is_copy(entry: &fs::DirEntry) -> bool {
    let name = format!("rap-cache-{}-", std::process::id());
    entry.file_name().to_str().is_some_and(|found| found.starts_with(&name))
}
