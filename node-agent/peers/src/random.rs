//! Numbers from a seed: the jitter of a set of peers.

use std::time::Duration;

/// SplitMix64. Equal seeds give equal numbers; it keeps no secret.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The duration, up to a fifth shorter or longer.
    pub(crate) fn around(&mut self, duration: Duration) -> Duration {
        let thousandths = 800 + u32::try_from(self.next() % 401).unwrap_or_default();
        duration * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_fifth_and_follows_the_seed() {
        let minute = Duration::from_secs(60);
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| random.around(minute)).collect::<Vec<_>>()
        };
        let drawn = draw(1);
        assert!(drawn.iter().all(|one| (48_000..=72_000).contains(&one.as_millis())));
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(least.as_secs() < 50 && most.as_secs() >= 70, "{least:?} {most:?}");
        assert_eq!(draw(1), drawn);
        assert_ne!(draw(2), drawn);
    }
}
