//! Paths through relays within a node: what the data plane measured becomes inputs of the routing engine.
//!
//! Owns what counts as a link that is up or down, and which probes count once. Refuses to decide: the engine does.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_routing::{Decision, Explanation, Input, Lane, Probes, Said};
use rap_types::{Mono, NodeId, Now, Reason};
use rap_wire::v1;

use crate::Node;

/// When the probes of each relay were counted last.
#[derive(Debug, Default)]
pub(super) struct Counted(BTreeMap<NodeId, Mono>);

impl Node {
    /// What was decided for a peer.
    pub fn decision(&self, peer: NodeId) -> Option<Decision> {
        self.plane.paths.decision(peer)
    }

    /// Why it was decided for a lane, or what would be if these relays were down.
    pub fn explain(&self, peer: NodeId, lane: Lane, down: &[NodeId], now: Now) -> Option<Explanation> {
        self.plane.paths.explain(peer, lane, down, now.mono)
    }

    /// True for a relay that may carry for this node.
    pub fn is_relay(&self, node: NodeId) -> bool {
        self.plane.paths.relays().any(|relay| relay == node)
    }

    /// Whether there is a relay that may carry for this node.
    pub fn has_relays(&self) -> bool {
        self.plane.paths.relays().next().is_some()
    }

    /// How many times a path was measured to take much longer than the relays on it say.
    pub fn disputed_paths(&self) -> u64 {
        self.plane.paths.disputed()
    }

    /// The data plane reported. It does so every second.
    pub(super) fn stats_arrived(&mut self, stats: v1::Stats, now: Now) {
        let relays: Vec<NodeId> = self.plane.paths.relays().collect();
        for stats in &stats.peers {
            let Ok(relay) = NodeId::from_slice(&stats.node_id) else { continue };
            if relays.binary_search(&relay).is_ok() {
                self.link_of_relay(relay, stats, now.mono);
            }
        }
        self.plane.stats = stats;
    }

    fn link_of_relay(&mut self, relay: NodeId, stats: &v1::PeerStats, now: Mono) {
        if let Some(input) = turned(relay, &stats.link_state, &stats.link_reason) {
            self.plane.paths.take(input, now);
        }
        let Some(measured) =
            self.plane.observations.measured(relay).filter(|_| stats.link_state == ESTABLISHED)
        else {
            return;
        };
        let interval = self.snapshot().map(|snapshot| snapshot.contents().policy.link_probe_interval_ms);
        let interval = Duration::from_millis(u64::from(interval.unwrap_or_default().max(1)));
        let probes = self.plane.counted.probes(relay, measured, interval, now);
        self.plane.paths.take(Input::LinkMeasured(relay, probes), now);
    }

    /// A link with a relay entered another state: paths that begin with it are decided anew at once.
    pub(super) fn relay_link_changed(&mut self, event: &v1::LinkEvent, now: Now) {
        let lane = event.lane();
        let Ok(relay) = NodeId::from_slice(&event.node_id) else { return };
        if matches!(lane, v1::LinkLane::A | v1::LinkLane::Unspecified)
            && let Some(input) = turned(relay, &event.state, &event.reason)
        {
            self.plane.paths.take(input, now.mono);
        }
    }

    /// A path could not be installed: another one is decided at once, if there is one.
    pub(super) fn path_refused(&mut self, refused: &v1::PathRefused, now: Now) {
        let Ok(destination) = NodeId::from_slice(&refused.destination) else { return };
        let relays: Result<Vec<NodeId>, _> =
            refused.relays.iter().map(|relay| NodeId::from_slice(relay)).collect();
        let reason = Reason::from_code(&refused.reason).unwrap_or(Reason::PathDenied);
        if let Ok(relays) = relays
            && is_of_the_path(reason)
        {
            let passed = refused.passed.and_then(|passed| usize::try_from(passed).ok());
            if let Some([from, to]) = passed.and_then(|passed| relays.get(passed..)?.first_chunk().copied())
                && reason == Reason::PathNextUnreachable
            {
                self.plane.paths.take(Input::NotReached(from, to), now.mono);
            }
            self.plane.paths.take(Input::PathFailed(destination, relays, reason), now.mono);
        }
    }

