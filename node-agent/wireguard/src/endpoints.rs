//! Underlay addresses of a peer.
//!
//! Owns the candidates of the configuration, the address of the last authenticated packet, and which of them
//! is used next.

use std::net::SocketAddr;

/// The endpoint in use, and those to try when it does not answer.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    candidates: Vec<SocketAddr>,
    learned: Option<SocketAddr>,
    current: Option<SocketAddr>,
    /// An authenticated packet came from `current`.
    proven: bool,
    /// Handshake attempts to `current` since it last answered.
    unanswered: u32,
    /// Where the next round of probes begins.
    turn: usize,
}

impl Endpoints {
    pub(crate) fn current(&self) -> Option<SocketAddr> {
        self.current
    }

    /// Takes new candidates. A proven endpoint stays in use.
    pub(crate) fn replace(&mut self, candidates: Vec<SocketAddr>) {
        self.candidates = candidates;
        self.candidates.truncate(MAX_CANDIDATES);
        let keep = self.proven || self.current.is_some_and(|current| self.candidates.contains(&current));
        if !keep {
            self.turn_to(self.candidates.first().copied());
        }
    }

    /// Uses the source of an authenticated packet (roaming, WireGuard paper section 6.5), or of an answered probe.
    pub(crate) fn authenticated(&mut self, from: SocketAddr) {
        self.current = Some(from);
        self.proven = true;
        self.unanswered = 0;
        self.learn(from);
    }

    /// Remembers the source of an authenticated packet, and uses it if there is no other.
    pub(crate) fn learn(&mut self, from: SocketAddr) {
        if !self.candidates.contains(&from) {
            self.learned = Some(from);
        }
        self.current.get_or_insert(from);
    }

    /// Every address, the one in use first.
    pub(crate) fn ring(&self) -> Vec<SocketAddr> {
        let learned = self.learned.filter(|learned| !self.candidates.contains(learned));
        let others = self.candidates.iter().copied().chain(learned);
        let others = others.filter(|endpoint| Some(*endpoint) != self.current);
        self.current.into_iter().chain(others).collect()
    }

    /// So many addresses, each time those after the ones before.
    pub(crate) fn round(&mut self, count: usize) -> Vec<SocketAddr> {
        let mut ring = self.ring();
        let count = count.min(ring.len());
        if count > 0 {
            let from = self.turn % ring.len();
            ring.rotate_left(from);
            self.turn = from + count;
        }
        ring.truncate(count);
        ring
    }

    /// Endpoint for the next handshake attempt: the next candidate if the present one did not answer.
    pub(crate) fn next_attempt(&mut self) -> Option<SocketAddr> {
        let patience = if self.proven { ATTEMPTS_PROVEN } else { ATTEMPTS_UNPROVEN };
        if self.unanswered >= patience {
            self.turn_to(self.successor());
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.current
    }

    /// Another endpoint to try at once, because the kernel cannot send to `failed`. `None`: there is none.
    pub(crate) fn failed(&mut self, failed: SocketAddr) -> Option<SocketAddr> {
        if self.current == Some(failed) {
            self.turn_to(self.successor());
        }
        self.current.filter(|current| *current != failed)
    }

    fn turn_to(&mut self, endpoint: Option<SocketAddr>) {
        if endpoint != self.current {
            self.proven = false;
        }
        self.current = endpoint;
        self.unanswered = 0;
    }

    /// The endpoint after `current`, in the cycle of the candidates and the learned address.
    fn successor(&self) -> Option<SocketAddr> {
        let learned = self.learned.filter(|learned| !self.candidates.contains(learned));
        let ring: Vec<_> = self.candidates.iter().copied().chain(learned).collect();
        let here = ring.iter().position(|endpoint| Some(*endpoint) == self.current);
        let next = here.map_or(0, |here| (here + 1) % ring.len());
        ring.get(next).copied().or(self.current)
    }
}

/// Largest number of candidates. More are ignored.
const MAX_CANDIDATES: usize = 16;
/// Handshake attempts (5 s each) before an endpoint is left that answered before.
const ATTEMPTS_PROVEN: u32 = 2;
/// Handshake attempts before an endpoint is left that never answered.
const ATTEMPTS_UNPROVEN: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn with(ports: &[u16]) -> Endpoints {
        let mut endpoints = Endpoints::default();
        endpoints.replace(ports.iter().map(|port| at(*port)).collect());
        endpoints
    }

    #[test]
    fn silent_candidates_are_tried_in_turn() {
        let mut endpoints = with(&[1, 2, 3]);
        let tried: Vec<_> = (0..4).map(|_| endpoints.next_attempt().unwrap().port()).collect();
        assert_eq!(tried, [1, 2, 3, 1]);
    }

    #[test]
    fn one_that_answered_gets_a_second_attempt_and_stays_in_the_ring() {
        let mut endpoints = with(&[1, 2]);
        endpoints.authenticated(at(9));
        let tried: Vec<_> = (0..6).map(|_| endpoints.next_attempt().unwrap().port()).collect();
        assert_eq!(tried, [9, 9, 1, 2, 9, 1]);
    }

    #[test]
    fn new_candidates_do_not_move_a_peer_that_answers() {
        let mut endpoints = with(&[1]);
        endpoints.authenticated(at(9));
        endpoints.replace(vec![at(5)]);
        assert_eq!(endpoints.current(), Some(at(9)));
    }

    #[test]
    fn new_candidates_move_a_peer_that_never_answered() {
        let mut endpoints = with(&[1]);
        endpoints.replace(vec![at(5)]);
        assert_eq!(endpoints.current(), Some(at(5)));
        endpoints.replace(Vec::new());
        assert_eq!(endpoints.current(), None);
        assert_eq!(endpoints.next_attempt(), None);
    }

    #[test]
    fn rounds_pass_all_addresses_and_what_is_learned_moves_nothing() {
        let mut endpoints = with(&[1, 2, 3]);
        endpoints.learn(at(9));
        assert_eq!(endpoints.current(), Some(at(1)));
        let mut ports = || endpoints.round(3).into_iter().map(|address| address.port()).collect::<Vec<_>>();
        assert_eq!((ports(), ports()), (vec![1, 2, 3], vec![9, 1, 2]));
        assert_eq!(with(&[]).round(3), Vec::new());
    }

    #[test]
    fn an_unreachable_endpoint_is_left_at_once() {
        let mut endpoints = with(&[1, 2]);
        assert_eq!(endpoints.failed(at(1)), Some(at(2)));
        assert_eq!(endpoints.failed(at(1)), Some(at(2)), "already left");
        let mut only = with(&[1]);
        assert_eq!(only.failed(at(1)), None);
        assert_eq!(only.current(), Some(at(1)), "kept for later");
    }
}
