//! Traffic: what pairs of nodes say to each other, by the way that the shipped choice of ways names.

use std::time::Duration;

use anyhow::Result;
use rap_link::path::{PathEvent, PathSlot, wireguard_payload};
use rap_types::{Mono, NodeId, Reason};
use rap_wireguard::{Act, Sending, Way};

use super::frames::word;
use super::happening::{Carried, Data, Happening};
use super::hub::Fabric;
use super::node::Peer;
use super::tunnel::{self, Inner};
use crate::events::Event;
use crate::require::require;

impl Fabric {
    /// One of a pair says something, and will do so again.
    pub fn talk(&mut self, me: NodeId, to: NodeId, round: u32) -> Result<()> {
        if round != self.round {
            return Ok(());
        }
        let again = self.after(400, 600);
        self.queue.push(again, Happening::Talk(me, to, round));
        if !self.nodes.get(&me).is_some_and(|node| node.runs(self.now.mono)) {
            return Ok(());
        }
        let now = self.now.mono;
        let Some(peer) = self.peer(me, to) else { return Ok(()) };
        peer.held = (peer.held + 1).min(HELD);
        let asked = peer.ways.data(now);
        self.act(me, to, asked.into_iter().collect())
    }

    fn peer(&mut self, me: NodeId, of: NodeId) -> Option<&mut Peer> {
        self.plane(me)?.peers.get_mut(&of)
    }

    /// Does what the ways to a peer ask for, and sends what waits.
    fn act(&mut self, me: NodeId, to: NodeId, acts: Vec<Act>) -> Result<()> {
        for act in acts {
            match act {
                Act::Want => {
                    let wanted = self.at(me, |core, inputs| core.want(to, inputs))?;
                    let known =
                        wanted.is_none_or(|wanted| wanted.is_ok() || wanted == Err(Reason::PathUnknown));
                    require(known, || format!("{me} may not want paths to {to}: {wanted:?}"))?;
                }
                Act::Probe(way, sequence) => self.say(me, to, way, Inner::Ask(sequence, self.now.mono))?,
                Act::Renew => self.counts.add(Event::SessionRenewed),
            }
        }
        let now = self.now.mono;
        while let Some(peer) = self.peer(me, to).filter(|peer| peer.held > 0) {
            match peer.ways.sending(now) {
                Sending::On(way) => {
                    peer.held -= 1;
                    self.say(me, to, way, Inner::Data)?;
                }
                Sending::Later => break,
                Sending::Nowhere => peer.held = 0,
            }
        }
        self.look(me, to);
        Ok(())
    }

    /// Notes by which path the traffic goes, and plans the timer of the ways.
    fn look(&mut self, me: NodeId, to: NodeId) {
        let now = self.now.mono;
        let Some(node) = self.nodes.get_mut(&me) else { return };
        let (life, Some(plane)) = (node.life, node.plane.as_mut()) else { return };
        let Some(peer) = plane.peers.get_mut(&to) else { return };
        let used = peer.ways.in_use().and_then(|way| match way {
            Way::Path(end) => plane.ends.get(&end.0).map(|(_, _, slot)| *slot),
            Way::Udp(_) => None,
        });
        let before = peer.used;
        peer.used = used.or(before);
        let failed_over = before.zip(used).is_some_and(|(before, used)| before != used);
        // As the device: every packet comes here, and that it is looked at soon is enough.
        let soon = peer.armed.is_some_and(|armed| armed.since(now) <= SOON);
        let due = if soon { None } else { peer.ways.due(now) };
        let due = due.map(|due| due.max(now.plus(Duration::from_millis(1))));
        let armed = due.filter(|due| peer.armed.is_none_or(|armed| *due < armed));
        peer.armed = armed.or(peer.armed);
        if failed_over {
            self.counts.add(Event::Failover);
        }
        if let Some(due) = armed {
            let at = self.lateness(due);
            self.queue.push(at, Happening::WayTimer(me, to, life));
        }
    }

    pub fn way_timer(&mut self, me: NodeId, to: NodeId, life: u32) -> Result<()> {
        let now = self.now.mono;
        let Some(node) = self.nodes.get_mut(&me).filter(|node| node.life == life) else { return Ok(()) };
        if node.stopped > now {
            self.queue.push(node.stopped, Happening::WayTimer(me, to, life));
            return Ok(());
        }
        let Some(peer) = self.peer(me, to) else { return Ok(()) };
        peer.armed = None;
        let acts = peer.ways.timeout(now);
        self.act(me, to, acts)
    }

