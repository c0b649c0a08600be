//! Authentication of rows that feed a signature.
//!
//! Owns the MAC over a row's identity, version and columns, the ring of keys that make and check it,
//! and the encoding of columns. Refuses to own which columns a table has.
//!
//! A MAC does not name its key: a name beside it would be as writable as the row. It is tried under each
//! key of the ring, newest first; there are two during a rotation and one otherwise.

use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit as _, Mac as _};
use rap_contract::Reject;
use rap_types::{ClusterId, Digest, InstallationId, Reason, Wall};
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

rap_types::debug_as!(RowKeys, |keys| "RowKeys({})", keys.ring().keys.len());

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

    /// SHA-256 of the columns so far.
    pub fn digest(&self) -> Digest {
        Digest::of(&[&self.0])
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
mod tests;
