//! From an inner packet to a datagram: which peer has the destination, and may this node send from the source.

use rap_types::Mono;

use crate::active::ActiveConfig;
use crate::counters::DropReason;
use crate::packet::Inner;
use crate::peer::Datagrams;
use crate::tunnel::Tunnel;

/// Free slots that sending one packet may use.
pub(crate) const OUTBOUND_ROOM: usize = 1;

impl Tunnel {
    /// Sends one inner packet towards the peer that has its destination. Its source is an own address, or one of
    /// a prefix that this node forwards for.
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
        if !active.is_here(inner.source) {
            return Err(DropReason::BadSource);
        }
        let entry = active.peer_of(inner.destination).ok_or(DropReason::NoPeer)?;
        let mut state = entry.lock();
        if state.is_expired(now) {
            return Err(DropReason::Expired);
        }
        tracing::trace!(way = "a packet is sealed");
        state.send(packet, now, out)
    }
}
