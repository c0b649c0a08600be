//! What the caller tells a device. Owns the shapes; refuses to own defaults of policy.

use std::fmt;
use std::net::SocketAddr;

use boringtun::x25519::{PublicKey, StaticSecret};
use ipnet::IpNet;
use rap_types::Mono;
use zeroize::Zeroizing;

/// MTU of the overlay unless the caller knows the path better (IPv6 minimum, RFC 8200 section 5).
pub const DEFAULT_MTU: u16 = 1280;

/// What stays the same as long as a device runs.
pub struct DeviceSettings {
    /// Own key; wiped when the device ends.
    pub private_key: StaticSecret,
    /// UDP address that encrypted datagrams come to and go from; an IPv6 wildcard also carries IPv4.
    pub underlay: SocketAddr,
    /// The TUN interface. `None`: no interface; echo requests to own addresses are answered in process.
    pub tun: Option<TunConfig>,
}

/// A TUN interface to create. It goes away with the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunConfig {
    /// Interface name, `rap<n>`.
    pub name: String,
    /// Bytes of an inner packet; see [`DEFAULT_MTU`].
    pub mtu: u16,
}

/// Everything a device may do, until the deadlines.
#[derive(Debug, Clone, Default)]
pub struct DeviceConfig {
    /// Own overlay addresses, each with the prefix of its pool.
    pub addresses: Vec<IpNet>,
    /// Prefixes that this node forwards for: packets from and to them pass between peers and the interface.
    /// Whoever makes the configuration also makes the host forward them.
    pub routed: Vec<IpNet>,
    /// Who may be talked to.
    pub peers: Vec<Peer>,
    /// When all peers go that are not marked [`Peer::survive_forever`]. `None`: never.
    pub deadline: Option<Mono>,
}

/// One peer of a configuration.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its WireGuard key.
    pub public_key: PublicKey,
    /// Extra symmetric secret of the pair, if any.
    pub preshared: Option<PresharedKey>,
    /// Where it may be reached, best first. Used until an authenticated packet shows a better one.
    pub endpoints: Vec<SocketAddr>,
    /// Inner addresses that belong to it: what is routed to it, and the only sources accepted from it.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds of silence after which something is sent. Also: keep a session up without traffic.
    pub keepalive: Option<u16>,
    /// When the device forgets the peer by itself. `None`: never.
    pub deadline: Option<Mono>,
    /// Outlives the deadline of the configuration (not its own).
    pub survive_forever: bool,
}

/// A WireGuard preshared key. Prints nothing and is wiped on drop.
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

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

impl fmt::Debug for DeviceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { private_key: _, underlay, tun } = self;
        f.debug_struct("DeviceSettings").field("underlay", underlay).field("tun", tun).finish_non_exhaustive()
    }
}

impl Peer {
    /// When the peer must be gone, given the deadline of its configuration.
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
        };
        let text = format!("{settings:?} {:?}", peer(None, false));
        for form in ["171", "ab, ab", "abab", "0xab"] {
            assert!(!text.contains(form), "{text}");
        }
    }
}