    fn say(&mut self, me: NodeId, to: NodeId, way: Way, inner: Inner) -> Result<()> {
        let now = self.now.mono;
        let Some(plane) = self.plane(me) else { return Ok(()) };
        let Way::Path(end) = way else { return Ok(()) };
        let Some((end, ..)) = plane.ends.get(&end.0).copied() else { return Ok(()) };
        plane.counter += 1;
        let text = tunnel::seal(me, to, plane.counter, inner);
        let Ok((next, label, hop_budget)) = plane.core.send_on(end, now) else { return Ok(()) };
        require(plane.ledger.may_send(next, label), || {
            format!("{me} sends to {next} by a label of no path that it is an end of")
        })?;
        let Ok(payload) = wireguard_payload(&text) else { return Ok(()) };
        let data = Data {
            label,
            hop_budget,
            payload,
            maker: me,
            passed: Vec::new(),
            touched: false,
            foreign: false,
        };
        self.transmit(me, next, Carried::Data(data));
        Ok(())
    }

    /// A core tells what became of a path, or brings a datagram.
    pub fn told(&mut self, me: NodeId, event: PathEvent) -> Result<()> {
        let now = self.now.mono;
        match event {
            PathEvent::Up { end, peer: of, slot, relays } => {
                self.trail.add(&[4, now.0, word(me), word(of), relays.len() as u64]);
                self.counts.add(if slot == PathSlot::Backup { Event::BackupUp } else { Event::PathUp });
                let Some(plane) = self.plane(me) else { return Ok(()) };
                require(plane.ends.insert(end.number(), (end, of, slot)).is_none(), || {
                    format!("{me} names two paths {}", end.number())
                })?;
                if let Some(peer) = plane.peers.get_mut(&of) {
                    peer.ways.path_up(rap_wireguard::PathEnd(end.number()), slot_of(slot), now);
                }
                self.act(me, of, Vec::new())
            }
            PathEvent::Down { end, reason } => {
                self.trail.add(&[5, now.0, word(me), end.number()]);
                self.counts.add(match reason {
                    Reason::PathExpired => Event::PathExpired,
                    Reason::PathReplaced | Reason::PathWithdrawn => Event::PathReplaced,
                    _ => Event::PathBroken,
                });
                let Some(plane) = self.plane(me) else { return Ok(()) };
                let ended = plane.ends.remove(&end.number());
                let Some((_, of, _)) = ended else {
                    return require(false, || format!("{me} ends a path that was not up"));
                };
                let peer = plane.peers.get_mut(&of);
                let asked =
                    peer.and_then(|peer| peer.ways.path_down(rap_wireguard::PathEnd(end.number()), now));
                self.act(me, of, asked.into_iter().collect())
            }
            PathEvent::Refused { .. } => {
                self.counts.add(Event::PathRefused);
                Ok(())
            }
            PathEvent::Received { end, peer: of, datagram } => self.received(me, end.number(), of, &datagram),
        }
    }

    /// A datagram, as the tunnel judges it.
    fn received(&mut self, me: NodeId, end: u64, of: NodeId, datagram: &[u8]) -> Result<()> {
        let now = self.now.mono;
        let Some(plane) = self.plane(me) else { return Ok(()) };
        let Some((maker, counter, inner)) = tunnel::open(datagram, me) else {
            self.counts.add(Event::ModifiedRefusedAtTheEnd);
            return Ok(());
        };
        if maker != of {
            self.counts.add(Event::SpliceRefusedAtTheEnd);
            return Ok(());
        }
        let Some(peer) = plane.peers.get_mut(&maker) else { return Ok(()) };
        if !peer.window.takes(counter) {
            self.counts.add(Event::CopyRefusedAtTheEnd);
            return Ok(());
        }
        let way = Way::Path(rap_wireguard::PathEnd(end));
        peer.ways.authenticated(way, false, now);
        match inner {
            Inner::Data => peer.heard = Some(now),
            Inner::Ask(sequence, time) => self.say(me, maker, way, Inner::Answer(sequence, time))?,
            Inner::Answer(sequence, time) => peer.ways.answered(way, sequence, time, now),
        }
        self.act(me, maker, Vec::new())
    }

    /// When `me` last heard traffic of a node.
    pub fn heard_of(&mut self, me: NodeId, of: NodeId) -> Option<Mono> {
        self.peer(me, of)?.heard
    }
}

fn slot_of(slot: PathSlot) -> rap_wireguard::PathSlot {
    match slot {
        PathSlot::Primary => rap_wireguard::PathSlot::Primary,
        PathSlot::Backup => rap_wireguard::PathSlot::Backup,
        PathSlot::Answering => rap_wireguard::PathSlot::Answering,
    }
}

/// Datagrams that wait for a way.
const HELD: u32 = 4;
const SOON: Duration = Duration::from_millis(200);
