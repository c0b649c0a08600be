//! Ids and nonces from given time and generator.

use rand_core::CryptoRng;
use rap_types::Wall;

/// Unix milliseconds for a UUIDv7; zero before the epoch.
pub fn millis(now: Wall) -> u64 {
    u64::try_from(now.0).unwrap_or(0)
}

/// `N` random bytes.
pub fn random<const N: usize>(generator: &mut dyn CryptoRng) -> [u8; N] {
    let mut bytes = [0; N];
    generator.fill_bytes(&mut bytes);
    bytes
}
