//! A map whose versions share what did not change: 256 sorted buckets, copied only when written to.
//!
//! Owns the cost of a change: one bucket, however large the map. Refuses to own what is kept in it.

use std::fmt;
use std::sync::Arc;

use rap_types::{Digest, NodeId};

/// A key that spreads evenly over 256 buckets.
pub trait Spread: Ord + Clone {
    /// Its bucket.
    fn bucket(&self) -> u8;
}

impl Spread for Digest {
    /// The first byte: all bytes are evenly spread, and iteration is sorted.
    fn bucket(&self) -> u8 {
        self.as_bytes()[0]
    }
}

impl Spread for NodeId {
    /// The last byte: ids begin with the time and end with random bits (RFC 9562, UUIDv7).
    fn bucket(&self) -> u8 {
        self.as_bytes()[15]
    }
}

/// A map of which a clone costs one reference count, the first write to a clone 256, and every write one bucket.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    buckets: Arc<Vec<Arc<Bucket<K, V>>>>,
    len: usize,
}

/// Sorted by key: a copy of it is one allocation, and every change of a version copies buckets.
type Bucket<K, V> = Vec<(K, V)>;

fn position<K: Ord, V>(bucket: &[(K, V)], key: &K) -> Result<usize, usize> {
    bucket.binary_search_by(|(known, _)| known.cmp(key))
}

impl<K: Spread, V: Clone> SharedMap<K, V> {
    /// No entries.
    pub fn new() -> Self {
        let empty = Arc::new(Bucket::new());
        Self { buckets: Arc::new(vec![empty; BUCKETS]), len: 0 }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let bucket = &self.buckets[usize::from(key.bucket())];
        position(bucket, key).ok().map(|index| &bucket[index].1)
    }

    /// True if the key is there.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Puts a value in; returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let bucket = self.bucket_mut(&key);
        match position(bucket, &key) {
            Ok(index) => Some(std::mem::replace(&mut bucket[index].1, value)),
            Err(index) => {
                bucket.insert(index, (key, value));
                self.len += 1;
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let index = position(&self.buckets[usize::from(key.bucket())], key).ok()?;
        let (_, value) = self.bucket_mut(key).remove(index);
        self.len -= 1;
        Some(value)
    }

    fn bucket_mut(&mut self, key: &K) -> &mut Bucket<K, V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.buckets)[usize::from(key.bucket())])
    }
}

impl<K, V> SharedMap<K, V> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every entry, bucket by bucket and sorted within each: always the same order for the same keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { buckets: self.buckets.iter(), entries: [].iter() }
    }

    /// Entries in buckets that this map and `other` do not share: every one that differs is among them. Costs 256
    /// comparisons and those buckets, however large the maps.
    pub fn apart_from<'a>(&'a self, other: &Self) -> impl Iterator<Item = (&'a K, &'a V)> {
        let apart = self.buckets.iter().zip(&*other.buckets).filter(|(own, other)| !Arc::ptr_eq(own, other));
        apart.flat_map(|(own, _)| own.iter().map(|(key, value)| (key, value)))
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

/// Entries of a [`SharedMap`].
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    buckets: std::slice::Iter<'a, Arc<Bucket<K, V>>>,
    entries: std::slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.entries.next() {
                return Some((key, value));
            }
            self.entries = self.buckets.next()?.iter();
        }
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Spread, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Spread, V: Clone> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.buckets == other.buckets
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

const BUCKETS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(byte: u8) -> Digest {
        Digest::of(&[&[byte % 40]])
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((any::<u8>(), proptest::option::of(any::<u32>())), 0..200)) {
            let (mut map, mut model) = (SharedMap::new(), BTreeMap::new());
            for (byte, value) in steps {
                let key = key(byte);
                match value {
                    Some(value) => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    None => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert_eq!(map.len(), model.len());
            }
            prop_assert!(map.iter().eq(model.iter()), "digests iterate sorted");
            prop_assert_eq!(map.is_empty(), model.is_empty());
            prop_assert_eq!(model.into_iter().collect::<SharedMap<_, _>>(), map);
        }
    }

    #[test]
    fn what_two_maps_share_is_not_looked_at() {
        let mut map: SharedMap<Digest, u8> = (0..40).map(|byte| (key(byte), byte)).collect();
        let before = map.clone();
        assert_eq!(map.apart_from(&before).count(), 0);
        map.insert(key(3), 99);
        map.remove(&key(4));
        let of_bucket = |of: u8| (0..40).filter(|byte| key(*byte).bucket() == key(of).bucket()).count();
        assert!(map.apart_from(&before).any(|entry| entry == (&key(3), &99)));
        assert!(before.apart_from(&map).any(|entry| entry == (&key(4), &4)));
        assert!(map.apart_from(&before).count() < of_bucket(3) + of_bucket(4));
    }

    #[test]
    fn a_clone_keeps_what_the_original_changes() {
        let mut map: SharedMap<Digest, u8> = (0..40).map(|byte| (key(byte), byte)).collect();
        let before = map.clone();
        map.insert(key(3), 99);
        map.remove(&key(4));
        assert_eq!((before.get(&key(3)), before.get(&key(4)), before.len()), (Some(&3), Some(&4), 40));
        assert_eq!((map.get(&key(3)), map.get(&key(4)), map.len()), (Some(&99), None, 39));
        assert_ne!(map, before);
    }
}
