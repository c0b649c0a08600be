//! Settings and configuration of a device.
//!
//! Owns their shapes. Refuses to own defaults of policy.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use boringtun::x25519::{PublicKey, StaticSecret};
use ipnet::IpNet;
use rap_types::Mono;
use zeroize::Zeroizing;

use crate::way::PathPort;

/// MTU of the overlay unless the caller sets another: the minimum of IPv6 (RFC 8200 section 5).
pub const DEFAULT_MTU: u16 = 1280;

/// Settings that are fixed while a device runs.
pub struct DeviceSettings {
    /// Private key of the device. Wiped when the device ends.
    pub private_key: StaticSecret,
    /// UDP address for encrypted datagrams. The IPv6 wildcard also carries IPv4.
    pub underlay: SocketAddr,
    /// The TUN interface. Absent: none is made, and the process itself answers echo requests.
    pub tun: Option<TunConfig>,
    /// Paths through relays. Absent: every peer is reached directly only.
    pub paths: Option<Arc<dyn PathPort>>,
}

/// A TUN interface to create. It is removed when the device ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunConfig {
    /// Interface name, `rap<n>`.
    pub name: String,
    /// Largest inner packet in bytes; see [`DEFAULT_MTU`].
    pub mtu: u16,
    /// File that says what of the overlay outlives the process: unreachable routes and a packet filter. Absent: nothing
    /// does.
    pub record: Option<PathBuf>,
    /// Prefixes in which routes of the host do not hold the overlay back.
    pub allowed: Vec<IpNet>,
}

/// Everything that a device may do, until the deadlines.
#[derive(Debug, Clone, Default)]
pub struct DeviceConfig {
    /// Own overlay addresses, each with the prefix length of its pool.
    pub addresses: Vec<IpNet>,
    /// Prefixes that this node forwards for. Packets from and to them pass between peers and the interface.
    /// The caller also sets up forwarding on the host.
    pub routed: Vec<IpNet>,
    /// Addresses of the control plane. The overlay never takes them from the host.
    pub control: BTreeSet<IpAddr>,
    /// Peers of this device.
    pub peers: Vec<Peer>,
    /// When all peers are removed that are not marked [`Peer::survive_forever`]. Absent: never.
    pub deadline: Option<Mono>,
}

/// One peer of a configuration.
#[derive(Debug, Clone)]
pub struct Peer {
    /// WireGuard public key of the peer.
    pub public_key: PublicKey,
    /// Preshared key of the pair. Absent: none.
    pub preshared: Option<PresharedKey>,
    /// Addresses to try, best first. Used until an authenticated packet comes from another address.
    pub endpoints: Vec<SocketAddr>,
    /// Inner prefixes of the peer. Packets to them go to the peer, and it may send from them only.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds without a sent packet after which a keepalive is sent. Keeps a session up without traffic, or of a
    /// peer that is also [`Self::relayed`] for 180 s after the last traffic. Absent: no keepalives.
    pub keepalive: Option<u16>,
    /// When the device removes the peer. Absent: never.
    pub deadline: Option<Mono>,
    /// True: the deadline of the configuration does not apply, only that of the peer.
    pub survive_forever: bool,
    /// True: relays may carry to the peer, and paths to it may be asked for.
    pub relayed: bool,
}

/// A WireGuard preshared key. Its `Debug` shows nothing. Wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(Zeroizing<[u8; 32]>);

impl PresharedKey {
    /// Takes the 32 raw bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        *self.0
    }
}

rap_types::debug_as!(PresharedKey, "PresharedKey(..)");

impl fmt::Debug for DeviceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { private_key: _, underlay, tun, paths: _ } = self;
        f.debug_struct("DeviceSettings").field("underlay", underlay).field("tun", tun).finish_non_exhaustive()
    }
}

impl Peer {
    /// The effective deadline, given that of the configuration.
    pub(crate) fn end(&self, common: Option<Mono>) -> Option<Mono> {
        let common = common.filter(|_| !self.survive_forever);
        match (self.deadline, common) {
            (Some(own), Some(common)) => Some(own.min(common)),
            (own, common) => own.or(common),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(deadline: Option<u64>, survive_forever: bool) -> Peer {
        Peer {
            public_key: PublicKey::from([7; 32]),
            preshared: Some(PresharedKey::new([0xab; 32])),
            endpoints: Vec::new(),
            allowed_ips: Vec::new(),
            keepalive: None,
            deadline: deadline.map(Mono),
            survive_forever,
            relayed: false,
        }
    }

    #[test]
    fn the_earlier_deadline_ends_a_peer_unless_it_survives_the_configuration() {
        assert_eq!(peer(None, false).end(None), None);
        assert_eq!(peer(Some(5), false).end(None), Some(Mono(5)));
        assert_eq!(peer(Some(5), false).end(Some(Mono(3))), Some(Mono(3)));
        assert_eq!(peer(Some(5), false).end(Some(Mono(9))), Some(Mono(5)));
        assert_eq!(peer(None, false).end(Some(Mono(3))), Some(Mono(3)));
        assert_eq!(peer(None, true).end(Some(Mono(3))), None);
        assert_eq!(peer(Some(5), true).end(Some(Mono(3))), Some(Mono(5)));
    }

    #[test]
    fn secrets_print_nothing() {
        let settings = DeviceSettings {
            private_key: StaticSecret::from([0xab; 32]),
            underlay: SocketAddr::from(([127, 0, 0, 1], 0)),
            tun: None,
            paths: None,
        };
        let text = format!("{settings:?} {:?}", peer(None, false));
        for form in ["171", "ab, ab", "abab", "0xab"] {
            assert!(!text.contains(form), "{text}");
        }
    }
}
