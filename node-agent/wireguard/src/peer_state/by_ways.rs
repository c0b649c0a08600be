//! Probes and paths of a peer, and what happens when its ways change.

use std::time::Duration;

use rap_types::Mono;

use super::{Datagrams, Notes, PeerState};
use crate::counters::DropReason;
use crate::path_probe::PathProbe;
use crate::protocol::DATA_OVERHEAD;
use crate::way::{PathEnd, PathSlot, Way};
use crate::ways::{Act, Sending};

impl PeerState {
    /// Handles a probe of the peer, which is not traffic. `packet` is the inner packet. Needs one free slot.
    pub(crate) fn probed(
        &mut self,
        probe: PathProbe,
        answer: &[u8],
        from: Way,
        now: Mono,
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        self.rx_bytes = self.rx_bytes.saturating_sub((answer.len() + DATA_OVERHEAD) as u64);
        if probe.answer {
            self.ways.answered(from, probe.sequence, probe.time, now);
            return self.release(now, out);
        }
        self.send_probe(answer, from, now, out)
    }

    fn send_probe(
        &mut self,
        packet: &[u8],
        way: Way,
        now: Mono,
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        let (sent, data) = (self.tx_bytes, self.last_sent);
        let result = self.seal(packet, way, now, out);
        (self.tx_bytes, self.last_sent) = (sent, data);
        result
    }

    /// A path to the peer stands: what waits goes on it, and so does an initiation that is not answered yet. Needs
    /// [`SEND_ROOM`] free slots.
    pub(crate) fn path_up(
        &mut self,
        end: PathEnd,
        slot: PathSlot,
        now: Mono,
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        self.ways.path_up(end, slot, now);
        if let Some((_, initiation)) =
            self.initiation.as_ref().filter(|(sent, _)| now.since(*sent) < INITIATION_LIVES)
        {
            out.copy(initiation, Way::Path(end));
        }
        self.release(now, out)
    }

    /// A path to the peer has ended. Needs [`SEND_ROOM`] free slots.
    pub(crate) fn path_down(
        &mut self,
        end: PathEnd,
        now: Mono,
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        self.notes.want |= self.ways.path_down(end, now) == Some(Act::Want);
        self.release(now, out)
    }

    /// Does what the ways ask for. Needs [`WAYS_ROOM`] free slots.
    pub(crate) fn look_at_ways(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        let session = self.handshake_age().is_some();
        for act in self.ways.timeout(now) {
            match (act, self.addresses) {
                (Act::Want, _) => self.notes.want = true,
                (Act::Renew, _) => self.initiate(now, out)?,
                (Act::Probe(way, sequence), Some((own, peer))) if session => {
                    if let Some(packet) = PathProbe::request(own, peer, sequence, now) {
                        self.send_probe(&packet, way, now, out)?;
                    }
                }
                // It stays without an answer, as it should on a way that nothing can be asked on.
                (Act::Probe(..), _) => {}
            }
        }
        self.release(now, out)
    }

    /// What is to be done after the peer was let go, and when it is to be looked at if that is sooner than before.
    pub(crate) fn settle(&mut self, now: Mono) -> (Notes, Option<Mono>) {
        let waits = !self.held.is_empty() || self.staged > 0;
        let before = self.notes.armed;
        let sooner = if !waits && before.is_some_and(|armed| armed.since(now) <= SOON) {
            // Every packet comes here: that it is looked at soon is enough.
            None
        } else {
            let ready = matches!(self.ways.sending(now), Sending::On(_)) && self.handshake_age().is_some();
            let held = if waits && ready { Some(now) } else { self.held.due() };
            let due = [self.ways.due(now), held].into_iter().flatten().min();
            due.filter(|due| before.is_none_or(|armed| *due < armed))
        };
        let armed = sooner.or(before);
        (std::mem::replace(&mut self.notes, Notes { armed, ..Notes::default() }), sooner)
    }

    /// True if this is the time at which the peer is to be looked at; then there is none any more.
    pub(crate) fn disarm(&mut self, due: Mono) -> bool {
        let armed = self.notes.armed == Some(due);
        if armed {
            self.notes.armed = None;
        }
        armed
    }
}

/// As long as the protocol waits for an answer before it makes another initiation.
const INITIATION_LIVES: Duration = Duration::from_secs(5);
/// No judgement of a way hangs on less.
const SOON: Duration = Duration::from_millis(200);
