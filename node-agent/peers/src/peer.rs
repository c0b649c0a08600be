//! One known peer: its facts, its link, and whether it is wanted.
//!
//! Owns what an event changes in one peer. Refuses to compare peers.

use std::time::Duration;

use rap_types::{Digest, Mono, NodeId};

use crate::facts::{Known, Measured};
use crate::rendezvous::Rendezvous;
use crate::view::{State, Why};

/// One known peer.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) known: Known,
    pub(crate) measured: Measured,
    /// Why this node dials it, and since when; `None` if it does not.
    pub(crate) wanted: Option<(Why, Mono)>,
    /// Since when the link stands.
    pub(crate) up: Option<Mono>,
    /// Since when the link does not stand though it is wanted.
    pub(crate) down: Mono,
    /// The link stood since there is a data plane.
    pub(crate) stood: bool,
    /// When an attempt failed last.
    pub(crate) missed: Option<Mono>,
    /// When the peer was looked at last as a warm one.
    pub(crate) looked_at: Mono,
    /// When traffic passed last.
    pub(crate) used: Option<Mono>,
    pub(crate) rendezvous: Rendezvous,
    /// Equal at both ends.
    pub(crate) order: Digest,
}

impl Peer {
    pub(crate) fn new(own: NodeId, known: Known) -> Self {
        Self {
            order: between(own, known.node),
            known,
            measured: Measured::default(),
            wanted: None,
            up: None,
            down: Mono(0),
            stood: false,
            missed: None,
            looked_at: Mono(0),
            used: None,
            rendezvous: Rendezvous::default(),
        }
    }

    /// There is another data plane, which has no links, or none.
    pub(crate) fn plane_changed(&mut self, now: Mono) {
        (self.up, self.stood, self.missed, self.down) = (None, false, None, now);
        self.wanted = None;
    }

    pub(crate) fn rose(&mut self, now: Mono) {
        self.up.get_or_insert(now);
        (self.stood, self.missed) = (true, None);
    }

    pub(crate) fn fell(&mut self, now: Mono) {
        if self.up.take().is_some() {
            self.down = now;
        }
        self.missed = Some(now);
    }

    /// Wants the peer for another reason, or newly.
    pub(crate) fn want(&mut self, why: Why, now: Mono) {
        match &mut self.wanted {
            Some((before, _)) => *before = why,
            None => {
                self.wanted = Some((why, now));
                if self.up.is_none() {
                    self.down = now;
                }
            }
        }
    }

    pub(crate) fn release(&mut self) {
        self.wanted = None;
    }

    pub(crate) fn why(&self) -> Option<Why> {
        self.wanted.map(|(why, _)| why)
    }

    /// Wanted until something better is known.
    pub(crate) fn is_member(&self) -> bool {
        self.why().is_some_and(is_of_set)
    }

    /// Wanted for one attempt.
    pub(crate) fn is_tried(&self) -> bool {
        self.why().is_some_and(|why| !is_of_set(why))
    }

    /// A member that cost or chance chose: another may take its place.
    pub(crate) fn is_optional(&self) -> bool {
        matches!(self.why(), Some(Why::Cost | Why::Rank | Why::Fill))
    }

    /// A wanted link that does not stand for longer than its dial takes.
    pub(crate) fn is_failing(&self, now: Mono) -> bool {
        self.wanted.is_some() && self.up.is_none() && now >= self.failing_at()
    }

    /// When a link that does not stand counts as failing.
    pub(crate) fn failing_at(&self) -> Mono {
        self.down.plus(if self.stood { RETRY } else { FIRST_DIAL })
    }

    /// True soon after an attempt that failed.
    pub(crate) fn rests(&self, now: Mono) -> bool {
        self.missed.is_some_and(|at| now.since(at) < REST)
    }

    pub(crate) fn state(&self, now: Mono) -> State {
        if self.up.is_some() {
            return State::Linked;
        }
        match self.wanted {
            _ if self.rendezvous.waits() => State::WaitingRendezvous,
            None => State::Idle,
            Some(_) if self.is_failing(now) => State::Failing,
            Some(_) => State::Connecting,
        }
    }
}

/// Reasons of members; the others are reasons of attempts.
const fn is_of_set(why: Why) -> bool {
    matches!(why, Why::Home | Why::Survives | Why::Permitted | Why::Cost | Why::Rank | Why::Fill)
}

fn between(one: NodeId, other: NodeId) -> Digest {
    let (smaller, larger) = if one < other { (one, other) } else { (other, one) };
    Digest::of(&[b"rap.links.v1\0", smaller.as_bytes(), larger.as_bytes()])
}

/// A link that stood is dialled again alone for so long.
pub(crate) const RETRY: Duration = Duration::from_secs(2);
/// The first dial may wait 2 s for its turn.
const FIRST_DIAL: Duration = Duration::from_secs(5);
/// A peer that did not answer is no replacement for so long.
const REST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_same_at_both_ends() {
        let [one, other, third] = [1, 2, 3].map(|byte| NodeId::from_bytes([byte; 16]));
        assert_eq!(between(one, other), between(other, one));
        assert_ne!(between(one, other), between(one, third));
    }
}
