//! A manifest: the sorted slots of one node, and its root over 256 buckets.

use std::sync::Arc;

use rap_types::{Digest, Reason};
use rap_wire::v1;

use crate::Reject;

/// Most slots a manifest may have.
pub const SLOTS_CAP: usize = 100_000;

/// Longest slot key, bytes.
const KEY_CAP: usize = 128;

/// Slot key -> chunk id. Buckets are shared between versions and keep their
/// hashes, so a delta costs only the buckets it touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    buckets: Arc<Vec<Arc<Bucket>>>,
    count: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bucket {
    /// Sorted by key. Copies of a bucket share the keys.
    slots: Vec<(Arc<str>, Digest)>,
    hash: Digest,
}

impl Manifest {
    /// No slots.
    pub fn new() -> Self {
        let empty = Arc::new(Bucket { hash: bucket_hash(std::iter::empty()), slots: Vec::new() });
        Self { buckets: Arc::new(vec![empty; 256]), count: 0 }
    }

    /// Builds a manifest from slots in any order.
    pub fn from_slots(slots: impl IntoIterator<Item = (String, Digest)>) -> Self {
        let mut manifest = Self::new();
        for (key, chunk) in slots {
            let bucket = manifest.bucket_mut(bucket_of(&key));
            manifest.count += usize::from(bucket.put(&key, chunk));
        }
        for bucket in Arc::make_mut(&mut manifest.buckets) {
            if !bucket.slots.is_empty() {
                let bucket = Arc::make_mut(bucket);
                bucket.rehash();
            }
        }
        manifest
    }

    /// Reads wire slots, which must be sorted by key with no repeats.
    ///
    /// # Errors
    /// `snapshot.manifest`, `snapshot.too_large`.
    pub fn from_wire(slots: &[v1::Slot]) -> Result<Self, Reject> {
        Self::new().apply(slots, &[] as &[&str])
    }

    /// This manifest with `set` put in and `removed` taken out. Both must be sorted with no repeats, and
    /// every removed key must be there.
    ///
    /// # Errors
    /// `snapshot.manifest`, `snapshot.too_large`.
    pub fn apply<K: AsRef<str>>(&self, set: &[v1::Slot], removed: &[K]) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::SnapshotManifest, what);
        Reject::when(set.len() > SLOTS_CAP, Reason::SnapshotTooLarge, "slots")?;
        if !set.windows(2).all(|pair| pair[0].key < pair[1].key)
            || !removed.windows(2).all(|pair| pair[0].as_ref() < pair[1].as_ref())
        {
            return Err(malformed("slots are not sorted"));
        }
        let mut next = self.clone();
        let mut touched = std::collections::BTreeSet::new();
        for key in removed {
            let bucket = bucket_of(key.as_ref());
            if !next.bucket_mut(bucket).take_out(key.as_ref()) {
                return Err(malformed("removes a slot that is not there"));
            }
            next.count -= 1;
            touched.insert(bucket);
        }
        for slot in set {
            if slot.key.is_empty() || slot.key.len() > KEY_CAP {
                return Err(malformed("slot key length"));
            }
            let chunk = Digest::from_slice(&slot.chunk_id).map_err(|_| malformed("chunk id length"))?;
            let bucket = bucket_of(&slot.key);
            next.count += usize::from(next.bucket_mut(bucket).put(&slot.key, chunk));
            touched.insert(bucket);
        }
        Reject::when(next.count > SLOTS_CAP, Reason::SnapshotTooLarge, "slots")?;
        for index in touched {
            next.bucket_mut(index).rehash();
        }
        Ok(next)
    }

    fn bucket_mut(&mut self, index: usize) -> &mut Bucket {
        Arc::make_mut(&mut Arc::make_mut(&mut self.buckets)[index])
    }

    /// SHA-256("rap.manifest.v1\0" || 256 bucket hashes).
    pub fn root(&self) -> Digest {
        Digest::of(&[&self.preimage().0])
    }

    /// What [`Self::root`] is the hash of.
    pub fn preimage(&self) -> ManifestPreimage {
        let mut bytes = Vec::with_capacity(TAG.len() + 256 * 32);
        bytes.extend_from_slice(TAG);
        for bucket in &*self.buckets {
            bytes.extend_from_slice(bucket.hash.as_bytes());
        }
        ManifestPreimage(bytes)
    }

    /// Hash of the bucket `index`.
    pub fn bucket_hash(&self, index: u8) -> Digest {
        self.buckets[usize::from(index)].hash
    }

    /// Hash of the bucket `index` if these slots of it were put in (`Some`) or taken out (`None`).
    pub fn bucket_hash_with(&self, index: u8, changes: &[(&str, Option<Digest>)]) -> Digest {
        let slots = self.buckets[usize::from(index)].iter();
        let kept = slots.filter(|(key, _)| changes.iter().all(|(changed, _)| changed != key));
        let put = changes.iter().filter_map(|(key, chunk)| chunk.map(|chunk| (*key, chunk)));
        let mut all: Vec<(&str, Digest)> = kept.chain(put).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        bucket_hash(all.into_iter())
    }

    /// The chunk of a slot.
    pub fn chunk(&self, key: &str) -> Option<Digest> {
        self.buckets[bucket_of(key)].chunk(key)
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without slots.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every slot, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter())
    }

    /// Every slot sorted by key, as it travels.
    pub fn to_wire(&self) -> Vec<v1::Slot> {
        let mut slots: Vec<v1::Slot> = self
            .iter()
            .map(|(key, chunk)| v1::Slot { key: key.to_owned(), chunk_id: chunk.to_vec() })
            .collect();
        slots.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        slots
    }

    /// Slots of which the chunk differs between `self` and `next`, sorted by key.
    pub(crate) fn changes<'a>(&'a self, next: &'a Self) -> Vec<SlotChange<'a>> {
        let mut changes = Vec::new();
        for (old, new) in self.buckets.iter().zip(&*next.buckets).filter(|(old, new)| old.hash != new.hash) {
            for (key, chunk) in new.iter() {
                let before = old.chunk(key);
                if before != Some(chunk) {
                    changes.push(SlotChange { key, before, after: Some(chunk) });
                }
            }
            let gone = old.iter().filter(|(key, _)| new.chunk(key).is_none());
            changes.extend(gone.map(|(key, chunk)| SlotChange { key, before: Some(chunk), after: None }));
        }
        changes.sort_unstable_by(|a, b| a.key.cmp(b.key));
        changes
    }

    /// What leads from `self` to `next`: (set, removed), both sorted.
    pub fn delta(&self, next: &Self) -> (Vec<v1::Slot>, Vec<String>) {
        let (mut set, mut removed) = (Vec::new(), Vec::new());
        for SlotChange { key, after, .. } in self.changes(next) {
            match after {
                Some(chunk) => set.push(v1::Slot { key: key.to_owned(), chunk_id: chunk.to_vec() }),
                None => removed.push(key.to_owned()),
            }
        }
        (set, removed)
    }
}

