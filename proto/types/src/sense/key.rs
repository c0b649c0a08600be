//! WireGuard public keys: canonical points of Curve25519 that are not of small order.

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
    if SMALL_ORDER.contains(&key) {
        return Err("the WireGuard key is a point of small order");
    }
    Ok(key)
}

/// The x-coordinates of all points of the curve and of its twist that eight times is the neutral point: 0, 1, p - 1 and
/// both of order 8.
#[rustfmt::skip]
const SMALL_ORDER: [[u8; 32]; 5] = [
    [
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ],
    [
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
        0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
        0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
];

/// True if the little-endian number is below p = 2^255 - 19.
fn is_canonical(key: &[u8; 32]) -> bool {
    let top = key[31] == 0x7f && key[1..31].iter().all(|byte| *byte == 0xff);
    key[31] < 0x80 && !(top && key[0] >= 0xed)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::MontgomeryPoint;
    use curve25519_dalek::traits::IsIdentity as _;

    use super::*;

    /// The cofactor of the curve is 8, that of its twist 4: eight times a point of small order is the neutral point.
    fn is_small(key: [u8; 32]) -> bool {
        MontgomeryPoint(key).mul_bits_be([true, false, false, false].into_iter()).is_identity()
    }

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
        assert!(SMALL_ORDER.into_iter().all(is_small));
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
            assert!(!is_small(key));
        }
        assert_eq!(wireguard_key(&[9; 31]), Err("a WireGuard key has 32 bytes"));
        assert_eq!(wireguard_key(&[9; 33]), Err("a WireGuard key has 32 bytes"));
        let below_p = hex(&format!("eb{}7f", "ff".repeat(30)));
        assert_eq!(wireguard_key(&below_p), Ok(below_p), "p - 2 is canonical and of large order");
    }
}
