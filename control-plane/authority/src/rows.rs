//! Authentication of rows that feed a signature.
//!
//! Owns the MAC over a row's identity, version and columns, the ring of keys that make and check it,
//! and the encoding of columns. Refuses to own which columns a table has.
//!
//! A MAC does not name its key: a name beside it would be as writable as the row. It is tried under each
//! key of the ring, newest first; there are two during a rotation and one otherwise.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rap_contract::Reject;
use rap_types::{ClusterId, InstallationId, Reason, Wall};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{DataKeys, OpensDataKeys, SealingKey};

/// Key of row MACs, derived from a data key.
#[derive(Clone)]
pub(crate) struct RowKey(Zeroizing<[u8; 32]>);

impl RowKey {
    /// The row key of a data key.
    pub(crate) fn of(data_key: &SealingKey) -> Self {
        Self(data_key.derive("rap.row-mac.v1"))
    }

    /// Checks the MAC stored with a row.
    ///
    /// # Errors
    /// `row.tampered`.
    pub(crate) fn check(
        &self,
        installation: InstallationId,
        table: &'static str,
        primary_key: &[u8],
        row_version: u64,
        columns: &[&[u8]],
        stored: &[u8],
    ) -> Result<(), Reject> {
        mac(self, installation, table, primary_key, row_version, &Columns::of(columns))
            .verify_slice(stored)
            .map_err(|_| Reject::new(Reason::RowTampered, table))
    }
}

/// The keys of one scope: rows are sealed under the newest and verified under any that is live.
///
/// Rows of a cluster are under its data keys, rows of the installation under a key derived from the
/// key encryption key. A ring that knows how to open data keys learns one that was added after it was
/// made; clones share what they learn. Prints nothing.
#[derive(Clone)]
pub struct RowKeys {
    installation: InstallationId,
    cluster: ClusterId,
    ring: Arc<RwLock<Ring>>,
    opens: Option<Arc<dyn OpensDataKeys>>,
}

/// Newest first; never empty.
#[derive(Clone)]
struct Ring {
    newest_version: u32,
    keys: Vec<RowKey>,
}

impl RowKeys {
    /// Keys of a cluster's rows: a ring of its only data key, which learns no other.
    pub fn of_cluster(installation: InstallationId, cluster: ClusterId, newest: &SealingKey) -> Self {
        let ring = Ring { newest_version: 1, keys: vec![RowKey::of(newest)] };
        Self { installation, cluster, ring: Arc::new(RwLock::new(ring)), opens: None }
    }

    /// Keys of a cluster's rows: a ring of its live data keys. With `opens` it learns newer ones.
    pub fn of_data_keys(
        installation: InstallationId,
        cluster: ClusterId,
        keys: &DataKeys,
        opens: Option<Arc<dyn OpensDataKeys>>,
    ) -> Self {
        Self { installation, cluster, ring: Arc::new(RwLock::new(Ring::of(keys))), opens }
    }

    /// Keys of the installation's own rows: a ring of the key encryption key.
    pub fn of_installation(installation: InstallationId, newest: &SealingKey) -> Self {
        Self::of_cluster(installation, ClusterId::ZERO, newest)
    }

    /// Whose rows these keys are for; zero for the installation's own. A row of another cluster is not
    /// looked for under these keys.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The same ring, which also verifies rows that were sealed under `older`.
    #[must_use]
    pub fn and_older(self, older: &SealingKey) -> Self {
        let mut ring = self.ring();
        ring.keys.push(RowKey::of(older));
        Self { ring: Arc::new(RwLock::new(ring)), ..self }
    }

