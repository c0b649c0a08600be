//! The ways to one peer, and the one that carries the traffic.
//!
//! Owns the choice: direct if it works, else a path that works. Down at once, up slowly. An authenticated packet
//! never moves the traffic from a way that works; an answered probe proves a way. A peer that never answered a probe
//! is of a release without them, and its direct way is judged by handshakes. Pure: says what is to be sent and when
//! it wants to be called again.

mod direct;
mod judge;
mod path;
mod trial;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rap_types::Mono;

use crate::endpoints::Endpoints;
use crate::liveness::{Kind, Liveness};
use crate::way::{PathEnd, PathSlot, Way};
use direct::{Direct, ROUND};
pub(crate) use path::PATHS;
use path::Paths;
use trial::Trial;

/// The ways to one peer.
#[derive(Debug, Default)]
pub struct Ways {
    pub(crate) endpoints: Endpoints,
    direct: Direct,
    paths: Paths,
    /// Paths to the peer may be asked for.
    relayed: bool,
    /// The peer answers probes.
    answers: bool,
    /// When data was sent to the peer last.
    busy: Option<Mono>,
    /// When the traffic moved from a path to the direct way last.
    moved: Option<Mono>,
    /// Since when paths are asked for, and when they were asked for last.
    wanting: Option<(Mono, Mono)>,
    /// Until when new packets wait, so that they overtake nothing that is on its way.
    holding: Option<Mono>,
    /// When a new session was asked for last.
    renewed: Option<Mono>,
    probes: VecDeque<SentProbe>,
    next_sequence: u32,
}

#[derive(Debug, Clone, Copy)]
struct SentProbe {
    sequence: u32,
    way: Way,
    sent: Mono,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Send a probe with this sequence number on this way.
    Probe(Way, u32),
    /// Begin a new session: the peer answers probes, and a way that worked is silent. Perhaps the peer started anew
    /// and knows nothing of the present one.
    Renew,
    /// Ask for paths.
    Want,
}

/// Where a packet goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    On(Way),
    /// It waits: for a path, or for packets on a slower way.
    Later,
    /// No address and no path is known.
    Nowhere,
}

impl Ways {
    /// Takes the settings of a configuration.
    pub fn configure(&mut self, endpoints: Vec<SocketAddr>, relayed: bool) {
        self.endpoints.replace(endpoints);
        self.relayed = relayed;
        if self.endpoints.current().is_none() {
            self.direct = Direct::Absent;
        }
    }

    /// Where a packet of a session goes.
    pub fn sending(&self, now: Mono) -> Sending {
        let current = self.endpoints.current().map(Way::Udp);
        let direct = matches!(self.direct, Direct::InUse { .. });
        let way = if direct { current } else { self.paths.in_use().map(Way::Path) };
        match way {
            Some(way) if self.holding.is_none_or(|until| now >= until) => Sending::On(way),
            Some(_) => Sending::Later,
            None if self.waits_for_a_path(now) => Sending::Later,
            // Nothing answers: perhaps an address hears.
            None => current.map_or(Sending::Nowhere, Sending::On),
        }
    }

    /// The way that carries the traffic, if one works.
    pub fn in_use(&self) -> Option<Way> {
        match self.direct {
            Direct::InUse { .. } => self.endpoints.current().map(Way::Udp),
            _ => self.paths.in_use().map(Way::Path),
        }
    }

    /// True if packets wait so that they overtake nothing, and not for want of a way.
    pub(crate) fn is_holding(&self) -> bool {
        self.holding.is_some()
    }

    /// Packets wait no longer.
    pub(crate) fn stop_holding(&mut self) {
        self.holding = None;
    }

    /// True if a handshake initiation could go anywhere.
    pub(crate) fn has_any(&self) -> bool {
        self.endpoints.current().is_some() || self.paths.ends().next().is_some()
    }

    pub(crate) const fn is_relayed(&self) -> bool {
        self.relayed
    }

    /// Every way that a handshake initiation goes on.
    pub(crate) fn of_initiation(&mut self) -> Vec<Way> {
        let udp = self.endpoints.next_attempt().map(Way::Udp);
        udp.into_iter().chain(self.paths.ends().map(Way::Path)).collect()
    }

    /// Data is sent or wants to be. Asks for paths if no way works.
    pub fn data(&mut self, now: Mono) -> Option<Act> {
        if !self.is_busy(now) {
            match &mut self.direct {
                Direct::InUse { liveness, .. } => liveness.resume(now),
                Direct::Trial(_) => self.direct = Direct::Absent,
                Direct::Absent | Direct::Sought(_) => {}
            }
            self.paths.resume(now);
            self.wanting = None;
        }
        self.busy = Some(now);
        self.want(now)
    }

    /// An authenticated message came. `answer`: it is the answer to a handshake of this node, which proves the way.
    pub fn authenticated(&mut self, from: Way, answer: bool, now: Mono) {
        let from = match from {
            Way::Udp(address) => address,
            Way::Path(end) => return self.paths.frame(end, answer, now),
        };
        let carried = self.paths.in_use().is_some();
        let known = self.endpoints.current() == Some(from);
        match &mut self.direct {
            Direct::InUse { liveness, .. } if known => {
                self.endpoints.authenticated(from);
                liveness.frame(now);
            }
            Direct::InUse { judged: true, .. } if self.answers => self.endpoints.learn(from),
            Direct::InUse { .. } => self.endpoints.authenticated(from),
            Direct::Absent | Direct::Sought(_) | Direct::Trial(_) if carried => self.endpoints.learn(from),
            Direct::Absent | Direct::Sought(_) | Direct::Trial(_) => {
                self.endpoints.authenticated(from);
                self.use_direct(Liveness::new(Kind::Direct, now));
            }
        }
    }

