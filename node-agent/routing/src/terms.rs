//! The terms of a cost.
//!
//! Owns how a measurement becomes microseconds. Each term grows with what it is made of, so nothing that gets worse
//! looks better.

use rap_types::Mono;
use serde::Serialize;

use crate::estimate::Estimate;
use crate::lane::Lane;

/// Terms of the cost of a link, of a relay, or of a path, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// Half of the round trip.
    pub latency: u32,
    /// Deviation of the round trip.
    pub jitter: u32,
    /// What is lost, by a cautious bound.
    pub loss: u32,
    /// The share of time in which the link was down.
    pub reliability: u32,
    /// How busy the relay is.
    pub load: u32,
    /// The link leads to another region.
    pub region: u32,
    /// Failures of the relay in the last minutes.
    pub flap: u32,
    /// Each relay costs something.
    pub relay: u32,
}

impl Terms {
    /// The sum, at most 67 s: far below what means that no path exists.
    pub fn total(&self) -> u32 {
        let Self { latency, jitter, loss, reliability, load, region, flap, relay } = *self;
        let terms = [latency, jitter, loss, reliability, load, region, flap, relay];
        terms.iter().fold(0u32, |sum, term| sum.saturating_add(*term)).min(MOST)
    }

    /// The terms of both together.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            latency: self.latency.saturating_add(other.latency),
            jitter: self.jitter.saturating_add(other.jitter),
            loss: self.loss.saturating_add(other.loss),
            reliability: self.reliability.saturating_add(other.reliability),
            load: self.load.saturating_add(other.load),
            region: self.region.saturating_add(other.region),
            flap: self.flap.saturating_add(other.flap),
            relay: self.relay.saturating_add(other.relay),
        }
    }
}

/// What a link costs by these numbers: round trip and deviation in microseconds, loss and share of time up 0 to 1.
pub(crate) fn link(
    lane: Lane,
    rtt_us: f64,
    deviation_us: f64,
    loss: f64,
    up: f64,
    other_region: bool,
) -> Terms {
    let weights = lane.weights();
    Terms {
        latency: micros(rtt_us / 2.0),
        jitter: micros(weights.jitter * deviation_us),
        loss: micros(weights.loss * -(1.0 - loss).ln() * 1000.0),
        reliability: micros(weights.reliability * -up.ln() * 1000.0),
        region: if other_region { micros(weights.region * 1000.0) } else { 0 },
        ..Terms::default()
    }
}

/// What a link costs by an estimate of this node.
pub(crate) fn own_link(lane: Lane, estimate: &Estimate, up: f64, other_region: bool, now: Mono) -> Terms {
    let rtt = estimate.round_trip_us(prior_us(other_region), now);
    link(lane, rtt, estimate.deviation_us(), estimate.loss(now), up, other_region)
}

/// What a link costs of which nothing is known.
pub(crate) fn unmeasured(lane: Lane, other_region: bool) -> Terms {
    own_link(lane, &Estimate::default(), 1.0, other_region, Mono(0))
}

/// What a relay costs: how busy it is, in thousandths, and its figure of merit.
pub(crate) fn relay(lane: Lane, util_permille: u32, merit: f64) -> Terms {
    let weights = lane.weights();
    let util = f64::from(util_permille.min(1000)) / 1000.0;
    let busy = if util >= 1.0 { MOST_BUSY } else { (util / (1.0 - util)).min(MOST_BUSY) };
    Terms {
        load: micros(weights.load * busy * 1000.0),
        flap: micros(weights.flap * merit * 1000.0),
        relay: micros(weights.relay * 1000.0),
        ..Terms::default()
    }
}

/// Round trip in microseconds of a link of which nothing is known.
pub(crate) fn prior_us(other_region: bool) -> f64 {
    if other_region { 100_000.0 } else { 50_000.0 }
}

/// A negative number or none at all is 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0 and the most")]
fn micros(value: f64) -> u32 {
    value.round().clamp(0.0, f64::from(MOST)) as u32
}

const MOST: u32 = 1 << 26;
const MOST_BUSY: f64 = 19.0;
