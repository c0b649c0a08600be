//! One peer: protocol state, endpoints, limits.
//!
//! Owns its `Tunn`. Every datagram to the peer is made here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use rap_types::Mono;

use crate::batch::Batch;
use crate::config::{Peer, PresharedKey};
use crate::counters::DropReason;
use crate::endpoints::Endpoints;

/// Encrypted datagrams on their way out, each with its destination.
pub(crate) type Datagrams = Batch<SocketAddr>;

/// A peer of the configuration in force.
pub(crate) struct PeerEntry {
    pub(crate) public_key: [u8; 32],
    pub(crate) preshared: Option<PresharedKey>,
    /// Upper 24 bits of all own session indexes with this peer.
    pub(crate) index: u32,
    state: Mutex<PeerState>,
}

/// The part of a peer that changes with traffic.
pub(crate) struct PeerState {
    tunn: Tunn,
    pub(crate) endpoints: Endpoints,
    keepalive: Option<Duration>,
    deadline: Option<Mono>,
    /// When the last datagram was sent to the peer.
    last_sent: Mono,
    /// Number of packets that wait in `tunn` for a session.
    staged: usize,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
}

/// Keys of the device and its handshake limiters.
pub(crate) struct Identity {
    pub(crate) private: StaticSecret,
    pub(crate) public: PublicKey,
    /// Limits the handshakes of the whole device.
    pub(crate) limiter: RateLimiter,
    /// Limiter that `Tunn` uses when it checks a message again. It never demands a cookie.
    unlimited: Arc<RateLimiter>,
}

impl Identity {
    pub(crate) fn new(private: StaticSecret) -> Self {
        let public = PublicKey::from(&private);
        let limiter = RateLimiter::new(&public, HANDSHAKES_PER_SECOND);
        let unlimited = Arc::new(RateLimiter::new(&public, u64::MAX));
        Self { private, public, limiter, unlimited }
    }
}

