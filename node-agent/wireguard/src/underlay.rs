//! Sends batches of datagrams, each on its way: the socket, or a path.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::counters::DropReason;
use crate::peer_state::Datagrams;
use crate::protocol::is_handshake_init;
use crate::tunnel::Tunnel;
use crate::udp_port::UdpPort;
use crate::way::{GROUP_MAX, PathPort, PathRefusal, Way};

/// Everything that carries datagrams.
pub(crate) struct Underlay {
    pub(crate) udp: UdpPort,
    pub(crate) paths: Option<Arc<dyn PathPort>>,
}

impl Underlay {
    /// Sends a batch and empties it. Waits a short time for a full socket. What cannot be sent is counted.
    pub(crate) async fn send(&self, batch: &mut Datagrams, tunnel: &Tunnel) {
        let mut position = 0;
        while position < batch.len() {
            let (datagram, way) = batch.packet(position);
            match way {
                Way::Udp(to) => {
                    tunnel.count(self.send_udp(datagram, *to, tunnel).await);
                    position += 1;
                }
                Way::Path(end) => {
                    let group = group_of(batch, position);
                    let sent = self.paths.as_ref().map_or(Err(PathRefusal::Gone), |p| p.send(*end, &group));
                    let sent = sent.map_err(|refusal| match refusal {
                        PathRefusal::Full => DropReason::PathFull,
                        PathRefusal::Gone => DropReason::PathGone,
                    });
                    group.iter().for_each(|_| tunnel.count(sent));
                    position += group.len();
                }
            }
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

/// The datagrams from this position on that follow each other on one way and go together.
fn group_of(batch: &Datagrams, from: usize) -> Vec<&[u8]> {
    let (mut group, mut bytes) = (Vec::new(), 0);
    let (_, way) = batch.packet(from);
    for position in from..batch.len() {
        let (datagram, its_way) = batch.packet(position);
        bytes += datagram.len() + 2;
        if its_way != way || bytes > GROUP_MAX && !group.is_empty() {
            break;
        }
        group.push(datagram);
    }
    group
}

/// Largest number of endpoints for one handshake message.
const MAX_TRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::way::PathEnd;

    #[test]
    fn datagrams_of_one_path_that_follow_each_other_go_together_up_to_a_frame() {
        let (one, other) = (Way::Path(PathEnd(1)), Way::Path(PathEnd(2)));
        let mut batch = Batch::new(40, 1500);
        let ways = [one, one, other, one].into_iter().chain([one; 20]);
        ways.for_each(|way| assert!(batch.copy(&[7; 1400], way)));
        let lengths = |from| group_of(&batch, from).len();
        assert_eq!((lengths(0), lengths(2), lengths(3)), (2, 1, 11), "11 x 1,402 bytes fit into a frame");
        assert_eq!((lengths(14), lengths(23)), (10, 1));
    }
}
