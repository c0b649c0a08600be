//! Errors of starting a device, of a configuration and of a ping.
//!
//! Owns the error enums and their reason codes.

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
    /// The TUN interface could not be created: no /dev/net/tun, no CAP_NET_ADMIN, or the name is taken.
    #[error("TUN interface {name}")]
    Tun {
        /// Name of the interface.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A configuration was refused. The one before it stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Two peers have the same public key.
    #[error("a peer appears twice")]
    DuplicatePeer,
    /// A peer has the key of the device.
    #[error("a peer has the device's own key")]
    OwnKey,
    /// Two peers claim the same prefix, or a peer claims one that this node forwards for.
    #[error("{0} has two owners")]
    DuplicatePrefix(IpNet),
    /// A peer or a forwarded prefix claims exactly an own address.
    #[error("{0} is an own address and claimed a second time")]
    OwnAddress(IpAddr),
    /// The device has ended.
    #[error("the device has ended")]
    Ended,
}

/// A ping had no answer.
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
    /// The request was dropped by this device, and counted under this reason.
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
            Self::Ended => Reason::DataplaneUnavailable,
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
