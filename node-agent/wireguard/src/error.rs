//! Why a device could not start, take a configuration or ping. Owns the error enums and their reason codes.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use rap_types::Reason;

/// A device could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The UDP socket could not be bound or used.
    #[error("UDP socket")]
    Udp(#[source] io::Error),
    /// The TUN interface could not be made (no /dev/net/tun, no CAP_NET_ADMIN, name taken).
    #[error("TUN interface {name}")]
    Tun {
        /// Name asked for.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A configuration was refused; the one before it stays.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The same public key twice.
    #[error("a peer appears twice")]
    DuplicatePeer,
    /// A peer with the device's own key.
    #[error("a peer has the device's own key")]
    OwnKey,
    /// Two peers claim the same prefix, or a peer one that this node forwards for.
    #[error("{0} has two owners")]
    DuplicatePrefix(IpNet),
    /// A peer, or the prefixes that are forwarded here, claim exactly an own address.
    #[error("{0} is an own address and claimed a second time")]
    OwnAddress(IpAddr),
    /// The kernel refused an address or a route of the interface.
    #[error("interface: {step}")]
    Interface {
        /// What was being done.
        step: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The device has ended.
    #[error("the device has ended")]
    Ended,
}

/// A ping without an answer.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// No peer owns the address.
    #[error("no peer owns {0}")]
    NoPeer(IpAddr),
    /// This device has no address of that family.
    #[error("no own address to ping {0} from")]
    NoAddress(IpAddr),
    /// Too many pings at once.
    #[error("too many pings at once")]
    Busy,
    /// The request was dropped here; see the counter of that name.
    #[error("dropped: {0}")]
    Dropped(&'static str),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The kernel refused the ICMP socket.
    #[error("ICMP socket")]
    Socket(#[source] io::Error),
}

impl DeviceError {
    /// Stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Udp(_) | Self::Tun { .. } => Reason::DataplaneUnavailable,
        }
    }
}

impl ConfigError {
    /// Stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::DuplicatePeer | Self::OwnKey | Self::DuplicatePrefix(_) | Self::OwnAddress(_) => {
                Reason::DataplaneTable
            }
            Self::Interface { .. } | Self::Ended => Reason::DataplaneUnavailable,
        }
    }
}

impl PingError {
    /// Stable code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoPeer(_) | Self::NoAddress(_) => Reason::LinkPeerUnknown,
            Self::Busy => Reason::RateLimited,
            Self::Timeout => Reason::ProbeTimeout,
            Self::Dropped(_) | Self::Socket(_) => Reason::DataplaneUnavailable,
        }
    }
}