    /// A session or a path began: a direct way that answered no probes is judged again.
    pub(crate) fn judge_again(&mut self, now: Mono) {
        if let Direct::InUse { liveness, judged } = &mut self.direct
            && !*judged
        {
            liveness.resume(now);
            *judged = true;
        }
    }

    /// A probe of this node was answered on `way`.
    pub fn answered(&mut self, way: Way, sequence: u32, sent: Mono, now: Mono) {
        let sent = |probe: &SentProbe| (probe.sequence, probe.way, probe.sent) == (sequence, way, sent);
        let Some(probe) = self.probes.iter().position(sent).and_then(|at| self.probes.remove(at)) else {
            return;
        };
        self.answers = true;
        let round_trip = now.since(probe.sent);
        let address = match way {
            Way::Udp(address) => address,
            Way::Path(end) => return self.paths.answered(end, now, round_trip),
        };
        let carried = self.paths.in_use().is_some();
        match &mut self.direct {
            Direct::InUse { liveness, judged } if self.endpoints.current() == Some(address) => {
                liveness.answered(now, round_trip);
                *judged = true;
            }
            // The address in use is silent, and this one answers.
            Direct::InUse { liveness, .. } if liveness.is_suspect() => {
                self.take_address(address, now, round_trip)
            }
            Direct::InUse { .. } => self.endpoints.learn(address),
            Direct::Trial(trial) if trial.address == address => trial.answered(now, round_trip),
            Direct::Trial(_) => {}
            Direct::Absent | Direct::Sought(_) if carried => {
                self.direct = Direct::Trial(Trial::new(address, now, round_trip));
            }
            Direct::Absent | Direct::Sought(_) => self.take_address(address, now, round_trip),
        }
    }

    /// A path stands. May be told again.
    pub fn path_up(&mut self, end: PathEnd, slot: PathSlot, now: Mono) {
        if self.paths.up(end, slot, now) {
            self.wanting = None;
            self.judge_again(now);
        }
    }

    /// A path has ended.
    pub fn path_down(&mut self, end: PathEnd, now: Mono) -> Option<Act> {
        self.paths.down(end);
        if self.is_busy(now) { self.want(now) } else { None }
    }

    /// When [`Self::timeout`] is to be called; `None`: not before something happens.
    pub fn due(&self, now: Mono) -> Option<Mono> {
        let holding = self.holding.filter(|until| now < *until);
        if !self.is_busy(now) {
            return holding;
        }
        let direct = match &self.direct {
            Direct::InUse { liveness, judged } => judged.then(|| liveness.due()),
            Direct::Trial(trial) => Some(trial.due()),
            Direct::Absent => self.seeks().then_some(now),
            Direct::Sought(then) => self.seeks().then(|| then.plus(ROUND)),
        };
        let paths = if matches!(self.direct, Direct::InUse { .. }) { None } else { self.paths.due() };
        let asked = self.wanting.map(|(_, last)| last.plus(ASK_AGAIN));
        [holding, direct, paths, asked].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Mono) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.holding.is_some_and(|until| now >= until) {
            self.holding = None;
        }
        if !self.is_busy(now) {
            return acts;
        }
        self.check_direct(now, &mut acts);
        if !matches!(self.direct, Direct::InUse { .. }) {
            let (probed, died) = self.paths.check(now);
            for end in probed {
                self.probe(Way::Path(end), now, &mut acts);
            }
            if died {
                self.renew(now, &mut acts);
            }
        }
        acts.extend(self.want(now));
        acts
    }

    /// Asks for paths, at most once per second, while the direct way does not work well and no path does.
    fn want(&mut self, now: Mono) -> Option<Act> {
        let direct =
            matches!(&self.direct, Direct::InUse { liveness, judged } if !judged || !liveness.is_suspect());
        if direct || !self.relayed || self.paths.works() {
            self.wanting = None;
            return None;
        }
        let since = match self.wanting {
            Some((_, last)) if now.since(last) < ASK_AGAIN => return None,
            Some((since, _)) => since,
            None => now,
        };
        self.wanting = Some((since, now));
        Some(Act::Want)
    }

    fn waits_for_a_path(&self, now: Mono) -> bool {
        self.relayed && self.wanting.is_none_or(|(since, _)| now.since(since) < PATH_WAIT)
    }

    /// Whether addresses of the peer are to be probed: it answers, and the traffic does not go directly.
    fn seeks(&self) -> bool {
        (self.answers || self.paths.in_use().is_some()) && self.endpoints.current().is_some()
    }

    /// Asks for a new session, as often as the protocol itself does if nothing comes back.
    fn renew(&mut self, now: Mono, acts: &mut Vec<Act>) {
        if self.answers && self.renewed.is_none_or(|renewed| now.since(renewed) >= RENEW_AGAIN) {
            self.renewed = Some(now);
            acts.push(Act::Renew);
        }
    }

    fn is_busy(&self, now: Mono) -> bool {
        self.busy.is_some_and(|busy| now.since(busy) < BUSY)
    }

    fn probe(&mut self, way: Way, now: Mono, acts: &mut Vec<Act>) {
        self.next_sequence = self.next_sequence.wrapping_add(1);
        if self.probes.len() == PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back(SentProbe { sequence: self.next_sequence, way, sent: now });
        acts.push(Act::Probe(way, self.next_sequence));
    }
}

/// A way is judged while data went out within this time.
const BUSY: Duration = Duration::from_secs(10);
/// How long packets wait for a path before an address is tried that did not answer.
const PATH_WAIT: Duration = Duration::from_secs(3);
const RENEW_AGAIN: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Probes whose answers are awaited.
const PROBES: usize = 64;

#[cfg(test)]
mod tests;
