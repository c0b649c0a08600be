//! The per-cluster map key: leaf salts, padding leaves and the keyed permutation of positions.

use hmac::{Hmac, KeyInit, Mac};
use rap_types::{Digest, NodeId};

/// Secret that hides how many nodes a cluster has and who their neighbours in the tree are.
#[derive(Clone)]
pub struct MapKey([u8; 32]);

impl MapKey {
    /// Takes 32 secret bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes keys of any length");
        };
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Salt of a node's leaf in one generation.
    pub fn salt(&self, node: NodeId, generation: u64) -> [u8; 32] {
        self.hmac(&[b"rap.salt.v1\0", node.as_bytes(), &generation.to_be_bytes()])
    }

    /// Hash at a position no node holds; indistinguishable from a leaf.
    pub fn padding(&self, position: u64) -> Digest {
        Digest::from_bytes(self.hmac(&[b"rap.padding.v1\0", &position.to_be_bytes()]))
    }

    /// Where host number `index` stands in a tree of `size` leaves (a power of two): a bijection.
    ///
    /// Eight alternating Feistel rounds over the two halves of the index bits.
    pub fn position(&self, index: u64, size: u64) -> u64 {
        let bits = size.trailing_zeros();
        let (low_bits, high_bits) = (bits - bits / 2, bits / 2);
        let (low_mask, high_mask) = ((1u64 << low_bits) - 1, (1u64 << high_bits) - 1);
        let (mut low, mut high) = (index & low_mask, index >> low_bits & high_mask);
        for round in 0..8u8 {
            let input = if round % 2 == 0 { low } else { high };
            let mac = self.hmac(&[b"rap.position.v1\0", &[round], &size.to_be_bytes(), &input.to_be_bytes()]);
            let mask = u64::from_be_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], mac[6], mac[7]]);
            if round % 2 == 0 {
                high ^= mask & high_mask;
            } else {
                low ^= mask & low_mask;
            }
        }
        // With a single bit there is no high half to mix: flip it by the key.
        if bits == 1 {
            low ^= u64::from(self.hmac(&[b"rap.position.v1\0", &[8]])[0] & 1);
        }
        high << low_bits | low
    }
}

rap_types::debug_as!(MapKey, "MapKey(..)");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn positions_are_a_bijection_for_every_tree_size() {
        let key = MapKey::from_bytes([3; 32]);
        for bits in 0..10 {
            let size = 1u64 << bits;
            let positions: BTreeSet<u64> = (0..size).map(|index| key.position(index, size)).collect();
            assert_eq!(positions, (0..size).collect());
        }
    }

    #[test]
    fn another_key_gives_another_order() {
        let order = |byte| -> Vec<u64> {
            (0..64).map(|index| MapKey::from_bytes([byte; 32]).position(index, 64)).collect()
        };
        assert_ne!(order(1), order(2));
    }
}