    /// A relay said what its links are like. The data plane verified that.
    pub(super) fn relay_said(&mut self, words: &v1::RelayWords, now: Now) {
        let Ok(relay) = NodeId::from_slice(&words.relay) else { return };
        let links = words.links.iter().map(|link| {
            let said = Said { rtt_us: link.rtt_us, loss_ppm: link.loss_ppm };
            NodeId::from_slice(&link.node).map(|node| (node, said))
        });
        if let Ok(links) = links.collect() {
            self.plane.paths.take(Input::RelayRow(relay, links), now.mono);
        }
    }

    /// Decides which paths are due, and publishes a table if others hold.
    pub(super) fn route_anew(&mut self, now: Now) {
        if self.plane.paths.due().is_some_and(|due| due <= now.mono) && self.plane.paths.decide(now.mono) {
            self.publish(now);
        }
    }
}

impl Counted {
    /// What the latest probes say, each of them once: they are counted again when all of them are others.
    fn probes(&mut self, relay: NodeId, measured: v1::LinkMeasurement, every: Duration, now: Mono) -> Probes {
        let v1::LinkMeasurement { rtt_median_us: rtt_us, loss_ppm, samples } = measured;
        let at = self.0.entry(relay).or_default();
        if now.since(*at) < every.saturating_mul(samples) {
            return Probes { rtt_us, answered: 0, lost: 0 };
        }
        *at = now;
        let lost = (u64::from(samples) * u64::from(loss_ppm)).div_ceil(1_000_000);
        let lost = u32::try_from(lost).unwrap_or(samples).min(samples);
        Probes { rtt_us, answered: samples - lost, lost }
    }
}

/// A link that nobody tried is neither up nor down, and one that another connection replaced is up.
fn turned(relay: NodeId, state: &str, reason: &str) -> Option<Input> {
    match state {
        ESTABLISHED => Some(Input::LinkUp(relay)),
        CLOSED if !reason.is_empty() && reason != Reason::LinkDuplicate.code() => {
            Some(Input::LinkDown(relay))
        }
        _ => None,
    }
}

/// Whether another path may be taken where this one was not. The other reasons are healed by the next attempt, or hold
/// for every path of this node to this destination.
const fn is_of_the_path(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::PathDenied | Reason::PathExpired | Reason::PathGenerationStale | Reason::PathLabelInUse
    )
}

const ESTABLISHED: &str = "established";
const CLOSED: &str = "closed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_count_once() {
        let relay = NodeId::from_bytes([1; 16]);
        let mut counted = Counted::default();
        let measured = v1::LinkMeasurement { rtt_median_us: 900, loss_ppm: 200_000, samples: 15 };
        let mut at = |seconds: u64| {
            let now = Mono(seconds * 1_000_000_000);
            let probes = counted.probes(relay, measured, Duration::from_secs(1), now);
            assert_eq!(probes.rtt_us, 900);
            (probes.answered, probes.lost)
        };
        assert_eq!([at(100), at(101), at(114), at(115), at(116)], [(12, 3), (0, 0), (0, 0), (12, 3), (0, 0)]);
    }

    #[test]
    fn a_link_that_nobody_tried_is_not_down() {
        let relay = NodeId::from_bytes([1; 16]);
        let state = |state, reason| turned(relay, state, reason);
        assert_eq!(state("established", ""), Some(Input::LinkUp(relay)));
        assert_eq!(state("closed", "link.unreachable"), Some(Input::LinkDown(relay)));
        for (word, reason) in [("closed", ""), ("closed", "link.duplicate"), ("dialing", ""), ("suspect", "")]
        {
            assert_eq!(state(word, reason), None, "{word} {reason}");
        }
    }

    #[test]
    fn what_the_next_attempt_heals_condemns_no_path() {
        for reason in [Reason::PathNextUnreachable, Reason::PathTimeout, Reason::RelayUnknownEnd] {
            assert!(is_of_the_path(reason), "{reason}");
        }
        for reason in [Reason::PathGenerationStale, Reason::PathLabelInUse, Reason::PathDenied] {
            assert!(!is_of_the_path(reason), "{reason}");
        }
    }
}
