//! The network under the links: which nodes reach each other, how long it takes, and what gets lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rap_types::{Digest, Mono, NodeId};

/// One direction between two nodes.
#[derive(Debug, Clone)]
struct Line {
    base: Duration,
    /// Added by whatever makes the line slow.
    slow: Duration,
    /// Share of frames that are lost.
    loss: f64,
    /// How many faults hold it cut.
    cuts: u32,
    /// When the last frame in order arrives.
    last: Mono,
}

#[derive(Debug, Default)]
pub struct Wire {
    lines: BTreeMap<(NodeId, NodeId), Line>,
    /// Nodes that can be dialled.
    pub inbound: BTreeSet<NodeId>,
}

impl Wire {
    fn line(&mut self, from: NodeId, to: NodeId) -> &mut Line {
        self.lines.entry((from, to)).or_insert_with(|| {
            let (low, high) = (from.min(to), from.max(to));
            let digest = Digest::of(&[b"distance", low.as_bytes(), high.as_bytes()]);
            let base = Duration::from_millis(2 + u64::from(digest.as_bytes()[0]) / 6);
            Line { base, slow: Duration::ZERO, loss: 0.0, cuts: 0, last: Mono(0) }
        })
    }

    /// Frames from the one get to the other.
    pub fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        self.lines.get(&(from, to)).is_none_or(|line| line.cuts == 0)
    }

    /// Frames get both ways.
    pub fn connects(&self, one: NodeId, other: NodeId) -> bool {
        self.reaches(one, other) && self.reaches(other, one)
    }

    /// Cuts or heals one direction; faults that overlap are counted.
    pub fn cut(&mut self, from: NodeId, to: NodeId, cut: bool) {
        let line = self.line(from, to);
        line.cuts = if cut { line.cuts + 1 } else { line.cuts.saturating_sub(1) };
    }

    pub fn set_loss(&mut self, from: NodeId, to: NodeId, loss: f64) {
        self.line(from, to).loss = loss;
    }

    pub fn set_slow(&mut self, from: NodeId, to: NodeId, slow: Duration) {
        self.line(from, to).slow = slow;
    }

    pub fn loss(&mut self, from: NodeId, to: NodeId) -> f64 {
        self.line(from, to).loss
    }

    /// Time of one way.
    pub fn delay(&mut self, from: NodeId, to: NodeId) -> Duration {
        let line = self.line(from, to);
        line.base + line.slow
    }

    /// When a frame that is sent now arrives, behind all that were sent before it.
    pub fn arrival(&mut self, from: NodeId, to: NodeId, now: Mono, jitter: Duration) -> Mono {
        let line = self.line(from, to);
        line.last = now.plus(line.base + line.slow + jitter).max(line.last);
        line.last
    }
}
