//! Ways to a peer: a UDP address, or a path through relays.
//!
//! Owns their names and what the user of a device provides for paths. Refuses to own paths: they are installed,
//! renewed and ended outside.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use boringtun::x25519::PublicKey;
use sha2::{Digest as _, Sha256};

/// The local end of one installed path. Never used again in the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathEnd(pub u64);

/// Where a datagram goes, or came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// A UDP address of the peer.
    Udp(SocketAddr),
    /// A path through relays.
    Path(PathEnd),
}

/// Whose path it is, and which one. The order is that of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathSlot {
    /// This node installed it: the first choice.
    Primary,
    /// This node installed it: what stands in for the first choice.
    Backup,
    /// The peer installed it.
    Answering,
}

/// Paths through relays, as a device uses them. No call waits.
pub trait PathPort: Send + Sync {
    /// Asks for paths to a peer. Called again while the device still has none that works.
    fn want(&self, peer: &PublicKey);

    /// Sends datagrams that were made at once on a path, in this order. With two bytes more for each they are at most
    /// [`GROUP_MAX`] bytes.
    ///
    /// # Errors
    /// [`PathRefusal`]; all of them are lost.
    fn send(&self, end: PathEnd, datagrams: &[&[u8]]) -> Result<(), PathRefusal>;
}

/// Bytes of datagrams that go together: a frame of a link without its first byte.
pub(crate) const GROUP_MAX: usize = 16 * 1024 - 1;

/// Why a path did not take a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathRefusal {
    /// The send queue of the path is full; the datagram was dropped.
    Full,
    /// It has ended.
    Gone,
}

/// What happened to paths. [`crate::Device::path_event`] takes these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEvent {
    /// A path stands. May be told again.
    Up {
        /// Local end of the path.
        end: PathEnd,
        /// Key of the peer at its other end.
        peer: PublicKey,
        /// Whose it is.
        slot: PathSlot,
    },
    /// A path has ended.
    Down {
        /// Local end of the path.
        end: PathEnd,
        /// Key of the peer at its other end.
        peer: PublicKey,
    },
    /// A datagram came on a path.
    Received {
        /// The local end of the path.
        end: PathEnd,
        /// The datagram.
        datagram: Vec<u8>,
    },
}

impl Way {
    /// The address that a handshake cookie is bound to. A path has none of its own, and without any the handshakes
    /// of a device under load would be dropped.
    pub(crate) fn cookie_address(self) -> IpAddr {
        match self {
            Self::Udp(address) => address.ip(),
            Self::Path(PathEnd(end)) => {
                let digest = Sha256::new().chain_update(b"rap.way.v1\0").chain_update(end.to_be_bytes());
                let mut address = [0; 16];
                address.copy_from_slice(&digest.finalize()[..16]);
                Ipv6Addr::from(address).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_cookie_address_of_its_own_that_stays() {
        let of = |end| Way::Path(PathEnd(end)).cookie_address();
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let udp: SocketAddr = "192.0.2.1:7".parse().unwrap();
        assert_eq!(Way::Udp(udp).cookie_address(), udp.ip(), "that of a NAT, whatever the port");
    }
}
