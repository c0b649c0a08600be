//! Echo messages that this process handles itself.
//!
//! Without a TUN it answers echo requests and passes replies to the pings that wait. With a TUN it takes only the
//! replies that this process waits for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rap_types::Mono;
use tokio::sync::oneshot;

use crate::icmp::{self, Echo, EchoKind};
use crate::packet::Inner;

/// Pings that wait for a reply.
#[derive(Debug, Default)]
pub(crate) struct Responder {
    waiting: Mutex<BTreeMap<Awaited, oneshot::Sender<Mono>>>,
    next: AtomicU16,
}

/// Address of the peer and identifier of the echo.
type Awaited = (IpAddr, u16);

/// What was done with a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The packet is now the reply. Send it back.
    Reply,
    /// The packet was an awaited reply.
    Taken,
    /// The packet is neither.
    Unwanted,
}

impl Responder {
    /// Handles one packet to an own address.
    pub(crate) fn handle(&self, inner: &Inner, packet: &mut [u8], now: Mono) -> Outcome {
        let Some(echo) = icmp::echo_in(inner, packet) else { return Outcome::Unwanted };
        match echo.kind {
            EchoKind::Request => {
                icmp::answer(inner, echo, packet);
                Outcome::Reply
            }
            EchoKind::Reply => self.deliver(inner.source, echo, now),
        }
    }

    /// True if a packet is the reply to a ping of this process. Replies to other programs of the host are not.
    pub(crate) fn takes(&self, inner: &Inner, packet: &[u8], now: Mono) -> bool {
        if !packet.ends_with(PROBE) {
            return false;
        }
        let reply = icmp::echo_in(inner, packet).filter(|echo| echo.kind == EchoKind::Reply);
        reply.is_some_and(|echo| self.deliver(inner.source, echo, now) == Outcome::Taken)
    }

    /// Registers a ping to `peer`: returns the identifier to use and the channel for the time of arrival.
    /// `None`: too many pings wait. The caller must call [`Self::forget`] when done.
    pub(crate) fn expect(&self, peer: IpAddr) -> Option<(u16, oneshot::Receiver<Mono>)> {
        let mut waiting = self.lock();
        if waiting.len() >= MAX_WAITING {
            return None;
        }
        // Terminates, because fewer than 65,536 identifiers are in use.
        let identifier = loop {
            let identifier = self.next.fetch_add(1, Ordering::Relaxed);
            if !waiting.contains_key(&(peer, identifier)) {
                break identifier;
            }
        };
        let (sender, receiver) = oneshot::channel();
        waiting.insert((peer, identifier), sender);
        Some((identifier, receiver))
    }

    pub(crate) fn forget(&self, peer: IpAddr, identifier: u16) {
        self.lock().remove(&(peer, identifier));
    }

    fn deliver(&self, from: IpAddr, echo: Echo, now: Mono) -> Outcome {
        match self.lock().remove(&(from, echo.identifier)) {
            Some(sender) => {
                // An error means that the ping ended meanwhile.
                let _ = sender.send(now);
                Outcome::Taken
            }
            None => Outcome::Unwanted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Awaited, oneshot::Sender<Mono>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Payload of an echo request of this process.
pub(crate) const PROBE: &[u8; 16] = b"rap fabric probe";
/// Largest number of pings at once.
const MAX_WAITING: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: EchoKind, identifier: u16) -> Vec<u8> {
        packet_with(b"data", kind, identifier)
    }

    fn packet_with(payload: &[u8], kind: EchoKind, identifier: u16) -> Vec<u8> {
        let (a, b): (IpAddr, IpAddr) = ("100.96.0.1".parse().unwrap(), "100.96.0.2".parse().unwrap());
        let mut packet = vec![0; 64];
        let len = icmp::request(&mut packet, a, b, identifier, 1, payload).unwrap();
        packet.truncate(len);
        if kind == EchoKind::Reply {
            let inner = Inner::read(&packet).unwrap();
            let echo = icmp::echo_in(&inner, &packet).unwrap();
            icmp::answer(&inner, echo, &mut packet);
        }
        packet
    }

    fn handle(responder: &Responder, packet: &mut [u8]) -> Outcome {
        let inner = Inner::read(packet).unwrap();
        responder.handle(&inner, packet, Mono(42))
    }

    #[test]
    fn requests_are_answered_and_other_traffic_is_unwanted() {
        let responder = Responder::default();
        let mut request = packet(EchoKind::Request, 1);
        assert_eq!(handle(&responder, &mut request), Outcome::Reply);
        assert_eq!(request, packet(EchoKind::Reply, 1));
        let mut udp = packet(EchoKind::Request, 1);
        udp[9] = 17;
        assert_eq!(handle(&responder, &mut udp), Outcome::Unwanted);
    }

    #[tokio::test]
    async fn only_an_awaited_reply_is_taken_and_only_once() {
        let responder = Responder::default();
        let peer: IpAddr = "100.96.0.2".parse().unwrap();
        let (identifier, receiver) = responder.expect(peer).unwrap();
        assert_eq!(handle(&responder, &mut packet(EchoKind::Reply, identifier + 1)), Outcome::Unwanted);
        assert_eq!(handle(&responder, &mut packet(EchoKind::Reply, identifier)), Outcome::Taken);
        assert_eq!(receiver.await, Ok(Mono(42)));
        assert_eq!(handle(&responder, &mut packet(EchoKind::Reply, identifier)), Outcome::Unwanted);
    }

    #[tokio::test]
    async fn with_a_tun_only_replies_to_own_probes_are_taken() {
        let responder = Responder::default();
        let takes = |packet: &[u8]| responder.takes(&Inner::read(packet).unwrap(), packet, Mono(42));
        let (identifier, receiver) = responder.expect("100.96.0.2".parse().unwrap()).unwrap();
        let probe = |kind, identifier| packet_with(PROBE, kind, identifier);
        assert!(!takes(&packet(EchoKind::Reply, identifier)), "a ping of the host with the same identifier");
        assert!(
            !takes(&probe(EchoKind::Request, identifier)),
            "another node's probe is the kernel's to answer"
        );
        assert!(!takes(&probe(EchoKind::Reply, identifier + 1)));
        assert!(takes(&probe(EchoKind::Reply, identifier)));
        assert_eq!(receiver.await, Ok(Mono(42)));
        assert!(!takes(&probe(EchoKind::Reply, identifier)), "only once");
    }

    #[test]
    fn waiting_pings_are_bounded() {
        let responder = Responder::default();
        let peer: IpAddr = "fd00::2".parse().unwrap();
        let held: Vec<_> = std::iter::from_fn(|| responder.expect(peer)).collect();
        assert_eq!(held.len(), MAX_WAITING);
        responder.forget(peer, held[0].0);
        assert!(responder.expect(peer).is_some());
    }
}
