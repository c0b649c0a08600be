//! The frame around every cached value: what it is, how long, whose, and a checksum.
//!
//! ```text
//! magic "RAPc" | schema u16 | cluster id 16 | length u32 | checksum 16 | value
//! ```
//! The checksum is the first half of SHA-256 over tree, key, the fields before it and the value, so a
//! value that turns up under another key or in another tree is damage too. Refuses to own authenticity:
//! signed objects are verified by their readers.

use rap_types::{ClusterId, Digest};

use super::terms::Tree;

/// Bytes that a frame adds to a value.
pub(crate) const OVERHEAD: usize = HEADER + CHECKSUM;

/// Wraps a value for its place.
pub(crate) fn seal(cluster: ClusterId, tree: Tree, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(OVERHEAD + value.len());
    frame.extend_from_slice(&header(cluster, value.len()));
    frame.extend_from_slice(&checksum(tree, key, &frame, value));
    frame.extend_from_slice(value);
    frame
}

/// The value in a frame, if frame and value are intact and belong to this place. A frame of another
/// schema or cluster is as useless as a damaged one.
pub(crate) fn open<'a>(cluster: ClusterId, tree: Tree, key: &[u8], frame: &'a [u8]) -> Option<&'a [u8]> {
    let (head, rest) = frame.split_at_checked(HEADER)?;
    let (sum, value) = rest.split_at_checked(CHECKSUM)?;
    let intact = head == header(cluster, value.len()) && sum == checksum(tree, key, head, value);
    intact.then_some(value)
}

fn header(cluster: ClusterId, length: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(b"RAPc");
    header[4..6].copy_from_slice(&SCHEMA.to_be_bytes());
    header[6..22].copy_from_slice(cluster.as_bytes());
    // Values are far below 4 GiB (the cap of a store); a longer one could not be read back.
    header[22..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    header
}

fn checksum(tree: Tree, key: &[u8], header: &[u8], value: &[u8]) -> [u8; CHECKSUM] {
    let name = tree.as_str().as_bytes();
    let lengths = [(name.len() as u64).to_be_bytes(), (key.len() as u64).to_be_bytes()];
    let digest = Digest::of(&[&lengths[0], name, &lengths[1], key, header, value]);
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&digest.as_bytes()[..CHECKSUM]);
    sum
}

const SCHEMA: u16 = 1;
const HEADER: usize = 4 + 2 + 16 + 4;
const CHECKSUM: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: ClusterId = ClusterId::from_bytes([1; 16]);

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let frame = seal(MINE, Tree::Peers, b"key", b"some value");
        assert_eq!(open(MINE, Tree::Peers, b"key", &frame), Some(&b"some value"[..]));
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(MINE, Tree::Peers, b"key", &bad), None, "bit {bit}");
        }
        for length in 0..frame.len() {
            assert_eq!(open(MINE, Tree::Peers, b"key", &frame[..length]), None, "length {length}");
        }
    }

    #[test]
    fn value_of_another_place_or_cluster_is_refused() {
        let frame = seal(MINE, Tree::Peers, b"key", b"v");
        assert_eq!(open(MINE, Tree::Routes, b"key", &frame), None);
        assert_eq!(open(MINE, Tree::Peers, b"kex", &frame), None);
        assert_eq!(open(ClusterId::from_bytes([2; 16]), Tree::Peers, b"key", &frame), None);
    }
}
