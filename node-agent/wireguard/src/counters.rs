//! Counters of packets that were not delivered, by reason. Each such packet is counted once.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($variant:ident $code:literal $text:literal)+) => {
        /// Why a packet was not delivered.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason { $(#[doc = $text] $variant),+ }

        impl DropReason {
            /// Every reason, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Stable label of the counter.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
        }
    };
}

drop_reasons! {
    Malformed "malformed" "A datagram that is no WireGuard message."
    BadMac "bad_mac" "A handshake message whose first MAC is not for this device's key."
    UnderLoad "under_load" "A handshake message answered with a cookie instead of work."
    NoPeer "no_peer" "No peer has this key, or no peer has this destination."
    NoSession "no_session" "A message for a session this device does not have."
    NoEndpoint "no_endpoint" "The peer's address is not known yet, and no path to it works."
    HandshakeRejected "handshake_rejected" "A handshake message that is replayed, late or not asked for."
    DecryptFailed "decrypt_failed" "A message that does not authenticate."
    Replay "replay" "A data message seen before or too old."
    NotIp "not_ip" "An inner packet that is neither IPv4 nor IPv6."
    BadSource "bad_source" "An inner source address that does not belong to the sender."
    BadDestination "bad_destination" "An inner destination that is neither an own address nor forwarded here."
    Multicast "multicast" "A multicast or broadcast packet; the overlay carries none."
    NoListener "no_listener" "Without a TUN: a packet that is neither an echo request nor an awaited reply."
    TooBig "too_big" "A packet larger than the buffers."
    QueueFull "queue_full" "No room: too many packets await a session, or the kernel takes no more."
    Expired "expired" "The peer's deadline has passed."
    SendFailed "send_failed" "The kernel refused to send a datagram."
    NoWay "no_way" "A packet that waited too long for a way to the peer."
    PathFull "path_full" "A queue of a path is full."
    PathGone "path_gone" "The path has ended."
    Probe "probe" "A path probe from the TUN, or a malformed one: data planes alone make them."
    WriteFailed "write_failed" "The kernel refused a packet written to the TUN."
}

/// One counter per reason.
#[derive(Debug)]
pub(crate) struct Counters {
    drops: Vec<AtomicU64>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self { drops: DropReason::ALL.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn count(&self, reason: DropReason) {
        self.add(reason, 1);
        tracing::trace!(reason = reason.code(), "packet dropped");
    }

    pub(crate) fn add(&self, reason: DropReason, packets: u64) {
        self.drops[reason as usize].fetch_add(packets, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|reason| (*reason, self.drops[*reason as usize].load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_reason_has_its_own_label_and_counter() {
        let counters = Counters::new();
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            for _ in 0..=position {
                counters.count(*reason);
            }
        }
        let labels: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(labels.len(), DropReason::ALL.len());
        let read = counters.read();
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(read[position], (*reason, position as u64 + 1));
        }
    }
}
