//! From an inner packet to a datagram: whose address is the destination, and may this host send it.

use rap_types::Mono;

use crate::counters::DropReason;
use crate::packet::Inner;
use crate::peer::Datagrams;
use crate::table::Table;
use crate::tunnel::Tunnel;

/// Free slots that sending one packet may use.
pub(crate) const OUTBOUND_ROOM: usize = 1;

impl Tunnel {
    /// Sends one inner packet towards the peer that owns its destination.
    pub(crate) fn send(
        &self,
        table: &Table,
        now: Mono,
        packet: &[u8],
        out: &mut Datagrams,
    ) -> Result<(), DropReason> {
        let inner = Inner::read(packet).ok_or(DropReason::NotIp)?;
        if inner.is_to_many() {
            return Err(DropReason::Multicast);
        }
        if !table.is_own(inner.source) {
            return Err(DropReason::BadSource);
        }
        let entry = table.owner(inner.destination).ok_or(DropReason::NoPeer)?;
        let mut state = entry.lock();
        if state.is_expired(now) {
            return Err(DropReason::Expired);
        }
        state.send(packet, now, out)
    }
}
