//! From a datagram to an inner packet: find the peer, open, check whose packet it is, deliver.

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};
use rap_types::Mono;

use crate::active::ActiveConfig;
use crate::allowed_sources::Owner;
use crate::batch::Batch;
use crate::counters::DropReason;
use crate::packet::Inner;
use crate::path_probe::{PATH_PROBE, PathProbe};
use crate::peer::PeerEntry;
use crate::peer_state::{Datagrams, MAX_STAGED, PeerState, SEND_ROOM};
use crate::protocol::{drop_of, is_handshake};
use crate::responder::Outcome;
use crate::tunnel::Tunnel;
use crate::way::Way;

/// Free slots that handling one datagram may use.
pub(crate) const INBOUND_ROOM: usize = MAX_STAGED + 2 + SEND_ROOM;

/// Where the results of a batch are collected.
pub(crate) struct Arrivals {
    /// Answers to the network.
    pub(crate) out: Datagrams,
    /// Packets for the TUN.
    pub(crate) inner: Batch<()>,
}

/// The part of a message that is needed after its peer is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Initiation,
    Response,
    Cookie,
    Data,
}

impl Tunnel {
    /// Handles one datagram. Needs [`INBOUND_ROOM`] free slots in both batches.
    pub(crate) fn receive(
        &self,
        active: &ActiveConfig,
        now: Mono,
        datagram: &[u8],
        from: Way,
        arrivals: &mut Arrivals,
    ) {
        let result = self.try_receive(active, now, datagram, from, arrivals);
        self.count(result);
    }

    fn try_receive(
        &self,
        active: &ActiveConfig,
        now: Mono,
        datagram: &[u8],
        from: Way,
        arrivals: &mut Arrivals,
    ) -> Result<(), DropReason> {
        let mut cookie = [0; COOKIE_REPLY];
        let address = is_handshake(datagram).then(|| from.cookie_address());
        let packet = match self.identity.limiter.verify_packet(address, datagram, &mut cookie) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(reply)) => {
                arrivals.out.copy(reply, from);
                return Err(DropReason::UnderLoad);
            }
            Err(TunnResult::Err(error)) => return Err(drop_of(&error)),
            Err(_) => return Err(DropReason::Malformed),
        };
        let (entry, message) = self.find(active, &packet)?;
        let mut state = entry.lock();
        if state.is_expired(now) {
            return Err(DropReason::Expired);
        }
        let slot = arrivals.inner.slot().ok_or(DropReason::QueueFull)?;
        if datagram.len() > slot.len() {
            return Err(DropReason::TooBig);
        }
        let len = match (state.open(datagram, address, slot), message) {
            (TunnResult::Done, Message::Cookie) => return Ok(()),
            (TunnResult::Done, _) => 0,
            (TunnResult::Err(boringtun::noise::errors::WireGuardError::InvalidPacket), Message::Data) => {
                return Err(DropReason::NotIp);
            }
            (TunnResult::Err(error), _) => return Err(drop_of(&error)),
            (TunnResult::WriteToNetwork(answer), _) => {
                state.authenticated(from, datagram.len(), message == Message::Response, now);
                state.session_began(now);
                state.answer(answer, from, now, &mut arrivals.out)?;
                0
            }
            (TunnResult::WriteToTunnelV4(packet, _), _) | (TunnResult::WriteToTunnelV6(packet, _), _) => {
                packet.len()
            }
        };
        if message == Message::Data {
            state.authenticated(from, datagram.len(), false, now);
        }
        let mut result = state.release(now, &mut arrivals.out);
        if len > 0 {
            let delivered = self.deliver(active, now, (entry, &mut state), len, from, arrivals);
            result = result.and(delivered);
        }
        self.settle(entry, &mut state, now);
        result
    }

    /// The peer a message is from, or claims to be from.
    fn find<'t>(
        &self,
        active: &'t ActiveConfig,
        packet: &Packet<'_>,
    ) -> Result<(&'t PeerEntry, Message), DropReason> {
        let by_session = |session| active.by_session(session).ok_or(DropReason::NoSession);
        match packet {
            Packet::HandshakeInit(init) => {
                let half = parse_handshake_anon(&self.identity.private, &self.identity.public, init);
                let half = half.map_err(|_| DropReason::DecryptFailed)?;
                let entry = active.by_key(&half.peer_static_public).ok_or(DropReason::NoPeer)?;
                Ok((entry, Message::Initiation))
            }
            Packet::HandshakeResponse(message) => Ok((by_session(message.receiver_idx)?, Message::Response)),
            Packet::PacketCookieReply(message) => Ok((by_session(message.receiver_idx)?, Message::Cookie)),
            Packet::PacketData(message) => Ok((by_session(message.receiver_idx)?, Message::Data)),
        }
    }

    /// Delivers the packet in the free slot of `arrivals.inner`, if `entry` may send it.
    fn deliver(
        &self,
        active: &ActiveConfig,
        now: Mono,
        (entry, state): (&PeerEntry, &mut PeerState),
        len: usize,
        from: Way,
        arrivals: &mut Arrivals,
    ) -> Result<(), DropReason> {
        let slot = arrivals.inner.slot().ok_or(DropReason::QueueFull)?;
        let packet = &mut slot[..len];
        let inner = Inner::read(packet).ok_or(DropReason::NotIp)?;
        // An own address, or one of a prefix that is forwarded here, is no peer's.
        let sender = active.peer_of(inner.source);
        if sender.is_none_or(|sender| sender.index != entry.index) {
            return Err(DropReason::BadSource);
        }
        if inner.is_to_many() {
            return Err(DropReason::Multicast);
        }
        let own = match active.owner(inner.destination) {
            Some(Owner::Own) => true,
            Some(Owner::Routed) => false,
            Some(Owner::Peer(_)) | None => return Err(DropReason::BadDestination),
        };
        if inner.protocol == PATH_PROBE {
            let probe = PathProbe::read(&inner, packet).filter(|_| own).ok_or(DropReason::Probe)?;
            if !probe.answer {
                PathProbe::answer(&inner, packet);
            }
            return state.probed(probe, packet, from, now, &mut arrivals.out);
        }
        state.heard_traffic(now);
        tracing::trace!(way = "a packet is delivered");
        if self.host.interface.is_some() {
            if !self.host.responder.takes(&inner, packet, now) {
                arrivals.inner.push(len, ());
            }
            return Ok(());
        }
        // Without an interface nothing is forwarded.
        let outcome = if own { self.host.responder.handle(&inner, packet, now) } else { Outcome::Unwanted };
        match outcome {
            Outcome::Reply => state.send(packet, now, &mut arrivals.out),
            Outcome::Taken => Ok(()),
            Outcome::Unwanted => Err(DropReason::NoListener),
        }
    }
}

/// Bytes of a cookie reply message.
const COOKIE_REPLY: usize = 64;
