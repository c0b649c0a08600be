//! Frames on links: how they get lost or late, and what a node makes of one that arrives.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use prost::Message as _;
use rand::RngExt as _;
use rap_contract::PATH_HOPS_MAX;
use rap_link::path::Verdict;
use rap_link::{Frame, FrameKind};
use rap_types::{ChannelClass, NodeId, Reason};
use rap_wire::v1;

use super::happening::{Carried, Data, Happening};
use super::hub::Fabric;
use super::ledger::Due;
use super::node::Conduct;
use crate::events::Event;
use crate::require::require;

impl Fabric {
    /// Sends over the link with a neighbour, if this end believes that it stands.
    pub fn transmit(&mut self, from: NodeId, to: NodeId, carried: Carried) {
        let link = self.plane(from).and_then(|plane| plane.links.get(&to).copied());
        let Some(connection) = link else { return };
        if let Carried::Message(FrameKind::PathRequest, payload) = &carried {
            if self.heard.len() == REMEMBERED {
                self.heard.pop_front();
            }
            self.heard.push_back((from, to, payload.clone()));
        }
        let share = self.wire.loss(from, to) * if matches!(carried, Carried::Data(_)) { 1.0 } else { 0.1 };
        let lost = !self.wire.reaches(from, to) || (share > 0.0 && self.random.random_bool(share));
        if lost {
            return self.counts.add(Event::FrameLost);
        }
        let jitter = Duration::from_micros(self.random.random_range(0..2_000));
        let mut at = self.wire.arrival(from, to, self.now.mono, jitter);
        if self.storm && self.random.random_bool(0.02) {
            self.counts.add(Event::FrameOutOfOrder);
            at = at.plus(Duration::from_millis(self.random.random_range(1..400)));
        }
        if self.storm && self.random.random_bool(0.01) {
            self.counts.add(Event::FrameTwice);
            let again = at.plus(Duration::from_millis(self.random.random_range(0..200)));
            let copy = Happening::Frame { from, to, connection, carried: carried.clone() };
            self.queue.push(again, copy);
        }
        self.queue.push(at, Happening::Frame { from, to, connection, carried });
    }

    /// A frame arrives at `me`.
    pub fn arrive(&mut self, me: NodeId, from: NodeId, connection: u64, carried: Carried) -> Result<()> {
        let now = self.now.mono;
        let Some(node) = self.nodes.get_mut(&me) else { return Ok(()) };
        if node.stopped > now && node.plane.is_some() {
            self.counts.add(Event::FrameLate);
            let again = Happening::Frame { from, to: me, connection, carried };
            self.queue.push(node.stopped, again);
            return Ok(());
        }
        let Some(plane) = node.plane.as_mut() else { return Ok(()) };
        if plane.links.get(&from) != Some(&connection) {
            return Ok(());
        }
        self.trail.add(&[1, now.0, word(me), word(from)]);
        let (kind, payload) = match carried {
            Carried::Data(data) => return self.data(me, from, data),
            Carried::Message(kind, payload) => (kind, payload),
        };
        let taken = match kind {
            FrameKind::PathRequest => return self.take_request(me, from, &payload),
            FrameKind::PathAnswer => {
                if let Ok(answer) = v1::PathAnswer::decode(payload.as_slice()) {
                    plane.ledger.answered(from, answer.request_id, answer.reason.is_empty());
                }
                self.at(me, |core, inputs| core.answer(from, &payload, (900, 10), inputs))?
            }
            FrameKind::PathWithdraw => {
                if plane.ledger.withdrawn(from, &payload) {
                    self.counts.add(Event::PathWithdrawn);
                }
                self.at(me, |core, inputs| core.withdraw(from, &payload, inputs.now.mono))?
            }
            FrameKind::PathFault => {
                plane.ledger.faulted(from, &payload);
                self.at(me, |core, inputs| core.fault(from, &payload, inputs))?
            }
            _ => None,
        };
        require(taken.is_none_or(|taken| taken.is_ok()), || format!("{me} cannot read a {kind:?} of {from}"))
    }

    fn data(&mut self, me: NodeId, from: NodeId, mut data: Data) -> Result<()> {
        data.passed.push(me);
        require(data.passed.len() <= usize::from(PATH_HOPS_MAX), || {
            format!("a frame passed more nodes than any path has: {:?}", data.passed)
        })?;
        let before = &data.passed[..data.passed.len() - 1];
        require(data.touched || (!before.contains(&me) && data.maker != me), || {
            format!("a frame went round: {:?}", data.passed)
        })?;
        let Some(conduct) = self.nodes.get(&me).map(|node| node.conduct) else { return Ok(()) };
        let (label, budget) = (data.label, data.hop_budget);
        let frame = Frame::labelled(ChannelClass::Vpn, label, budget, data.payload.clone());
        let verdict = self.at(me, |core, inputs| core.frame(from, label, &frame, inputs.now.mono))?;
        let Some(verdict) = verdict else { return Ok(()) };
        if let Verdict::Refused(reason) = verdict {
            if data.foreign {
                self.counts.add(Event::LabelForeign);
            }
            if reason == Reason::PathLabelUnknown {
                self.counts.add(Event::LabelRefused);
            }
            return Ok(());
        }
        require(!data.foreign, || format!("{me} took a label of another neighbour from {from}"))?;
        let now = self.now.mono;
        let Some(node) = self.nodes.get(&me) else { return Ok(()) };
        let Some(plane) = node.plane.as_ref() else { return Ok(()) };
        let due = plane.ledger.due(me, from, label, &node.facts, now)?;
        match verdict {
            Verdict::Forward { to, label: out, hop_budget } => {
                require(due == Due::Forward(to, out) && hop_budget + 1 == budget, || {
                    format!("{me} sends a frame on to {to} by {out}, the install says {due:?}")
                })?;
                data.hop_budget = hop_budget;
                data.label = out;
                match conduct {
                    Conduct::Honest => {}
                    Conduct::Swallows => {
                        self.counts.add(Event::FramesSwallowed);
                        return Ok(());
                    }
                    Conduct::Modifies => {
                        let mut payload = data.payload.to_vec();
                        if let Some(last) = payload.last_mut() {
                            *last ^= 1;
                        }
                        (data.payload, data.touched) = (Bytes::from(payload), true);
                        self.counts.add(Event::PayloadModified);
                    }
                    Conduct::Splices => {
                        if let Some(other) = plane.ledger.other_label(to, out) {
                            (data.label, data.touched) = (other, true);
                            self.counts.add(Event::LabelSpliced);
                        }
                    }
                }
                self.transmit(me, to, Carried::Data(data));
                Ok(())
            }
            Verdict::Deliver { end, peer } => {
                require(due == Due::Deliver(peer), || {
                    format!("{me} takes a frame as one of {peer}, the install says {due:?}")
                })?;
                require(data.touched || data.maker == peer, || {
                    format!("{me} takes a frame of {} as one of {peer}", data.maker)
                })?;
                self.at(me, |core, _| core.deliver(end, peer, &data.payload)).map(drop)
            }
            Verdict::Refused(_) => Ok(()),
        }
    }
}

/// A node in a trail.
pub fn word(node: NodeId) -> u64 {
    node.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

const REMEMBERED: usize = 1024;