impl PeerEntry {
    pub(crate) fn new(identity: &Identity, peer: &Peer, index: u32) -> Self {
        let tunn = Tunn::new(
            identity.private.clone(),
            peer.public_key,
            peer.preshared.as_ref().map(PresharedKey::bytes),
            // Not set here: the configuration may change it, and `Tunn` cannot. See `PeerState::tick`.
            None,
            index,
            Some(identity.unlimited.clone()),
        );
        let state = PeerState {
            tunn,
            endpoints: Endpoints::default(),
            keepalive: None,
            deadline: None,
            last_sent: Mono(0),
            staged: 0,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        Self {
            public_key: peer.public_key.to_bytes(),
            preshared: peer.preshared.clone(),
            index,
            state: Mutex::new(state),
        }
    }

    /// True if the keys are the same, so that the sessions stay valid.
    pub(crate) fn is(&self, peer: &Peer) -> bool {
        self.public_key == peer.public_key.to_bytes() && self.preshared == peer.preshared
    }

    /// Takes the settings of a configuration other than the keys.
    pub(crate) fn configure(&self, peer: &Peer, endpoints: Vec<SocketAddr>, common: Option<Mono>) {
        let mut state = self.lock();
        state.endpoints.replace(endpoints);
        state.keepalive = peer.keepalive.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()));
        state.deadline = peer.end(common);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerState {
    pub(crate) fn is_expired(&self, now: Mono) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    pub(crate) fn handshake_age(&self) -> Option<Duration> {
        self.tunn.time_since_last_handshake()
    }

    /// Sends an inner packet, or stages it until there is a session. Needs one free slot.
    pub(crate) fn send(&mut self, packet: &[u8], now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        if packet.len() + DATA_OVERHEAD > out.stride() {
            return Err(DropReason::TooBig);
        }
        if self.handshake_age().is_none() {
            if self.endpoints.current().is_none() {
                return Err(DropReason::NoEndpoint);
            }
            if self.staged >= MAX_STAGED {
                return Err(DropReason::QueueFull);
            }
            self.staged += 1;
        }
        let slot = out.slot().ok_or(DropReason::QueueFull)?;
        match self.tunn.encapsulate(packet, slot) {
            TunnResult::WriteToNetwork(datagram) => {
                let len = datagram.len();
                self.push(len, now, out)
            }
            TunnResult::Err(error) => Err(drop_of(&error)),
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => Ok(()),
        }
    }

    /// Opens a datagram into `slot`. The result borrows from it.
    pub(crate) fn open<'a>(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        slot: &'a mut [u8],
    ) -> TunnResult<'a> {
        self.tunn.decapsulate(Some(from.ip()), datagram, slot)
    }

    /// Takes the source of an authenticated datagram.
    pub(crate) fn authenticated(&mut self, from: SocketAddr, bytes: usize) {
        self.endpoints.authenticated(from);
        self.rx_bytes += bytes as u64;
    }

    /// Answers a handshake message. Needs one free slot.
    pub(crate) fn answer(
        &mut self,
        datagram: &[u8],
        now: Mono,
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        let slot = out.slot().and_then(|slot| slot.get_mut(..datagram.len())).ok_or(DropReason::QueueFull)?;
        slot.copy_from_slice(datagram);
        self.push(datagram.len(), now, out)
    }

    /// Sends the staged packets. Needs [`MAX_STAGED`] free slots.
    pub(crate) fn flush(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        while self.staged > 0 {
            let slot = out.slot().ok_or(DropReason::QueueFull)?;
            let TunnResult::WriteToNetwork(datagram) = self.tunn.decapsulate(None, &[], slot) else { break };
            if is_handshake_init(datagram) {
                // There is no session. The packet went back into the queue.
                let len = datagram.len();
                return self.push(len, now, out);
            }
            let len = datagram.len();
            self.staged -= 1;
            self.push(len, now, out)?;
        }
        if self.handshake_age().is_some() {
            self.staged = 0;
        }
        Ok(())
    }

    /// Runs the timers: retransmission, rekeying, keepalive. Call every [`TICK`]. Needs two free slots.
    pub(crate) fn tick(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        let slot = out.slot().ok_or(DropReason::QueueFull)?;
        match self.tunn.update_timers(slot) {
            TunnResult::WriteToNetwork(datagram) => {
                let len = datagram.len();
                self.push(len, now, out)?;
            }
            // Sessions and staged packets are gone. The next packet or keepalive starts a handshake.
            TunnResult::Err(_) => self.staged = 0,
            TunnResult::Done | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {}
        }
        match self.keepalive {
            Some(interval) if now.since(self.last_sent) >= interval => self.keep_alive(now, out),
            _ => Ok(()),
        }
    }

    fn keep_alive(&mut self, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        if self.endpoints.current().is_none() {
            return Ok(());
        }
        let has_session = self.handshake_age().is_some();
        let slot = out.slot().ok_or(DropReason::QueueFull)?;
        let result = if has_session {
            self.tunn.encapsulate(&[], slot)
        } else {
            self.tunn.format_handshake_initiation(slot, false)
        };
        let TunnResult::WriteToNetwork(datagram) = result else { return Ok(()) };
        let len = datagram.len();
        self.push(len, now, out)
    }

    /// Makes the free slot of `out` a datagram to this peer.
    fn push(&mut self, len: usize, now: Mono, out: &mut Datagrams) -> Result<(), DropReason> {
        let init = out.slot().is_some_and(|slot| is_handshake_init(&slot[..len]));
        let endpoint = if init { self.endpoints.next_attempt() } else { self.endpoints.current() };
        let endpoint = endpoint.ok_or(DropReason::NoEndpoint)?;
        out.push(len, endpoint);
        self.tx_bytes += len as u64;
        self.last_sent = now;
        Ok(())
    }
}

/// The counter of a protocol error.
pub(crate) fn drop_of(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex | WireGuardError::ConnectionExpired => {
            DropReason::NoSession
        }
        WireGuardError::InvalidAeadTag => DropReason::DecryptFailed,
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => DropReason::Replay,
        WireGuardError::InvalidMac => DropReason::BadMac,
        WireGuardError::UnderLoad => DropReason::UnderLoad,
        WireGuardError::DestinationBufferTooSmall => DropReason::TooBig,
        WireGuardError::UnexpectedPacket
        | WireGuardError::WrongPacketType
        | WireGuardError::WrongKey
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::WrongTai64nTimestamp => DropReason::HandshakeRejected,
        WireGuardError::IncorrectPacketLength
        | WireGuardError::InvalidPacket
        | WireGuardError::LockFailed => DropReason::Malformed,
    }
}

/// Message type 1 (WireGuard paper section 5.4.2).
pub(crate) fn is_handshake_init(datagram: &[u8]) -> bool {
    datagram.starts_with(&[1, 0, 0, 0])
}

/// How often [`PeerState::tick`] wants to be called.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Largest number of staged packets per peer.
pub(crate) const MAX_STAGED: usize = 16;
/// Length of header and tag of a data message.
const DATA_OVERHEAD: usize = 32;
/// Handshake messages per second above which senders must prove their address with a cookie.
const HANDSHAKES_PER_SECOND: u64 = 100;
