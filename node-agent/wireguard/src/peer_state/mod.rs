//! The part of a peer that changes with traffic: sessions, ways, what waits.
//!
//! Owns its `Tunn`. Every datagram to the peer is made here.

mod by_ways;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use rap_types::Mono;

use crate::attempts::Attempts;
use crate::batch::Batch;
use crate::config::Peer;
use crate::counters::DropReason;
use crate::held::Held;
use crate::protocol::{DATA_OVERHEAD, drop_of, is_handshake_init};
use crate::way::Way;
use crate::ways::{Act, PATHS, Sending, Ways};

/// Encrypted datagrams on their way out, each with its destination.
pub(crate) type Datagrams = Batch<Way>;

/// The part of a peer that changes with traffic.
pub(crate) struct PeerState {
    tunn: Tunn,
    pub(crate) ways: Ways,
    attempts: Attempts,
    /// The latest initiation, while its answer may come.
    initiation: Option<(Mono, Vec<u8>)>,
    keepalive: Option<Duration>,
    deadline: Option<Mono>,
    /// Own address and that of the peer, for probes.
    addresses: Option<(IpAddr, IpAddr)>,
    /// When the last datagram was sent to the peer.
    last_sent: Mono,
    /// When the last inner packet passed that a host made.
    traffic: Option<Mono>,
    /// Number of packets that wait in `tunn` for a session.
    staged: usize,
    held: Held,
    notes: Notes,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
}

/// What the device does after it let a peer go.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Paths are asked for.
    pub(crate) want: bool,
    /// Packets that waited too long.
    pub(crate) lost: u64,
    /// When the device looks at the peer next.
    armed: Option<Mono>,
}

impl PeerState {
    pub(crate) fn new(tunn: Tunn) -> Self {
        Self {
            tunn,
            ways: Ways::default(),
            attempts: Attempts::default(),
            initiation: None,
            keepalive: None,
            deadline: None,
            addresses: None,
            last_sent: Mono(0),
            traffic: None,
            staged: 0,
            held: Held::default(),
            notes: Notes::default(),
            rx_bytes: 0,
            tx_bytes: 0,
        }
    }

