//! State shared by the tasks of a device: identity, configuration in force, counters, responder.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use boringtun::x25519::{PublicKey, StaticSecret};
use ipnet::IpNet;
use rap_runtime::Clock;
use rap_types::Mono;

use crate::active::{ActiveConfig, Prepared};
use crate::agenda::Agenda;
use crate::config::DeviceConfig;
use crate::counters::{Counters, DropReason};
use crate::error::ConfigError;
use crate::peer::{Identity, PeerEntry};
use crate::peer_state::PeerState;
use crate::responder::Responder;
use crate::way::PathPort;

/// Destination of inner packets.
pub(crate) struct Host {
    /// Name of the TUN interface. Absent: inner packets stay in this process.
    pub(crate) interface: Option<String>,
    /// Answers echo requests without a TUN, and takes the replies that this process waits for.
    pub(crate) responder: Responder,
}

/// One WireGuard device without its sockets.
pub(crate) struct Tunnel {
    pub(crate) identity: Identity,
    pub(crate) counters: Counters,
    pub(crate) host: Host,
    pub(crate) clock: Clock,
    pub(crate) agenda: Agenda,
    paths: Option<Arc<dyn PathPort>>,
    /// Locked for the length of a batch, so that after [`Self::replace`] nothing uses the old configuration.
    active: RwLock<ActiveConfig>,
}

impl Tunnel {
    pub(crate) fn new(
        private_key: StaticSecret,
        host: Host,
        paths: Option<Arc<dyn PathPort>>,
        clock: Clock,
    ) -> Self {
        Self {
            identity: Identity::new(private_key),
            counters: Counters::new(),
            host,
            clock,
            agenda: Agenda::default(),
            paths,
            active: RwLock::default(),
        }
    }

    pub(crate) fn now(&self) -> Mono {
        self.clock.now().mono
    }

    pub(crate) fn active(&self) -> RwLockReadGuard<'_, ActiveConfig> {
        self.active.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a configuration and makes its new parts. One caller at a time; it then calls [`Self::replace`].
    ///
    /// # Errors
    /// [`ConfigError`]: it contradicts itself.
    pub(crate) fn prepare(&self, next: &DeviceConfig) -> Result<Prepared, ConfigError> {
        self.active().prepare(&self.identity, next)
    }

    /// Puts a prepared configuration in force. `held`: parts of the pools that are the host's.
    pub(crate) fn replace(&self, next: &DeviceConfig, held: &[IpNet], prepared: Prepared) {
        self.active_mut().replace(&self.identity, next, held, prepared);
    }

    /// Removes peers whose deadline passed.
    pub(crate) fn expire(&self, now: Mono) {
        let due = self.active().peers().iter().any(|entry| entry.lock().is_expired(now));
        if due {
            let gone = self.active_mut().expire(now);
            tracing::info!(peers = gone, "peers removed at their deadline");
        }
    }

    /// Another endpoint for a handshake message that the kernel cannot send to `failed`.
    pub(crate) fn other_endpoint(&self, datagram: &[u8], failed: SocketAddr) -> Option<SocketAddr> {
        let session = u32::from_le_bytes(datagram.get(4..8)?.try_into().ok()?);
        let active = self.active();
        active.by_session(session)?.lock().ways.endpoints.failed(failed)
    }

    pub(crate) fn count(&self, result: Result<(), DropReason>) {
        if let Err(reason) = result {
            self.counters.count(reason);
        }
    }

    /// Does what is to be done after something happened to a peer.
    pub(crate) fn settle(&self, entry: &PeerEntry, state: &mut PeerState, now: Mono) {
        let (notes, sooner) = state.settle(now);
        if notes.lost > 0 {
            self.counters.add(DropReason::NoWay, notes.lost);
        }
        if let Some(paths) = self.paths.as_ref().filter(|_| notes.want) {
            paths.want(&PublicKey::from(entry.public_key));
        }
        if let Some(due) = sooner {
            self.agenda.add(due, entry.index);
        }
    }

    fn active_mut(&self) -> RwLockWriteGuard<'_, ActiveConfig> {
        self.active.write().unwrap_or_else(PoisonError::into_inner)
    }
}
