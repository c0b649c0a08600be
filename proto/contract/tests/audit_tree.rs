//! The audit tree against a second definition of it, over all pairs of sizes up to 64, and against
//! every way of altering a proof.

use proptest::prelude::*;
use rap_contract::*;
use rap_types::{Digest, Reason};

fn leaf(index: u64) -> Digest {
    audit_leaf_hash(&index.to_be_bytes())
}

/// The recursion as RFC 6962 writes it.
fn defined_root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(&[]),
        [one] => *one,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = (defined_root(&leaves[..split]), defined_root(&leaves[split..]));
            Digest::of(&[&[0x01], left.as_bytes(), right.as_bytes()])
        }
    }
}

fn tree(size: u64) -> AuditTree {
    AuditTree::of((0..size).map(leaf))
}

#[test]
fn roots_and_frontiers_of_every_size_are_those_of_the_definition() {
    let leaves: Vec<Digest> = (0..65).map(leaf).collect();
    let whole = tree(65);
    let mut frontier = AuditFrontier::default();
    for size in 0..=65 {
        let expected = defined_root(&leaves[..size as usize]);
        assert_eq!(whole.root(size), Some(expected), "{size}");
        assert_eq!(frontier.root(), expected, "{size}");
        assert_eq!(whole.frontier(size).as_ref(), Some(&frontier), "{size}");
        let stored = AuditFrontier::from_parts(size, frontier.hashes().to_vec()).unwrap();
        assert_eq!(stored, frontier);
        assert_eq!(AuditFrontier::from_parts(size + 1, [frontier.hashes(), &[leaf(9); 9]].concat()), None);
        if size < 65 {
            frontier.push(leaf(size));
        }
    }
    assert_eq!((whole.root(66), whole.frontier(66)), (None, None));
}

#[test]
fn known_roots() {
    // Test vectors that implementations of RFC 6962 share (certificate-transparency-go, merkletree tests).
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let tree = AuditTree::of(inputs.map(audit_leaf_hash));
    let expected = [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ];
    for (size, root) in expected {
        assert_eq!(tree.root(size).unwrap().to_string(), root, "{size}");
    }
}

#[test]
fn every_leaf_of_every_size_proves_itself_at_its_place_only() {
    let whole = tree(64);
    for size in 1..=64 {
        let root = whole.root(size).unwrap();
        for index in 0..size {
            let path = whole.inclusion(index, size).unwrap();
            check_audit_inclusion(leaf(index), index, size, &path, &root).unwrap();
            let refused = |leaf, index, size, path: &[Digest]| {
                let refusal = check_audit_inclusion(leaf, index, size, path, &root).unwrap_err();
                assert_eq!(refusal.reason, Reason::AuditProof);
            };
            refused(leaf(index + 1), index, size, &path);
            refused(leaf(index), size, size, &path);
            if size > 1 {
                refused(leaf(index), (index + 1) % size, size, &path);
                refused(leaf(index), index, size, &path[1..]);
            }
            refused(leaf(index), index, size, &[path.as_slice(), &[root]].concat());
            for at in 0..path.len() {
                let mut altered = path.clone();
                altered[at] = leaf(1000);
                refused(leaf(index), index, size, &altered);
            }
        }
        assert_eq!(whole.inclusion(size, size), None);
    }
    assert_eq!(whole.inclusion(0, 65), None);
}

#[test]
fn consistency_holds_between_all_pairs_of_sizes_and_for_no_altered_proof() {
    let whole = tree(64);
    for new in 0..=64 {
        let new_root = whole.root(new).unwrap();
        for old in 0..=new {
            let old_root = whole.root(old).unwrap();
            let proof = whole.consistency(old, new).unwrap();
            check_audit_consistency((old, old_root), (new, new_root), &proof).unwrap();
            let refused = |old, new, proof: &[Digest]| {
                assert!(check_audit_consistency(old, new, proof).is_err(), "{old:?} {new:?}");
            };
            refused((old, old_root), (new, new_root), &[proof.as_slice(), &[leaf(0)]].concat());
            refused((old, leaf(999)), (new, new_root), &proof);
            if old > 0 && old < new {
                refused((old, old_root), (new, leaf(999)), &proof);
                refused((old, old_root), (new, new_root), &proof[1..]);
                refused((old, old_root), (new, new_root), &[]);
            }
            if old != new {
                refused((new, new_root), (old, old_root), &proof);
            }
            for at in 0..proof.len() {
                let mut altered = proof.clone();
                altered[at] = leaf(1000);
                refused((old, old_root), (new, new_root), &altered);
            }
        }
        assert_eq!(whole.consistency(new, 65), None);
    }
}

#[test]
fn two_roots_for_one_size_are_named_as_what_they_are() {
    let refusal = check_audit_consistency((3, leaf(1)), (3, leaf(2)), &[]).unwrap_err();
    assert_eq!(refusal.reason, Reason::AuditInconsistent);
}

proptest! {
    #[test]
    fn proofs_of_larger_trees_verify_and_rewritten_history_has_none(
        size in 2u64..3000, old in 1u64..3000, rewritten in 0u64..3000
    ) {
        let (old, rewritten) = (old % size, rewritten % size);
        let honest = tree(size);
        let other = AuditTree::of((0..size).map(|index| leaf(if index == rewritten { 1 << 40 } else { index })));
        let (root, forged) = (honest.root(size).unwrap(), other.root(size).unwrap());
        let path = honest.inclusion(rewritten, size).unwrap();
        prop_assert!(check_audit_inclusion(leaf(rewritten), rewritten, size, &path, &root).is_ok());
        prop_assert!(check_audit_inclusion(leaf(rewritten), rewritten, size, &path, &forged).is_err());
        let before = (old, honest.root(old).unwrap());
        let proof = honest.consistency(old, size).unwrap();
        prop_assert!(check_audit_consistency(before, (size, root), &proof).is_ok());
        let forged_proof = other.consistency(old, size).unwrap();
        // What was rewritten after the older tree is no contradiction of it.
        let contradicts = rewritten < old;
        prop_assert_eq!(check_audit_consistency(before, (size, forged), &forged_proof).is_err(), contradicts);
    }

    #[test]
    fn no_flipped_bit_of_a_proof_is_accepted(size in 1u64..200, index in 0u64..200, bit in 0usize..256, at in 0usize..8) {
        let index = index % size;
        let whole = tree(size);
        let root = whole.root(size).unwrap();
        let mut path = whole.inclusion(index, size).unwrap();
        if !path.is_empty() {
            let at = at % path.len();
            let mut bytes = *path[at].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            path[at] = Digest::from_bytes(bytes);
            prop_assert!(check_audit_inclusion(leaf(index), index, size, &path, &root).is_err());
        }
    }
}
