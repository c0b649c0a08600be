//! From an inner packet to a datagram: which peer has the destination, and may this node send from the source.

use rap_types::Mono;

use crate::active::ActiveConfig;
use crate::counters::DropReason;
use crate::packet::Inner;
use crate::path_probe::PATH_PROBE;
use crate::peer_state::Datagrams;
use crate::tunnel::Tunnel;

impl Tunnel {
    /// Sends one inner packet towards the peer that has its destination. Its source is an own address, or one of
    /// a prefix that this node forwards for. Needs [`crate::peer_state::SEND_ROOM`] free slots.
    pub(crate) fn send(
        &self,
        active: &ActiveConfig,
        now: Mono,
        packet: &[u8],
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        let inner = Inner::read(packet).ok_or(DropReason::NotIp)?;
        if inner.is_to_many() {
            return Err(DropReason::Multicast);
        }
        if inner.protocol == PATH_PROBE {
            return Err(DropReason::Probe);
        }
        if !active.is_here(inner.source) {
            return Err(DropReason::BadSource);
        }
        let entry = active.peer_of(inner.destination).ok_or(DropReason::NoPeer)?;
        let mut state = entry.lock();
        if state.is_expired(now) {
            return Err(DropReason::Expired);
        }
        tracing::trace!(way = "a packet is sealed");
        let sent = state.send(packet, now, out);
        self.settle(entry, &mut state, now);
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::path_probe::PathProbe;
    use crate::responder::Responder;
    use crate::tunnel::Host;
    use boringtun::x25519::StaticSecret;
    use rap_runtime::Clock;

    #[test]
    fn a_probe_from_the_host_is_dropped_whatever_it_says() {
        let host = Host { interface: Some("rap0".to_owned()), responder: Responder::default() };
        let tunnel = Tunnel::new(StaticSecret::from([1; 32]), host, None, Clock::new());
        let (own, peer) = (["100.96.0.1", "100.96.0.2"]).map(|ip| ip.parse().unwrap()).into();
        let mut packet = PathProbe::request(own, peer, 1, Mono(0)).unwrap();
        let send =
            |packet: &[u8]| tunnel.send(&ActiveConfig::default(), Mono(0), packet, &mut Batch::new(8, 2048));
        assert_eq!(send(&packet), Err(DropReason::Probe));
        packet[20] = 0xff;
        assert_eq!(send(&packet), Err(DropReason::Probe));
        packet[9] = 17;
        assert_eq!(send(&packet), Err(DropReason::BadSource), "another protocol is judged by its addresses");
    }
}
