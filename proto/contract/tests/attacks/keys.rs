//! Public keys that must not be admitted.

use super::{Vector, vector};
use crate::fixture::*;

pub fn all() -> Vec<Vector> {
    let one = |attack: &str, bytes: Vec<u8>, outcome| vector("public-key", attack, bytes, outcome);
    let mut order_two = vec![0xec];
    order_two.extend([0xff; 30]);
    order_two.push(0x7f);
    let mut sign_of_identity = vec![1];
    sign_of_identity.extend([0; 30]);
    sign_of_identity.push(0x80);
    let mut second_encoding = vec![0xee];
    second_encoding.extend([0xff; 30]);
    second_encoding.push(0x7f);
    let mut identity = vec![1];
    identity.extend([0; 31]);
    vec![
        one("valid", node_key().public().to_vec(), "ok"),
        one("all-zero", vec![0; 32], "key.invalid"),
        one("identity-point", identity, "key.invalid"),
        one("order-two-point", order_two, "key.invalid"),
        one("second-encoding-of-identity", second_encoding, "key.invalid"),
        one("negative-zero-x", sign_of_identity, "key.invalid"),
        one("short", vec![7; 31], "key.invalid"),
        one("long", vec![7; 33], "key.invalid"),
        one("off-curve", [vec![2], vec![0; 31]].concat(), "key.invalid"),
    ]
}
