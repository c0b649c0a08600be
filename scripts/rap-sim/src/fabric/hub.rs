//! The data planes of a run, and how an input reaches a core and what the core asks for is carried out.
//!
//! Owns the state of the fabric. What is asked for of an install is compared with the ledger here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::Result;
use prost::Message as _;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rap_contract::PathInstallExpectation;
use rap_link::FrameKind;
use rap_link::path::{
    DIAL_TIME, PathEvent, PathInputs, PathOutput, PathSlot, Paths, RequestText, request_payload,
};
use rap_types::{Mono, NodeId, Now, Reason};
use rap_wire::v1;

use super::happening::{Carried, Happening, Trail, Waiting};
use super::leaf::Leaves;
use super::ledger::{Accepted, Hop};
use super::node::{LeafKeys, Node, Plane};
use super::queue::Queue;
use super::storm::Effect;
use super::wire::Wire;
use crate::control::{CLUSTER, INSTALLATION};
use crate::events::{Counts, Event};
use crate::require::require;

pub struct Fabric {
    pub began: Mono,
    pub now: Now,
    pub random: StdRng,
    pub queue: Queue<Happening>,
    pub wire: Wire,
    pub nodes: BTreeMap<NodeId, Node>,
    pub leaves: LeafKeys,
    pub counts: Counts,
    pub trail: Trail,
    /// Faults happen.
    pub storm: bool,
    /// Number of the storm.
    pub round: u32,
    pub effects: BTreeMap<u64, Effect>,
    /// Effects that outlast the storm.
    pub kept: Vec<Effect>,
    pub pairs: Vec<(NodeId, NodeId)>,
    /// Requests that passed a link lately.
    pub heard: VecDeque<(NodeId, NodeId, Vec<u8>)>,
    pub waiting: Vec<Waiting>,
    pub last_number: u64,
    judged: Option<Judged>,
}

/// An install that a core is about to answer.
struct Judged {
    at: NodeId,
    from: NodeId,
    hop: Hop,
}

impl Fabric {
    pub fn new(random: StdRng, now: Now) -> Self {
        Self {
            began: now.mono,
            now,
            random,
            queue: Queue::new(),
            wire: Wire::default(),
            nodes: BTreeMap::new(),
            leaves: LeafKeys::new(),
            counts: Counts::default(),
            trail: Trail::default(),
            storm: false,
            round: 0,
            effects: BTreeMap::new(),
            kept: Vec::new(),
            pairs: Vec::new(),
            heard: VecDeque::new(),
            waiting: Vec::new(),
            last_number: 0,
            judged: None,
        }
    }

    /// A number that names nothing else of this run.
    pub fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub fn plane(&mut self, me: NodeId) -> Option<&mut Plane> {
        self.nodes.get_mut(&me)?.plane.as_mut()
    }

    pub fn after(&mut self, shortest_ms: u64, longest_ms: u64) -> Mono {
        self.now.mono.plus(Duration::from_millis(self.random.random_range(shortest_ms..=longest_ms)))
    }

