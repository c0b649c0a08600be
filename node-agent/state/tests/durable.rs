//! Every durable file, cut at every byte and flipped at every bit.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rap_state::durable::twin;
use rap_state::{Durable, FloorStore, IdentityStore, Record, StateError};
use rap_types::{IdentityStatus, Version};
use support::{credentials, fill, identity, membership, raise};

/// Damages `path` in every way and calls `check` after each; the file is whole again afterwards.
fn with_each_damage(path: &Path, mut check: impl FnMut(&str)) {
    let bytes = fs::read(path).unwrap();
    for length in 0..bytes.len() {
        fs::write(path, &bytes[..length]).unwrap();
        check(&format!("{} cut to {length}", path.display()));
    }
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(path, &bad).unwrap();
        check(&format!("{} bit {bit}", path.display()));
    }
    fs::write(path, &bytes).unwrap();
}

/// tmpfs: these tests fsync tens of thousands of times.
fn scratch() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap()
}

fn files(data: &Path) -> [PathBuf; 3] {
    ["identity.json", "credentials-1.json", "floors.json"].map(|name| data.join("home").join(name))
}

#[test]
fn damage_to_one_copy_of_the_floors_is_healed_and_lowers_nothing() {
    let data = scratch();
    fill(data.path(), 5);
    let dir = membership(data.path());
    let path = dir.join("floors.json");
    for bad in [path.clone(), twin(&path)] {
        with_each_damage(&bad, |what| {
            let (floors, recovery) = FloorStore::open(&dir).unwrap();
            assert_eq!(floors.current().version, Version(5), "{what}");
            assert_eq!(recovery.replaced.len(), 1, "{what}");
            assert_eq!(recovery.replaced[0].0, bad, "{what}");
            assert_eq!(recovery.unhealed, None);
            assert!(FloorStore::open(&dir).unwrap().1.is_clean(), "{what}: not healed");
        });
    }
}

#[test]
fn damage_to_one_copy_of_identity_or_keys_is_healed() {
    let data = scratch();
    fill(data.path(), 5);
    let dir = membership(data.path());
    let [identity_file, keys, _] = files(data.path());
    for bad in [&identity_file, &twin(&identity_file), &keys, &twin(&keys)] {
        with_each_damage(bad, |what| {
            let (store, recovery) = IdentityStore::open(&dir).unwrap().expect(what);
            assert_eq!(store.identity().control_urls, identity().control_urls, "{what}");
            assert_eq!(store.credentials(), &credentials(3), "{what}");
            assert_eq!(recovery.replaced.len(), 1, "{what}");
            assert!(IdentityStore::open(&dir).unwrap().unwrap().1.is_clean(), "{what}: not healed");
        });
    }
}

#[test]
fn damage_to_both_copies_is_an_error_and_nothing_is_touched() {
    let data = scratch();
    fill(data.path(), 5);
    for path in files(data.path()) {
        let twin = twin(&path);
        let whole = fs::read(&path).unwrap();
        fs::write(&twin, &whole[..whole.len() - 1]).unwrap();
        with_each_damage(&path, |what| {
            let before = fs::read(&path).unwrap();
            let dir = membership(data.path());
            let error = match path.ends_with("floors.json") {
                true => FloorStore::open(&dir).unwrap_err(),
                false => IdentityStore::open(&dir).unwrap_err(),
            };
            assert_eq!(error.code(), "state.corrupt", "{what}");
            assert_eq!(fs::read(&path).unwrap(), before, "{what}");
            assert_eq!(fs::read(&twin).unwrap(), whole[..whole.len() - 1], "{what}");
        });
        fs::write(&twin, &whole).unwrap();
    }
}

#[test]
fn one_copy_absent_and_the_other_damaged_is_damage_not_absence() {
    let data = scratch();
    fill(data.path(), 5);
    let [_, _, floors] = files(data.path());
    fs::remove_file(&floors).unwrap();
    fs::write(twin(&floors), b"").unwrap();
    assert_eq!(FloorStore::open(&membership(data.path())).unwrap_err().code(), "state.corrupt");
}