    /// Takes the settings of a configuration. `addresses`: own address and that of the peer.
    pub(crate) fn configure(
        &mut self,
        peer: &Peer,
        endpoints: Vec<SocketAddr>,
        addresses: Option<(IpAddr, IpAddr)>,
        common: Option<Mono>,
    ) {
        self.ways.configure(endpoints, peer.relayed);
        self.addresses = addresses;
        self.keepalive = peer.keepalive.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()));
        self.deadline = peer.end(common);
    }

    pub(crate) fn is_expired(&self, now: Mono) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    pub(crate) fn handshake_age(&self) -> Option<Duration> {
        self.tunn.time_since_last_handshake()
    }

    /// Sends an inner packet, or keeps it until there is a session and a way. Needs [`SEND_ROOM`] free slots.
    pub(crate) fn send(&mut self, packet: &[u8], now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        if packet.len() + DATA_OVERHEAD > out.stride() {
            return Err(DropReason::TooBig);
        }
        self.traffic = Some(now);
        self.notes.want |= self.ways.data(now) == Some(Act::Want);
        if self.handshake_age().is_none() {
            return self.stage(packet, now, out);
        }
        match self.ways.sending(now) {
            Sending::On(way) if self.held.is_empty() => self.seal(packet, way, now, out),
            Sending::On(_) | Sending::Later => self.hold(packet, now, out),
            Sending::Nowhere => Err(DropReason::NoEndpoint),
        }
    }

    /// Keeps a packet without a session; the first one begins a handshake.
    fn stage(&mut self, packet: &[u8], now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        if !self.ways.has_any() {
            let held = self.ways.is_relayed() && self.held.push(packet, now);
            return if held { Ok(()) } else { Err(DropReason::NoEndpoint) };
        }
        if self.staged >= MAX_STAGED {
            return Err(DropReason::QueueFull);
        }
        self.staged += 1;
        self.attempts.wanted(now);
        let slot = out.slot().ok_or(DropReason::QueueFull)?;
        match self.tunn.encapsulate(packet, slot) {
            TunnResult::WriteToNetwork(datagram) => {
                let len = datagram.len();
                self.push_initiation(len, now, out)
            }
            TunnResult::Err(error) => Err(drop_of(&error)),
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => Ok(()),
        }
    }

    fn hold(&mut self, packet: &[u8], now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        if !self.held.push(packet, now) {
            if !self.ways.is_holding() {
                return Err(DropReason::QueueFull);
            }
            // Better out of order than lost.
            self.ways.stop_holding();
            self.release(now, out)?;
            return self.send(packet, now, out);
        }
        self.release(now, out)
    }

    /// Sends what waits, as far as there are a way and free slots.
    pub(crate) fn release(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        self.notes.lost += self.held.expire(now);
        self.flush(now, out)?;
        while !self.held.is_empty() && out.room() >= SEND_ROOM {
            if self.handshake_age().is_none() {
                if !self.ways.has_any() || self.staged >= MAX_STAGED {
                    break;
                }
                let Some(packet) = self.held.pop() else { break };
                self.stage(&packet, now, out)?;
            } else {
                let Sending::On(way) = self.ways.sending(now) else { break };
                let Some(packet) = self.held.pop() else { break };
                self.seal(&packet, way, now, out)?;
            }
        }
        Ok(())
    }

    /// Encrypts a packet for one way. Needs one free slot.
    fn seal(&mut self, packet: &[u8], way: Way, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        let slot = out.slot().ok_or(DropReason::QueueFull)?;
        match self.tunn.encapsulate(packet, slot) {
            TunnResult::WriteToNetwork(datagram) => {
                let len = datagram.len();
                // The session ended meanwhile.
                if is_handshake_init(datagram) {
                    return self.push_initiation(len, now, out);
                }
                self.push(len, way, now, out);
                Ok(())
            }
            TunnResult::Err(error) => Err(drop_of(&error)),
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => Ok(()),
        }
    }

    /// Opens a datagram into `slot`. The result borrows from it.
    pub(crate) fn open<'a>(
        &mut self,
        datagram: &[u8],
        from: Option<IpAddr>,
        slot: &'a mut [u8],
    ) -> TunnResult<'a> {
        self.tunn.decapsulate(from, datagram, slot)
    }

    /// Takes the source of an authenticated datagram. `answer`: it answers an initiation.
    pub(crate) fn authenticated(&mut self, from: Way, bytes: usize, answer: bool, now: Mono) {
        self.ways.authenticated(from, answer, now);
        self.attempts.answered();
        self.rx_bytes += bytes as u64;
    }

    /// A handshake has ended.
    pub(crate) fn session_began(&mut self, now: Mono) {
        self.initiation = None;
        self.ways.judge_again(now);
    }

    /// A packet came that a host made.
    pub(crate) fn heard_traffic(&mut self, now: Mono) {
        self.traffic = Some(now);
    }

    /// Answers a message on the way it came. Needs one free slot.
    pub(crate) fn answer(
        &mut self,
        datagram: &[u8],
        way: Way,
        now: Mono,
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        let slot = out.slot().and_then(|slot| slot.get_mut(..datagram.len())).ok_or(DropReason::QueueFull)?;
        slot.copy_from_slice(datagram);
        self.push(datagram.len(), way, now, out);
        Ok(())
    }

    /// Sends the staged packets. Needs [`MAX_STAGED`] free slots.
    pub(crate) fn flush(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        if self.staged == 0 {
            return Ok(());
        }
        while self.staged > 0 && self.handshake_age().is_some() {
            let Sending::On(way) = self.ways.sending(now) else { return Ok(()) };
            let Some(slot) = out.slot() else { return Ok(()) };
            let TunnResult::WriteToNetwork(datagram) = self.tunn.decapsulate(None, &[], slot) else { break };
            let len = datagram.len();
            if is_handshake_init(datagram) {
                // There is no session. The packet went back into the queue.
                return self.push_initiation(len, now, out);
            }
            self.staged -= 1;
            self.push(len, way, now, out);
        }
        if self.handshake_age().is_some() {
            self.staged = 0;
        }
        Ok(())
    }

    /// Runs the timers: retransmission, rekeying, keepalive. Call every [`TICK`]. Needs [`TICK_ROOM`] free slots.
    pub(crate) fn tick(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        if self.handshake_age().is_none() && self.attempts.rests(now) {
            return Ok(());
        }
        let slot = out.slot().ok_or(DropReason::QueueFull)?;
        match self.tunn.update_timers(slot) {
            TunnResult::WriteToNetwork(datagram) => {
                let (len, initiation) = (datagram.len(), is_handshake_init(datagram));
                self.push_of_timers(len, initiation, now, out)?;
            }
            // Sessions and staged packets are gone. The next packet or keepalive starts a handshake.
            TunnResult::Err(_) => self.staged = 0,
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {}
        }
        match self.keepalive {
            Some(interval) if now.since(self.last_sent) >= interval && self.is_kept_alive(now) => {
                self.keep_alive(now, out)
            }
            _ => Ok(()),
        }
    }

    /// Without relays a keepalive is what lets the peer reach this node; with them it is for those in use only.
    fn is_kept_alive(&self, now: Mono) -> bool {
        !self.ways.is_relayed() || self.traffic.is_some_and(|traffic| now.since(traffic) < KEPT_ALIVE)
    }

    fn keep_alive(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        if !self.ways.has_any() {
            return Ok(());
        }
        let has_session = self.handshake_age().is_some();
        if !has_session {
            return self.initiate(now, out);
        }
        let slot = out.slot().ok_or(DropReason::QueueFull)?;
        let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(&[], slot) else { return Ok(()) };
        let (len, initiation) = (datagram.len(), is_handshake_init(datagram));
        self.push_of_timers(len, initiation, now, out)
    }

    /// Begins a handshake, unless one is under way.
    fn initiate(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        let slot = out.slot().ok_or(DropReason::QueueFull)?;
        match self.tunn.format_handshake_initiation(slot, false) {
            TunnResult::WriteToNetwork(datagram) => {
                let len = datagram.len();
                self.push_initiation(len, now, out)
            }
            _ => Ok(()),
        }
    }

    /// Sends what a timer made. Nothing of that is worth waiting for a way.
    fn push_of_timers(
        &mut self,
        len: usize,
        initiation: bool,
        now: Mono,
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        if initiation {
            return self.push_initiation(len, now, out);
        }
        if let Sending::On(way) = self.ways.sending(now) {
            self.push(len, way, now, out);
        }
        Ok(())
    }

    /// Makes the free slot of `out` an initiation, on every way that there is.
    fn push_initiation(&mut self, len: usize, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        let bytes = out.slot().map(|slot| slot[..len].to_vec()).ok_or(DropReason::QueueFull)?;
        let ways = self.ways.of_initiation();
        for way in &ways {
            if out.copy(&bytes, *way) {
                self.tx_bytes += len as u64;
            }
        }
        self.attempts.sent(now, self.ways.endpoints.ring().len());
        self.initiation = Some((now, bytes));
        self.last_sent = now;
        if ways.is_empty() { Err(DropReason::NoEndpoint) } else { Ok(()) }
    }

    /// Makes the free slot of `out` a datagram to this peer.
    fn push(&mut self, len: usize, way: Way, now: Mono, out: &mut Datagrams) {
        out.push(len, way);
        self.tx_bytes += len as u64;
        self.last_sent = now;
    }
}

/// Slots that [`PeerState::send`] may use: an initiation goes on every way.
pub(crate) const SEND_ROOM: usize = 1 + PATHS;
/// Slots that [`PeerState::tick`] may use.
pub(crate) const TICK_ROOM: usize = 2 * SEND_ROOM;
/// Slots that [`PeerState::look_at_ways`] may use: probes, an initiation, and what is released after them.
pub(crate) const WAYS_ROOM: usize = 3 * SEND_ROOM + MAX_STAGED;
/// A peer in use is kept alive for this long after the last packet.
const KEPT_ALIVE: Duration = Duration::from_secs(180);
/// How often [`PeerState::tick`] wants to be called.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Largest number of staged packets per peer.
pub(crate) const MAX_STAGED: usize = 16;
