//! Sends batches of datagrams, each on its way: the socket, or a path.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::counters::DropReason;
use crate::peer_state::Datagrams;
use crate::protocol::is_handshake_init;
use crate::tunnel::Tunnel;
use crate::udp_port::UdpPort;
use crate::way::{PathPort, PathRefusal, Way};

/// Everything that carries datagrams.
pub(crate) struct Underlay {
    pub(crate) udp: UdpPort,
    pub(crate) paths: Option<Arc<dyn PathPort>>,
}

impl Underlay {
    /// Sends a batch and empties it. Waits a short time for a full socket. What cannot be sent is counted.
    pub(crate) async fn send(&self, batch: &mut Datagrams, tunnel: &Tunnel) {
        for position in 0..batch.len() {
            let (datagram, way) = batch.packet(position);
            let sent = match way {
                Way::Udp(to) => self.send_udp(datagram, *to, tunnel).await,
                Way::Path(end) => {
                    let sent = self.paths.as_ref().map_or(Err(PathRefusal::Gone), |p| p.send(*end, datagram));
                    sent.map_err(|refusal| match refusal {
                        PathRefusal::Full => DropReason::PathFull,
                        PathRefusal::Gone => DropReason::PathGone,
                    })
                }
            };
            tunnel.count(sent);
        }
        batch.clear();
    }

    async fn send_udp(&self, datagram: &[u8], mut to: SocketAddr, tunnel: &Tunnel) -> Result<(), DropReason> {
        for tries in 1.. {
            let Err(error) = self.udp.send(datagram, to).await else { break };
            if error.kind() == io::ErrorKind::TimedOut {
                return Err(DropReason::QueueFull);
            }
            tracing::debug!(endpoint = %to, %error, "datagram not sent");
            let other = (is_handshake_init(datagram) && tries < MAX_TRIES)
                .then(|| tunnel.other_endpoint(datagram, to))
                .flatten();
            to = other.ok_or(DropReason::SendFailed)?;
        }
        Ok(())
    }
}

/// Largest number of endpoints for one handshake message.
const MAX_TRIES: usize = 16;