#[test]
fn copy_that_is_a_generation_behind_is_replaced_by_the_newer() {
    let data = scratch();
    fill(data.path(), 5);
    let dir = membership(data.path());
    let path = dir.join("floors.json");
    for stale in [path.clone(), twin(&path)] {
        let (mut floors, _) = FloorStore::open(&dir).unwrap();
        let next = floors.current().version.0 + 1;
        let old = fs::read(&stale).unwrap();
        floors.raise(&raise(next)).unwrap();
        fs::write(&stale, old).unwrap();
        let (floors, recovery) = FloorStore::open(&dir).unwrap();
        assert_eq!(floors.current().version, Version(next));
        assert_eq!(recovery.replaced[0].0, stale);
    }
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Newer {
    number: u64,
}

impl Record for Newer {
    const SCHEMA: &'static str = "rap.floors.v2";
}

#[test]
fn newer_schema_stops_without_touching_either_file() {
    let data = scratch();
    fill(data.path(), 5);
    let dir = membership(data.path());
    let path = dir.join("floors.json");
    let kept = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(twin(&path)).unwrap();
    Durable::<Newer>::open(&path).unwrap().0.store(Newer { number: 1 }).unwrap();
    // Also when the other copy is one this program could read.
    for other in [fs::read(&path).unwrap(), kept] {
        fs::write(twin(&path), &other).unwrap();
        let first = fs::read(&path).unwrap();
        let error = FloorStore::open(&dir).unwrap_err();
        assert!(matches!(&error, StateError::Schema { found, .. } if found == "rap.floors.v2"), "{error}");
        assert_eq!(error.code(), "state.schema");
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::read(twin(&path)).unwrap(), other);
    }
}

#[test]
fn identity_is_plain_json_with_the_known_field_names_and_private_files() {
    let data = scratch();
    fill(data.path(), 5);
    let [path, keys, floors] = files(data.path());
    let document: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(document["schema"], "rap.identity.v1");
    for field in [
        "node_id",
        "identity_status",
        "node_fingerprint",
        "pending_join_request_id",
        "authority_required",
        "credential_ref",
    ] {
        assert!(document["body"].get(field).is_some(), "{field}");
    }
    assert_eq!(document["body"]["credential_ref"], "credentials-1.json");
    for path in [&path, &keys, &floors].into_iter().flat_map(|path| [path.clone(), twin(path)]) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn update_is_on_disk_and_cannot_swap_keys_or_lower_the_tls_generation() {
    let data = scratch();
    fill(data.path(), 5);
    let dir = membership(data.path());
    let (mut store, _) = IdentityStore::open(&dir).unwrap().unwrap();
    let fingerprint = store.identity().node_fingerprint;
    store
        .update(|identity| {
            identity.identity_status = IdentityStatus::Active;
            identity.tls_key_generation = 4;
            identity.credential_ref = "../../etc/shadow".into();
            identity.dev = true;
        })
        .unwrap();
    assert_eq!(
        store.update(|identity| identity.tls_key_generation = 3).unwrap_err().code(),
        "snapshot.rollback"
    );
    let (store, _) = IdentityStore::open(&dir).unwrap().unwrap();
    let found = store.identity();
    assert_eq!((found.identity_status, found.tls_key_generation), (IdentityStatus::Active, 4));
    assert_eq!((found.credential_ref.as_str(), found.dev), ("credentials-1.json", false));
    assert_eq!(found.node_fingerprint, fingerprint);
}

#[test]
fn replaced_keys_leave_one_pair_of_files_and_the_new_fingerprint() {
    let data = scratch();
    fill(data.path(), 5);
    let dir = membership(data.path());
    let (mut store, _) = IdentityStore::open(&dir).unwrap().unwrap();
    store.replace_credentials(credentials(9)).unwrap();
    let (store, _) = IdentityStore::open(&dir).unwrap().unwrap();
    assert_eq!(store.credentials(), &credentials(9));
    assert_eq!(Some(store.identity().node_fingerprint), credentials(9).node_fingerprint());
    let names =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut keys: Vec<_> = names.filter(|name| name.starts_with("credentials")).collect();
    keys.sort();
    assert_eq!(keys, ["credentials-2.json", "credentials-2.json.twin"]);
}

#[test]
fn keys_that_others_may_read_or_that_belong_to_another_identity_are_refused() {
    let data = scratch();
    fill(data.path(), 5);
    let [_, keys, _] = files(data.path());
    let dir = membership(data.path());
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(IdentityStore::open(&dir).unwrap_err().code(), "secret.exposed");
    let other = scratch();
    IdentityStore::create(&membership(other.path()), identity(), credentials(8)).unwrap();
    for (from, to) in
        [(files(other.path())[1].clone(), keys.clone()), (twin(&files(other.path())[1]), twin(&keys))]
    {
        fs::remove_file(&to).unwrap();
        fs::copy(from, to).unwrap();
    }
    let error = IdentityStore::open(&dir).unwrap_err();
    assert!(error.to_string().contains("node_fingerprint"), "{error}");
}

#[test]
fn second_identity_is_refused_and_no_secret_is_printed() {
    let data = scratch();
    fill(data.path(), 5);
    let dir = membership(data.path());
    let error = IdentityStore::create(&dir, identity(), credentials(1)).unwrap_err();
    assert_eq!(error.code(), "membership.exists");
    let (store, _) = IdentityStore::open(&dir).unwrap().unwrap();
    let printed = format!("{store:?} {:?}", store.credentials());
    assert!(!printed.contains("[3, 3") && !printed.contains("AwMD"), "{printed}");
}