    /// Version of the data key that seals.
    pub fn newest_version(&self) -> u32 {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).newest_version
    }

    /// Whether this ring can learn of data keys that were added since.
    pub fn learns(&self) -> bool {
        self.opens.is_some()
    }

    /// The ring with the data keys that are stored now, for the rows that were read with them; `None` if
    /// none of them opens, or if the newest is another one than this ring's of the same version. If a newer
    /// one is among them, this ring and its clones seal under it from now
    /// on. They go on to verify what they did: a row that was read before is not mistaken for an altered
    /// one.
    pub fn learn(&self, wrapped: &[(u64, Vec<u8>)]) -> Option<Self> {
        let mut stored = Ring::of(&self.opens.as_ref()?.open(wrapped)?);
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if !stored.agrees(&ring) {
            return None;
        }
        stored.keys.extend(ring.keys.iter().cloned());
        if stored.newest_version > ring.newest_version {
            ring.clone_from(&stored);
        }
        drop(ring);
        Some(Self { ring: Arc::new(RwLock::new(stored)), ..self.clone() })
    }

    /// Whether the ring's newest key is the one that is stored, wrapped, at this version; `None` if it is of
    /// another version, or does not open: the key encryption key may have been replaced meanwhile.
    pub fn is_newest(&self, version: u64, wrapped: &[u8]) -> Option<bool> {
        let stored = RowKey::of(&self.opens.as_ref()?.unwrap(version, wrapped)?);
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        (version == u64::from(ring.newest_version)).then(|| stored.0 == ring.keys[0].0)
    }

    /// The MAC of a row under the newest key.
    pub fn seal(&self, table: &str, key: &str, row_version: u64, columns: &Columns) -> [u8; 32] {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let mac = mac(&ring.keys[0], self.installation, table, key.as_bytes(), row_version, columns);
        mac.finalize().into_bytes().into()
    }

    /// Which key a stored MAC holds under: 0 for the newest. `None` if the row is not as it was sealed.
    pub fn check(
        &self,
        table: &str,
        key: &str,
        row_version: u64,
        columns: &Columns,
        stored: &[u8],
    ) -> Option<usize> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.keys.iter().position(|row_key| {
            mac(row_key, self.installation, table, key.as_bytes(), row_version, columns)
                .verify_slice(stored)
                .is_ok()
        })
    }

    fn ring(&self) -> Ring {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ring {
    fn of(keys: &DataKeys) -> Self {
        Self { newest_version: keys.newest().0, keys: keys.newest_first().map(RowKey::of).collect() }
    }

    /// One version has one key.
    fn agrees(&self, other: &Self) -> bool {
        self.newest_version != other.newest_version || self.keys[0].0 == other.keys[0].0
    }
}

impl fmt::Debug for RowKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowKeys({})", self.ring().keys.len())
    }
}

/// The covered columns of a row, one after another, each with its length.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Columns(Vec<u8>);

impl Columns {
    /// No columns yet.
    pub fn new() -> Self {
        Self(Vec::with_capacity(512))
    }

    fn of(columns: &[&[u8]]) -> Self {
        columns.iter().fold(Self::default(), |all, column| all.bytes(column))
    }

    /// Adds bytes, a key, an id.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        framed(&mut self.0, bytes);
        self
    }

    /// Adds text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Adds a boolean.
    #[must_use]
    pub fn flag(self, flag: bool) -> Self {
        self.bytes(&[u8::from(flag)])
    }

    /// Adds a nullable column: null differs from every value.
    #[must_use]
    pub fn option(self, value: Option<&[u8]>) -> Self {
        match value {
            None => self.bytes(&[0]),
            Some(value) => self.bytes(&[&[1], value].concat()),
        }
    }

    /// Adds a nullable instant.
    #[must_use]
    pub fn instant(self, at: Option<Wall>) -> Self {
        self.option(at.map(|at| at.0.to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice))
    }

    /// Adds an array of words, in this order.
    #[must_use]
    pub fn words<T: AsRef<str>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        for word in words {
            framed(&mut self.0, word.as_ref().as_bytes());
        }
        let length = u32::try_from(self.0.len() - start - 4).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self
    }
}

/// HMAC-SHA-256 over (installation, table, primary key, row version, columns), each with its length.
pub(crate) fn row_mac(
    key: &RowKey,
    installation: InstallationId,
    table: &str,
    primary_key: &[u8],
    row_version: u64,
    columns: &[&[u8]],
) -> [u8; 32] {
    let columns = Columns::of(columns);
    mac(key, installation, table, primary_key, row_version, &columns).finalize().into_bytes().into()
}

fn mac(
    key: &RowKey,
    installation: InstallationId,
    table: &str,
    primary_key: &[u8],
    row_version: u64,
    columns: &Columns,
) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.0.as_slice()).expect("HMAC takes keys of any length");
    let mut identity = Vec::with_capacity(160);
    identity.extend_from_slice(b"rap.row.v1\0");
    framed(&mut identity, installation.as_bytes());
    framed(&mut identity, table.as_bytes());
    framed(&mut identity, primary_key);
    framed(&mut identity, &row_version.to_be_bytes());
    mac.update(&identity);
    mac.update(&columns.0);
    mac
}

fn framed(to: &mut Vec<u8>, field: &[u8]) {
    to.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(field);
}

#[cfg(test)]
mod tests {
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
        let stored =
            |versions: &[u8]| versions.iter().map(|v| (u64::from(*v), vec![*v; 32])).collect::<Vec<_>>();
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
}