    /// One input of a core, and all that follows at once. `None`: the process does not run.
    pub fn at<T>(
        &mut self,
        me: NodeId,
        input: impl FnOnce(&mut Paths, &mut PathInputs<'_>) -> T,
    ) -> Result<Option<T>> {
        let Self { nodes, random, now, .. } = self;
        let Some(plane) = nodes.get_mut(&me).and_then(|node| node.plane.as_mut()) else { return Ok(None) };
        let done = input(&mut plane.core, &mut PathInputs { now: *now, random: &mut || random.random() });
        while let Some(output) = self.plane(me).and_then(|plane| plane.core.poll_output()) {
            self.carry_out(me, output)?;
        }
        self.arm(me);
        Ok(Some(done))
    }

    fn carry_out(&mut self, me: NodeId, output: PathOutput) -> Result<()> {
        match output {
            PathOutput::Send { to, kind, payload } => {
                if kind == FrameKind::PathAnswer
                    && let Some(judged) = self.judged.take_if(|judged| judged.at == me && judged.from == to)
                {
                    let answer = v1::PathAnswer::decode(payload.as_slice())?;
                    match Reason::from_code(&answer.reason) {
                        None => self.accepted(&judged, None)?,
                        Some(reason) => self.refused(me, &judged.hop, reason),
                    }
                }
                if kind == FrameKind::PathWithdraw && self.swallows(me) {
                    self.counts.add(Event::WithdrawalSwallowed);
                } else {
                    self.transmit(me, to, Carried::Message(kind, payload));
                }
                Ok(())
            }
            PathOutput::Pass { to, request, payload } => {
                if let Some(judged) = self.judged.take_if(|judged| judged.at == me) {
                    self.accepted(&judged, Some((to, request)))?;
                }
                self.pass(me, to, request, payload)
            }
            PathOutput::Ask { hops, request, installs } => {
                let Some((leaf, first)) = self.leaves.get(&me).zip(installs.first()) else { return Ok(()) };
                let signed =
                    hops.iter().zip(&installs).map(|(hop, install)| leaf.sign(install, *hop)).collect();
                let payload = request_payload(request, &leaf.text, signed);
                if let Some(plane) = self.plane(me) {
                    plane.ledger.asks(hops[0], first);
                }
                self.pass(me, hops[0], request, payload)
            }
            PathOutput::Tell(event) => {
                // Told before it is answered.
                if matches!(event, PathEvent::Up { slot: PathSlot::Answering, .. })
                    && let Some(judged) = self.judged.take_if(|judged| judged.at == me)
                {
                    self.accepted(&judged, None)?;
                }
                self.told(me, event)
            }
        }
    }

    fn accepted(&mut self, judged: &Judged, passed_as: Option<(NodeId, u64)>) -> Result<()> {
        let (now, Judged { at, from, hop }) = (self.now.mono, judged);
        let Some(Node { facts, plane: Some(plane), .. }) = self.nodes.get_mut(at) else { return Ok(()) };
        let accepted = plane.ledger.accept(*at, *from, hop, passed_as, facts, now)?;
        require(plane.core.carried() <= super::node::LIMITS.paths, || format!("{at} has too many paths"))?;
        if accepted == Accepted::Renewal {
            self.counts.add(Event::PathRenewed);
        }
        Ok(())
    }

    fn refused(&mut self, me: NodeId, hop: &Hop, reason: Reason) {
        self.trail.add(&[8, self.now.mono.0, reason as u64]);
        let event = match reason {
            Reason::PathGenerationStale => {
                let tombstone = self.plane(me).is_some_and(|plane| plane.ledger.is_tombstone(hop));
                if tombstone { Event::TombstoneHit } else { Event::StaleRefused }
            }
            Reason::PathRate | Reason::PathCapacity => Event::RateRefused,
            Reason::PathLoop => Event::LoopRefused,
            Reason::PathPreviousMismatch => Event::NeighbourRefused,
            Reason::RelayOrganization | Reason::RelayUnknownEnd | Reason::RelayNotAllowed => {
                Event::CarrierRefused
            }
            Reason::RelayDraining => Event::DrainingRefused,
            _ => return,
        };
        self.counts.add(event);
    }

    /// A request reaches the first of its hops that did not see it.
    pub fn take_request(&mut self, me: NodeId, from: NodeId, payload: &[u8]) -> Result<()> {
        let (Ok(text), Some(hop)) = (RequestText::read(payload), Hop::first(payload)) else { return Ok(()) };
        if self.at(me, |core, inputs| core.may_verify(from, inputs.now.mono))? != Some(true) {
            self.counts.add(Event::RateRefused);
            return self.at(me, |core, _| core.refuse(from, &text, Reason::PathRate)).map(drop);
        }
        let Some(node) = self.nodes.get(&me) else { return Ok(()) };
        let not_after = self.now.wall.plus(Duration::from_secs(86_400));
        let trust = Leaves { issued: &self.leaves, revoked: &node.facts.revoked, not_after };
        let expect =
            PathInstallExpectation { installation: INSTALLATION, cluster: CLUSTER, hop: me, features: &[] };
        match text.open(&trust, &expect, self.now) {
            Ok(request) => {
                self.judged = Some(Judged { at: me, from, hop });
                self.at(me, |core, inputs| core.request(from, request, inputs.now))?;
                require(self.judged.take().is_none(), || format!("{me} left a request unanswered"))
            }
            Err((text, reason)) => {
                if reason == Reason::PathSignature {
                    self.counts.add(Event::SignatureRefused);
                }
                self.at(me, |core, _| core.refuse(from, &text, reason)).map(drop)
            }
        }
    }

    /// Passes a request to its next hop, which is dialled if it must be.
    fn pass(&mut self, me: NodeId, to: NodeId, request: u64, payload: Vec<u8>) -> Result<()> {
        let until = self.now.mono.plus(DIAL_TIME);
        let Some(node) = self.nodes.get_mut(&me) else { return Ok(()) };
        let known = node.facts.terms.known.contains_key(&to);
        let (life, Some(plane)) = (node.life, node.plane.as_mut()) else { return Ok(()) };
        if plane.links.contains_key(&to) {
            self.transmit(me, to, Carried::Message(FrameKind::PathRequest, payload));
            return Ok(());
        }
        if !known {
            return self.not_passed(me, to, request);
        }
        plane.wanted.insert(to, until);
        self.waiting.push(Waiting { at: me, to, request, payload, until });
        self.queue.push(until, Happening::NotPassed { at: me, to, request, life });
        self.dial(me, to);
        Ok(())
    }

    pub fn not_passed(&mut self, me: NodeId, to: NodeId, request: u64) -> Result<()> {
        if let Some(plane) = self.plane(me) {
            plane.ledger.answered(to, request, false);
        }
        self.at(me, |core, inputs| core.not_passed(to, request, inputs)).map(drop)
    }

    /// Plans the next call of a core's timer. In a storm timers come late.
    fn arm(&mut self, me: NodeId) {
        let now = self.now.mono;
        let Some(node) = self.nodes.get_mut(&me) else { return };
        let (life, Some(plane)) = (node.life, node.plane.as_mut()) else { return };
        let Some(due) = plane.core.due() else { return };
        let due = due.max(now);
        if plane.armed.is_some_and(|armed| armed <= due) {
            return;
        }
        plane.armed = Some(due);
        let at = self.lateness(due);
        self.queue.push(at, Happening::Timer(me, life));
    }

    pub fn lateness(&mut self, due: Mono) -> Mono {
        if self.storm && self.random.random_bool(0.02) {
            self.counts.add(Event::TimerLate);
            return due.plus(Duration::from_millis(self.random.random_range(50..3_000)));
        }
        due
    }

    pub fn timer(&mut self, me: NodeId, life: u32) -> Result<()> {
        let now = self.now.mono;
        let Some(node) = self.nodes.get_mut(&me).filter(|node| node.life == life) else { return Ok(()) };
        let stopped = node.stopped;
        let Some(plane) = node.plane.as_mut() else { return Ok(()) };
        if stopped > now {
            self.queue.push(stopped, Happening::Timer(me, life));
            return Ok(());
        }
        plane.armed = None;
        self.at(me, |core, inputs| core.handle_timeout(inputs))?;
        let due = self.plane(me).and_then(|plane| plane.core.due());
        require(due.is_none_or(|due| due > now), || format!("{me}: what is due stays due"))
    }
}
