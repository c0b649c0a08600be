//! The Merkle map that binds every node's manifest into one signed root (RFC 6962 hashing).

use std::collections::BTreeMap;

use rap_types::{ClusterId, Digest, NodeId, Reason};

use crate::Reject;

/// Hash of one node's leaf.
///
/// SHA-256(0x00 || "rap.leaf.v1\0" || cluster || node || generation u64 BE || manifest root || salt).
pub fn leaf_hash(
    cluster: ClusterId,
    node: NodeId,
    node_generation: u64,
    manifest_root: &Digest,
    salt: &[u8; 32],
) -> Digest {
    Digest::of(&[
        &[0x00],
        b"rap.leaf.v1\0",
        cluster.as_bytes(),
        node.as_bytes(),
        &node_generation.to_be_bytes(),
        manifest_root.as_bytes(),
        salt,
    ])
}

fn inner_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[0x01], left.as_bytes(), right.as_bytes()])
}

/// A tree over a power of two of leaf hashes, all levels kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    levels: Vec<Vec<Digest>>,
}

impl MerkleTree {
    /// Builds the tree. Returns `None` unless the number of leaves is a power of two.
    pub fn build(leaves: Vec<Digest>) -> Option<Self> {
        if !leaves.len().is_power_of_two() {
            return None;
        }
        let mut levels = vec![leaves];
        while levels[levels.len() - 1].len() > 1 {
            let below = &levels[levels.len() - 1];
            levels.push(below.chunks_exact(2).map(|pair| inner_hash(&pair[0], &pair[1])).collect());
        }
        Some(Self { levels })
    }

    /// This tree with other leaves at some positions; those outside it are left out.
    #[must_use]
    pub fn with_leaves(&self, leaves: &BTreeMap<u64, Digest>) -> Self {
        let mut levels = self.levels.clone();
        let mut dirty: Vec<usize> = Vec::with_capacity(leaves.len());
        for (position, leaf) in leaves {
            if let Some(index) = usize::try_from(*position).ok().filter(|index| *index < levels[0].len()) {
                levels[0][index] = *leaf;
                dirty.push(index);
            }
        }
        for level in 1..levels.len() {
            dirty.iter_mut().for_each(|index| *index >>= 1);
            dirty.dedup();
            let (below, above) = levels.split_at_mut(level);
            for index in &dirty {
                above[0][*index] = inner_hash(&below[level - 1][index * 2], &below[level - 1][index * 2 + 1]);
            }
        }
        Self { levels }
    }

    /// The root.
    pub fn root(&self) -> Digest {
        self.levels[self.levels.len() - 1][0]
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.levels[0].len() as u64
    }

    /// Sibling hashes from the leaf level up; `None` for a position outside the tree.
    pub fn proof(&self, position: u64) -> Option<Vec<Digest>> {
        let mut index = usize::try_from(position).ok().filter(|index| *index < self.levels[0].len())?;
        let mut hashes = Vec::with_capacity(self.levels.len() - 1);
        for level in &self.levels[..self.levels.len() - 1] {
            hashes.push(level[index ^ 1]);
            index >>= 1;
        }
        Some(hashes)
    }
}

/// The root that a leaf at `position` and its sibling hashes lead to.
///
/// # Errors
/// `snapshot.proof` if the position is outside the tree or the number of hashes is not log2(tree_size).
pub fn root_from_proof(
    leaf: Digest,
    position: u64,
    tree_size: u64,
    hashes: &[Digest],
) -> Result<Digest, Reject> {
    if !tree_size.is_power_of_two() || position >= tree_size {
        return Err(Reject::new(Reason::SnapshotProof, "position is outside the tree"));
    }
    if hashes.len() as u32 != tree_size.trailing_zeros() {
        return Err(Reject::new(Reason::SnapshotProof, "number of hashes"));
    }
    let fold = |(hash, index): (Digest, u64), sibling: &Digest| {
        let hash = if index & 1 == 0 { inner_hash(&hash, sibling) } else { inner_hash(sibling, &hash) };
        (hash, index >> 1)
    };
    Ok(hashes.iter().fold((leaf, position), fold).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|index| Digest::of(&[&index.to_be_bytes()])).collect()
    }

    #[test]
    fn every_position_proves_itself_and_no_other() {
        for count in [1, 2, 4, 16, 64] {
            let leaves = leaves(count);
            let tree = MerkleTree::build(leaves.clone()).unwrap();
            for (position, leaf) in (0..count).zip(&leaves) {
                let proof = tree.proof(position).unwrap();
                assert_eq!(root_from_proof(*leaf, position, count, &proof), Ok(tree.root()));
                for other in (0..count).filter(|other| *other != position) {
                    assert_ne!(root_from_proof(*leaf, other, count, &proof), Ok(tree.root()));
                }
            }
            assert_eq!(tree.proof(count), None);
        }
    }

    #[test]
    fn a_tree_with_other_leaves_is_the_tree_built_of_them() {
        for count in [1, 2, 8, 64] {
            let before = leaves(count);
            let tree = MerkleTree::build(before.clone()).unwrap();
            for step in 1..=5 {
                let changed: BTreeMap<u64, Digest> = (0..count)
                    .step_by(step)
                    .map(|position| (position, Digest::of(&[b"new", &position.to_be_bytes()])))
                    .collect();
                let mut after = before.clone();
                changed.iter().for_each(|(position, leaf)| after[*position as usize] = *leaf);
                assert_eq!(Some(tree.with_leaves(&changed)), MerkleTree::build(after));
            }
            assert_eq!(tree.with_leaves(&BTreeMap::from([(count, before[0])])), tree);
        }
    }

    #[test]
    fn wrong_number_of_hashes_and_odd_sizes_are_refused() {
        let tree = MerkleTree::build(leaves(4)).unwrap();
        let proof = tree.proof(0).unwrap();
        assert!(root_from_proof(leaves(4)[0], 0, 4, &proof[..1]).is_err());
        assert!(root_from_proof(leaves(4)[0], 0, 2, &proof).is_err());
        assert!(root_from_proof(leaves(4)[0], 0, 3, &proof).is_err());
        assert_eq!(MerkleTree::build(leaves(3)), None);
        assert_eq!(MerkleTree::build(Vec::new()), None);
    }
}
