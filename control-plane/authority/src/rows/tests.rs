//! Seals and verifies rows under keys, old and new.

use super::*;

fn data_key(byte: u8) -> SealingKey {
    SealingKey::from_slice(&[byte; 32]).unwrap()
}

#[test]
fn a_mac_holds_for_its_row_only() {
    let key = RowKey::of(&data_key(1));
    let installation = InstallationId::from_bytes([1; 16]);
    let stored = row_mac(&key, installation, "nodes", b"id", 1, &[b"ab", b"c"]);
    let holds = |table, id: &[u8], version, columns: &[&[u8]]| {
        key.check(installation, table, id, version, columns, &stored).is_ok()
    };
    assert!(holds("nodes", b"id", 1, &[b"ab", b"c"]));
    assert!(!holds("nodes", b"id", 1, &[b"a", b"bc"]));
    assert!(!holds("nodes", b"id", 2, &[b"ab", b"c"]));
    assert!(!holds("nodes", b"di", 1, &[b"ab", b"c"]));
    assert!(!holds("tokens", b"id", 1, &[b"ab", b"c"]));
    let other = RowKey::of(&data_key(2));
    assert!(other.check(installation, "nodes", b"id", 1, &[b"ab", b"c"], &stored).is_err());
}

#[test]
fn a_ring_seals_under_the_newest_key_and_verifies_under_every_live_one() {
    let installation = InstallationId::from_bytes([1; 16]);
    let columns = Columns::new().text("edge-1").number(7);
    let cluster = ClusterId::from_bytes([3; 16]);
    let old = RowKeys::of_cluster(installation, cluster, &data_key(1));
    let stored = old.seal("nodes", "id", 1, &columns);
    let ring = RowKeys::of_cluster(installation, cluster, &data_key(2)).and_older(&data_key(1));
    assert_eq!(ring.check("nodes", "id", 1, &columns, &stored), Some(1));
    let renewed = ring.seal("nodes", "id", 1, &columns);
    assert_eq!(ring.check("nodes", "id", 1, &columns, &renewed), Some(0));
    assert_eq!(old.check("nodes", "id", 1, &columns, &renewed), None);
    let elsewhere = RowKeys::of_cluster(InstallationId::from_bytes([2; 16]), cluster, &data_key(1));
    assert_eq!(elsewhere.check("nodes", "id", 1, &columns, &stored), None);
    assert_eq!(ring.check("nodes", "id", 1, &columns, &stored[..31]), None);
    assert_eq!(ring.check("nodes", "id", 1, &columns, &[]), None);
    assert_eq!(format!("{ring:?}"), "RowKeys(2)");
}

/// Opens "wrapped" keys that are their own bytes.
struct Opens;

impl OpensDataKeys for Opens {
    fn open(&self, wrapped: &[(u64, Vec<u8>)]) -> Option<DataKeys> {
        let open = |(version, key): &(u64, Vec<u8>)| {
            Some((u32::try_from(*version).ok()?, SealingKey::from_slice(key)?))
        };
        DataKeys::of(wrapped.iter().map(open).collect::<Option<_>>()?)
    }

    fn unwrap(&self, _: u64, wrapped: &[u8]) -> Option<SealingKey> {
        SealingKey::from_slice(wrapped)
    }
}

#[test]
fn a_ring_learns_newer_keys_for_all_its_clones_and_never_goes_back() {
    let (installation, cluster) = (InstallationId::from_bytes([1; 16]), ClusterId::from_bytes([3; 16]));
    let columns = Columns::new().text("edge-1");
    let keys = |versions: &[u8]| {
        let keys = versions.iter().map(|version| (u32::from(*version), data_key(*version)));
        DataKeys::of(keys.collect()).unwrap()
    };
    let stored = |versions: &[u8]| versions.iter().map(|v| (u64::from(*v), vec![*v; 32])).collect::<Vec<_>>();
    let ring = |versions: &[u8]| {
        RowKeys::of_data_keys(installation, cluster, &keys(versions), Some(Arc::new(Opens)))
    };
    let sealed = |version: u8| ring(&[version]).seal("nodes", "id", 1, &columns);
    let old = ring(&[1]);
    let clone = old.clone();
    assert_eq!(clone.check("nodes", "id", 1, &columns, &sealed(2)), None);
    let now = old.learn(&stored(&[1, 2])).unwrap();
    assert_eq!(now.check("nodes", "id", 1, &columns, &sealed(2)), Some(0));
    assert_eq!((clone.newest_version(), clone.seal("nodes", "id", 1, &columns)), (2, sealed(2)));
    assert_eq!(clone.check("nodes", "id", 1, &columns, &sealed(1)), Some(1));
    // What an older snapshot held serves the rows of that snapshot and nothing else.
    let newer = ring(&[2]);
    let before = newer.learn(&stored(&[1, 2])).unwrap();
    assert_eq!(before.check("nodes", "id", 1, &columns, &sealed(1)), Some(1));
    assert_eq!(newer.check("nodes", "id", 1, &columns, &sealed(1)), None);
    // One version has one key: another one of its version is no key of this cluster.
    assert!(newer.learn(&[(2, vec![9; 32])]).is_none());
    assert_eq!(newer.is_newest(2, &[2; 32]), Some(true));
    assert_eq!(newer.is_newest(2, &[9; 32]), Some(false));
    assert_eq!(newer.is_newest(3, &[3; 32]), None);
    assert_eq!(newer.is_newest(2, &[0; 32]), None);
    // Keys that do not open teach nothing; a ring without an opener learns nothing.
    assert!(newer.learn(&[(3, vec![0; 32])]).is_none());
    assert!(RowKeys::of_cluster(installation, cluster, &data_key(1)).learn(&stored(&[2])).is_none());
}

#[test]
fn columns_that_differ_in_any_way_are_encoded_differently() {
    let all = [
        Columns::new(),
        Columns::new().text(""),
        Columns::new().text("ab"),
        Columns::new().text("a").text("b"),
        Columns::new().option(None),
        Columns::new().option(Some(b"")),
        Columns::new().option(Some(b"ab")),
        Columns::new().words(["ab"]),
        Columns::new().words(["a", "b"]),
        Columns::new().words(["b", "a"]),
        Columns::new().words(["a"]).words(["b"]),
        Columns::new().number(0),
        Columns::new().number(1),
        Columns::new().instant(Some(Wall(0))),
    ];
    for (at, one) in all.iter().enumerate() {
        for other in &all[at + 1..] {
            assert_ne!(one, other);
        }
    }
    assert_eq!(Columns::of(&[b"ab".as_slice()]), Columns::new().text("ab"));
}
