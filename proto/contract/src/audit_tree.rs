//! The Merkle tree of the audit log: RFC 6962 hashing over any number of leaves, and its proofs.
//!
//! Owns hashing, making and checking proofs. Refuses to own entries and signatures. Unlike the map of
//! node manifests this tree only grows, and every earlier size of it can be proved.

use rap_types::{Digest, Reason};

use crate::Reject;

/// Hash of a leaf: SHA-256(0x00 || entry).
pub fn audit_leaf_hash(entry: &[u8]) -> Digest {
    Digest::of(&[&[0x00], entry])
}

/// Root of the tree without leaves: SHA-256 of nothing.
fn audit_empty_root() -> Digest {
    Digest::of(&[])
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[0x01], left.as_bytes(), right.as_bytes()])
}

/// Enough of a tree to append to it and to know its root: the hashes of its perfect subtrees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFrontier {
    size: u64,
    hashes: Vec<Digest>,
}

impl AuditFrontier {
    /// Takes stored parts: one hash for each bit that is set in `size`, the largest subtree first.
    pub fn from_parts(size: u64, hashes: Vec<Digest>) -> Option<Self> {
        (hashes.len() as u32 == size.count_ones()).then_some(Self { size, hashes })
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.hashes.pop().expect("one hash for each bit that is set");
            hash = node_hash(&left, &hash);
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Hashes of the perfect subtrees, the largest first.
    pub fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// The root.
    pub fn root(&self) -> Digest {
        let mut hashes = self.hashes.iter().rev();
        let Some(last) = hashes.next() else { return audit_empty_root() };
        hashes.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The whole tree, as the hashes of all its perfect subtrees: two hashes for each leaf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditTree {
    levels: Vec<Vec<Digest>>,
}

impl AuditTree {
    /// A tree of these leaf hashes.
    pub fn of(leaves: impl IntoIterator<Item = Digest>) -> Self {
        let mut tree = Self::default();
        for leaf in leaves {
            tree.push(leaf);
        }
        tree
    }

    /// Appends a leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level];
            hashes.push(hash);
            let count = hashes.len();
            if count % 2 == 1 {
                return;
            }
            hash = node_hash(&hashes[count - 2], &hashes[count - 1]);
        }
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Hash of one leaf.
    pub fn leaf(&self, index: u64) -> Option<Digest> {
        let index = usize::try_from(index).ok()?;
        self.levels.first()?.get(index).copied()
    }

    /// The root it had with `size` leaves; `None` if it never was that large.
    pub fn root(&self, size: u64) -> Option<Digest> {
        match size {
            0 => Some(audit_empty_root()),
            size if size <= self.size() => Some(self.range(0, size)),
            _ => None,
        }
    }

    /// The frontier it had with `size` leaves.
    pub fn frontier(&self, size: u64) -> Option<AuditFrontier> {
        if size > self.size() {
            return None;
        }
        let (mut hashes, mut start) = (Vec::new(), 0);
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            hashes.push(self.range(start, 1 << level));
            start += 1 << level;
        }
        AuditFrontier::from_parts(size, hashes)
    }

    /// The path from leaf `index` to the root of the tree with `size` leaves, from the leaf up.
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if size > self.size() || index >= size {
            return None;
        }
        let mut path = Vec::new();
        let (mut start, mut count) = (0, size);
        while count > 1 {
            let split = split(count);
            if index < start + split {
                path.push(self.range(start + split, count - split));
                count = split;
            } else {
                path.push(self.range(start, split));
                (start, count) = (start + split, count - split);
            }
        }
        path.reverse();
        Some(path)
    }

    /// The proof that the tree with `new` leaves begins with the one with `old` leaves.
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Digest>> {
        if old > new || new > self.size() {
            return None;
        }
        let mut proof = Vec::new();
        if old == 0 || old == new {
            return Some(proof);
        }
        let (mut start, mut count, mut known) = (0, new, true);
        loop {
            let wanted = old - start;
            if wanted == count {
                if !known {
                    proof.push(self.range(start, count));
                }
                break;
            }
            let split = split(count);
            if wanted <= split {
                proof.push(self.range(start + split, count - split));
                count = split;
            } else {
                proof.push(self.range(start, split));
                (start, count, known) = (start + split, count - split, false);
            }
        }
        proof.reverse();
        Some(proof)
    }

    /// Hash of `count` leaves from `start`; both as the splitting of RFC 6962 makes them.
    fn range(&self, start: u64, count: u64) -> Digest {
        if count.is_power_of_two() {
            let level = count.trailing_zeros();
            return self.levels[level as usize][(start >> level) as usize];
        }
        let split = split(count);
        node_hash(&self.range(start, split), &self.range(start + split, count - split))
    }
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Checks that a leaf is at `index` of the tree with this size and root (RFC 9162, 2.1.3.2).
///
/// # Errors
/// `audit.proof`.
pub fn check_audit_inclusion(
    leaf: Digest,
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> Result<(), Reject> {
    let refused = |what| Reject::new(Reason::AuditProof, what);
    if index >= size {
        return Err(refused("index is outside the tree"));
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return Err(refused("the path is too long"));
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            if node & 1 == 0 {
                let up = node.trailing_zeros();
                (node, last) = (node >> up, last >> up);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(refused("the path does not lead to the root")) }
}

/// Checks that a tree of `new.0` leaves with root `new.1` begins with the one of `old.0` leaves and
/// root `old.1` (RFC 9162, 2.1.4.2).
///
/// # Errors
/// `audit.proof`; `audit.inconsistent` for two roots of one size.
pub fn check_audit_consistency(
    old: (u64, Digest),
    new: (u64, Digest),
    proof: &[Digest],
) -> Result<(), Reject> {
    let refused = |what| Reject::new(Reason::AuditProof, what);
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return Err(refused("the older tree is larger"));
    }
    if old_size == new_size {
        if !proof.is_empty() {
            return Err(refused("one tree needs no proof"));
        }
        return if old_root == new_root {
            Ok(())
        } else {
            Err(Reject::new(Reason::AuditInconsistent, "two roots for one size"))
        };
    }
    if old_size == 0 {
        let empty = proof.is_empty() && old_root == audit_empty_root();
        return if empty { Ok(()) } else { Err(refused("the empty tree needs no proof")) };
    }
    let mut rest = proof.iter();
    let mut next = || rest.next().ok_or(refused("the proof is too short"));
    let first = if old_size.is_power_of_two() { old_root } else { *next()? };
    let below = (old_size - 1).trailing_ones();
    let (mut node, mut last) = ((old_size - 1) >> below, (new_size - 1) >> below);
    let (mut of_old, mut of_new) = (first, first);
    while last > 0 {
        let sibling = next()?;
        if node & 1 == 1 || node == last {
            of_old = node_hash(sibling, &of_old);
            of_new = node_hash(sibling, &of_new);
            if node & 1 == 0 {
                let up = node.trailing_zeros().min(u64::BITS - 1);
                (node, last) = (node >> up, last >> up);
            }
        } else {
            of_new = node_hash(&of_new, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if rest.next().is_some() {
        return Err(refused("the proof is too long"));
    }
    if of_old != old_root {
        return Err(refused("the proof does not lead to the older root"));
    }
    if of_new != new_root {
        return Err(refused("the proof does not lead to the newer root"));
    }
    Ok(())
}
