//! WireGuard public keys: canonical points of Curve25519 that are not of small order.

use curve25519_dalek::MontgomeryPoint;
use curve25519_dalek::traits::IsIdentity as _;

/// The 32 bytes of a WireGuard public key that can be used.
///
/// # Errors
/// Says why not: another length, not the canonical form of a field element (bit 255 set, or p or more), or a point of
/// small order, which leads to a secret that everybody knows.
pub fn wireguard_key(bytes: &[u8]) -> Result<[u8; 32], &'static str> {
    let key: [u8; 32] = bytes.try_into().map_err(|_| "a WireGuard key has 32 bytes")?;
    if !is_canonical(&key) {
        return Err("the WireGuard key is not in canonical form");
    }
    // The cofactor of the curve is 8, that of its twist 4: eight times a point of small order is the neutral point.
    let eight = [true, false, false, false];
    if MontgomeryPoint(key).mul_bits_be(eight.into_iter()).is_identity() {
        return Err("the WireGuard key is a point of small order");
    }
    Ok(key)
}

/// True if the little-endian number is below p = 2^255 - 19.
fn is_canonical(key: &[u8; 32]) -> bool {
    let top = key[31] == 0x7f && key[1..31].iter().all(|byte| *byte == 0xff);
    key[31] < 0x80 && !(top && key[0] >= 0xed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> [u8; 32] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    const SMALL: &str = "the WireGuard key is a point of small order";
    const FORM: &str = "the WireGuard key is not in canonical form";

    #[test]
    fn every_point_of_small_order_and_every_second_encoding_is_refused() {
        let zero = "00".repeat(32);
        let one = format!("01{}", "00".repeat(31));
        let p_minus_one = format!("ec{}7f", "ff".repeat(30));
        // Both x-coordinates of the points of order 8.
        let eighth = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
        let other_eighth = "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157";
        for key in [&zero, &one, &p_minus_one, eighth, other_eighth] {
            assert_eq!(wireguard_key(&hex(key)), Err(SMALL), "{key}");
        }
        let p = format!("ed{}7f", "ff".repeat(30));
        let p_plus_one = format!("ee{}7f", "ff".repeat(30));
        let zero_with_bit_255 = format!("{}80", "00".repeat(31));
        let all_ones = "ff".repeat(32);
        for key in [&p, &p_plus_one, &zero_with_bit_255, &all_ones] {
            assert_eq!(wireguard_key(&hex(key)), Err(FORM), "{key}");
        }
        let mut high = hex(eighth);
        high[31] |= 0x80;
        assert_eq!(wireguard_key(&high), Err(FORM), "a point of order 8 with bit 255");
    }

    #[test]
    fn a_key_of_a_private_key_is_taken_and_one_of_another_length_is_not() {
        for scalar in 1..40u8 {
            let key = MontgomeryPoint::mul_base_clamped([scalar; 32]).to_bytes();
            assert_eq!(wireguard_key(&key), Ok(key), "{scalar}");
        }
        assert_eq!(wireguard_key(&[9; 31]), Err("a WireGuard key has 32 bytes"));
        assert_eq!(wireguard_key(&[9; 33]), Err("a WireGuard key has 32 bytes"));
        let below_p = hex(&format!("eb{}7f", "ff".repeat(30)));
        assert_eq!(wireguard_key(&below_p), Ok(below_p), "p - 2 is canonical and of large order");
    }
}
