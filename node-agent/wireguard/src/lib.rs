//! Userspace WireGuard device: the tunnel between overlay addresses and UDP.
//!
//! Owns the sessions, the UDP socket, the TUN interface, and the check that the source of every inner packet
//! belongs to the peer that sent it. Refuses to own the peers: they, their addresses and their deadlines are
//! exactly those of the caller's configuration.

mod active;
mod agenda;
mod allowed_sources;
mod attempts;
mod batch;
mod config;
mod counters;
mod device;
mod endpoints;
mod error;
mod held;
mod host;
mod icmp;
mod inbound;
mod liveness;
mod outbound;
mod packet;
mod path_probe;
mod peer;
mod peer_state;
mod ping;
mod protocol;
mod responder;
mod tasks;
mod timers;
mod tun_port;
mod tunnel;
mod udp_port;
mod underlay;
mod way;
mod ways;

pub use boringtun::x25519::{PublicKey, StaticSecret};
pub use config::{DEFAULT_MTU, DeviceConfig, DeviceSettings, Peer, PresharedKey, TunConfig};
pub use counters::DropReason;
pub use device::{Device, PeerStats};
pub use error::{ConfigError, DeviceError, PingError};
pub use rap_host::Finding;
pub use way::{PathEnd, PathEvent, PathPort, PathRefusal, PathSlot, Way};
pub use ways::{Act, Sending, Ways};
