//! One peer of the configuration in force: keys, index, and the lock around its state.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boringtun::noise::Tunn;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519::{PublicKey, StaticSecret};
use rap_types::Mono;

use crate::config::{Peer, PresharedKey};
use crate::peer_state::PeerState;

/// A peer of the configuration in force.
pub(crate) struct PeerEntry {
    pub(crate) public_key: [u8; 32],
    pub(crate) preshared: Option<PresharedKey>,
    /// Upper 24 bits of all own session indexes with this peer.
    pub(crate) index: u32,
    state: Mutex<PeerState>,
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
        Self {
            public_key: peer.public_key.to_bytes(),
            preshared: peer.preshared.clone(),
            index,
            state: Mutex::new(PeerState::new(tunn)),
        }
    }

    /// True if the keys are the same, so that the sessions stay valid.
    pub(crate) fn is(&self, peer: &Peer) -> bool {
        self.public_key == peer.public_key.to_bytes() && self.preshared == peer.preshared
    }

    /// Takes the settings of a configuration other than the keys. `addresses`: own address and that of the peer.
    pub(crate) fn configure(
        &self,
        peer: &Peer,
        endpoints: Vec<SocketAddr>,
        addresses: Option<(IpAddr, IpAddr)>,
        common: Option<Mono>,
    ) {
        self.lock().configure(peer, endpoints, addresses, common);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handshake messages per second above which senders must prove their address with a cookie.
const HANDSHAKES_PER_SECOND: u64 = 100;
