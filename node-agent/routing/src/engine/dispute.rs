//! Paths that take much longer than the relays on them say.
//!
//! Owns when a word is disputed. What was measured counts for the path itself; the relays that spoke cost more on every
//! path for a while.

use rap_types::{Mono, NodeId};

use super::Engine;
use crate::input::Probes;
use crate::path::Path;
use crate::terms::prior_us;

impl Engine {
    /// How many times a path was measured to take much longer than the relays on it say.
    pub const fn disputed(&self) -> u64 {
        self.disputed
    }

    pub(super) fn path_measured(&mut self, node: NodeId, relays: &[NodeId], probes: Probes, now: Mono) {
        let Some((path, target)) = self.path_of(node, relays) else { return };
        target.measure(path, probes, now);
        let measured = target.measurement(path, now).map(|estimate| estimate.measured_us(now));
        let region = target.facts.region.clone();
        self.due.insert(node);
        let speakers = self.speakers(path, now);
        let predicted = self.predicted_us(path, &region, now);
        let longer = |measured: &f64| *measured > predicted * FACTOR && *measured > predicted + MARGIN_US;
        if speakers.is_empty() || measured.filter(longer).is_none() {
            return;
        }
        if !self.targets.get_mut(&node).is_some_and(|target| target.dispute(path, now)) {
            return;
        }
        self.disputed += 1;
        for relay in speakers {
            if let Some(relay) = self.relays.get_mut(relay) {
                relay.damping.disputed(now);
            }
        }
        self.costed = None;
    }

    /// The round trip of a path by the sum of its links, in microseconds.
    fn predicted_us(&self, path: Path, region: &str, now: Mono) -> f64 {
        let region_of = |relay: u8| self.relays.get(relay).map_or("", |relay| relay.facts.region.as_str());
        let relays = path.relays();
        let first = path.first().and_then(|first| self.relays.get(first)).map_or(0.0, |first| {
            let prior = prior_us(first.facts.region != self.own.region);
            first.link.estimate.round_trip_us(prior, now)
        });
        let between = relays.windows(2).map(|pair| {
            let said = self.words.of(pair[0], pair[1], now).map(|said| f64::from(said.rtt_us));
            said.unwrap_or_else(|| prior_us(region_of(pair[0]) != region_of(pair[1])))
        });
        let last = relays.last().map_or(0.0, |last| prior_us(region_of(*last) != region));
        first + between.sum::<f64>() + last
    }

    /// The relays that say something of a link of a path.
    fn speakers(&self, path: Path, now: Mono) -> Vec<u8> {
        let mut speakers: Vec<u8> =
            path.relays().windows(2).flat_map(|pair| self.words.speakers(pair[0], pair[1], now)).collect();
        speakers.sort_unstable();
        speakers.dedup();
        speakers
    }
}

/// A path is disputed if it takes so many times what is predicted,
const FACTOR: f64 = 1.5;
/// and so many microseconds more.
const MARGIN_US: f64 = 10_000.0;