/// A slot of which the chunk differs between two manifests.
#[derive(Debug)]
pub(crate) struct SlotChange<'a> {
    /// Key of the slot.
    pub(crate) key: &'a str,
    /// Its chunk in the manifest before; `None` if it is new.
    pub(crate) before: Option<Digest>,
    /// Its chunk in the manifest after; `None` if it is gone.
    pub(crate) after: Option<Digest>,
}

impl Bucket {
    fn position(&self, key: &str) -> Result<usize, usize> {
        self.slots.binary_search_by(|(known, _)| (**known).cmp(key))
    }

    fn chunk(&self, key: &str) -> Option<Digest> {
        self.position(key).ok().map(|index| self.slots[index].1)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.slots.iter().map(|(key, chunk)| (&**key, *chunk))
    }

    /// True if the slot was not there before.
    fn put(&mut self, key: &str, chunk: Digest) -> bool {
        match self.position(key) {
            Ok(index) => self.slots[index].1 = chunk,
            Err(index) => {
                self.slots.insert(index, (key.into(), chunk));
                return true;
            }
        }
        false
    }

    /// True if the slot was there.
    fn take_out(&mut self, key: &str) -> bool {
        self.position(key).map(|index| self.slots.remove(index)).is_ok()
    }

    fn rehash(&mut self) {
        self.hash = bucket_hash(self.iter());
    }
}

/// The bytes whose SHA-256 is a manifest's root, of which single buckets can be replaced.
#[derive(Debug, Clone)]
pub struct ManifestPreimage(Vec<u8>);

impl ManifestPreimage {
    /// The root if these buckets had these hashes.
    pub fn root_with(&mut self, replaced: [(u8, Digest); 2]) -> Digest {
        let range = |index: u8| {
            let start = TAG.len() + usize::from(index) * 32;
            start..start + 32
        };
        let kept: Vec<[u8; 32]> = replaced
            .iter()
            .map(|(index, hash)| {
                let mut kept = [0; 32];
                let place = &mut self.0[range(*index)];
                kept.copy_from_slice(place);
                place.copy_from_slice(hash.as_bytes());
                kept
            })
            .collect();
        let root = Digest::of(&[&self.0]);
        for ((index, _), kept) in replaced.iter().zip(kept).rev() {
            self.0[range(*index)].copy_from_slice(&kept);
        }
        root
    }
}

impl Default for Manifest {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a slot: the first byte of SHA-256(slot key).
pub fn slot_bucket(key: &str) -> u8 {
    Digest::of(&[key.as_bytes()]).as_bytes()[0]
}

fn bucket_of(key: &str) -> usize {
    usize::from(slot_bucket(key))
}

/// Hash of slots that are sorted by key.
fn bucket_hash<'a>(slots: impl Iterator<Item = (&'a str, Digest)>) -> Digest {
    let mut bytes = b"rap.bucket.v1\0".to_vec();
    for (key, chunk) in slots {
        bytes.extend_from_slice(&(key.len() as u32).to_be_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(chunk.as_bytes());
    }
    Digest::of(&[&bytes])
}

const TAG: &[u8] = b"rap.manifest.v1\0";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn slots() -> impl Strategy<Value = BTreeMap<String, u8>> {
        proptest::collection::btree_map("[a-z]{1,3}", any::<u8>(), 0..40)
    }

    fn manifest(slots: &BTreeMap<String, u8>) -> Manifest {
        Manifest::from_slots(slots.iter().map(|(key, value)| (key.clone(), Digest::of(&[&[*value]]))))
    }

    proptest! {
        #[test]
        fn delta_applied_to_old_equals_new(a in slots(), b in slots()) {
            let (old, new) = (manifest(&a), manifest(&b));
            let (set, removed) = old.delta(&new);
            let applied = old.apply(&set, &removed).unwrap();
            prop_assert_eq!(applied.root(), new.root());
            prop_assert_eq!(&applied, &new);
            prop_assert_eq!(applied.len(), b.len());
        }

        #[test]
        fn roots_are_equal_only_for_equal_slots(a in slots(), b in slots()) {
            prop_assert_eq!(manifest(&a).root() == manifest(&b).root(), a == b);
        }

        #[test]
        fn wire_form_reads_back(a in slots()) {
            let manifest = manifest(&a);
            prop_assert_eq!(Manifest::from_wire(&manifest.to_wire()), Ok(manifest));
        }
    }

    proptest! {
        #[test]
        fn a_root_with_two_buckets_replaced_is_that_of_the_changed_manifest(
            a in slots(), put in "[a-z]{1,3}", out in "[a-z]{1,3}",
        ) {
            let base = manifest(&a);
            let chunk = Digest::of(&[b"put"]);
            let (put_bucket, out_bucket) = (slot_bucket(&put), slot_bucket(&out));
            let changes = [(out.as_str(), None), (put.as_str(), Some(chunk))];
            let in_bucket = |bucket| {
                changes.iter().copied().filter(|(key, _)| slot_bucket(key) == bucket).collect::<Vec<_>>()
            };
            let replaced = [put_bucket, out_bucket].map(|bucket| (bucket, base.bucket_hash_with(bucket, &in_bucket(bucket))));
            let mut preimage = base.preimage();
            let root = preimage.root_with(replaced);
            let mut changed = a;
            changed.remove(&out);
            let kept = changed.iter().filter(|(key, _)| **key != put);
            let slots = kept.map(|(key, value)| (key.clone(), Digest::of(&[&[*value]])));
            prop_assert_eq!(root, Manifest::from_slots(slots.chain([(put.clone(), chunk)])).root());
            prop_assert_eq!(preimage.root_with(replaced), root, "nothing of the first call is left behind");
        }
    }

    #[test]
    fn unsorted_repeated_and_absent_slots_are_refused() {
        let slot = |key: &str| v1::Slot { key: key.into(), chunk_id: vec![0; 32] };
        let reason = |set: &[v1::Slot], removed: &[&str]| {
            Manifest::new().apply(set, removed).err().map(|reject| reject.reason)
        };
        assert_eq!(reason(&[slot("b"), slot("a")], &[]), Some(Reason::SnapshotManifest));
        assert_eq!(reason(&[slot("a"), slot("a")], &[]), Some(Reason::SnapshotManifest));
        assert_eq!(reason(&[], &["a"]), Some(Reason::SnapshotManifest));
        assert_eq!(reason(&[slot("")], &[]), Some(Reason::SnapshotManifest));
        assert_eq!(reason(&[slot("a")], &[]), None);
    }
}
