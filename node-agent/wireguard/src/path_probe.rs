//! Path probes: inner packets of IP protocol 253 (RFC 3692: for experiments) between two overlay addresses.
//!
//! Owns their bytes. A data plane makes them, answers them on the way they came, and delivers none. Body: kind (u8, 1
//! request, 2 answer), 3 bytes of zero, sequence (u32), time of the sender (u64, nanoseconds), zeros up to the MTU.

use std::net::IpAddr;

use rap_types::Mono;

use crate::config::DEFAULT_MTU;
use crate::icmp::{ip_header, turn_around};
use crate::packet::Inner;

/// Protocol number of IPv4, next header of IPv6.
pub(crate) const PATH_PROBE: u8 = 253;

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathProbe {
    pub(crate) answer: bool,
    pub(crate) sequence: u32,
    pub(crate) time: Mono,
}

impl PathProbe {
    /// A request as a whole packet, as long as the largest packet that every way carries. `None`: the families differ.
    pub(crate) fn request(source: IpAddr, destination: IpAddr, sequence: u32, now: Mono) -> Option<Vec<u8>> {
        let mut packet = vec![0; usize::from(DEFAULT_MTU)];
        let header = ip_header(&mut packet, source, destination, PATH_PROBE)?;
        let body = packet.get_mut(header..header + BODY)?;
        body[0] = REQUEST;
        body[4..8].copy_from_slice(&sequence.to_be_bytes());
        body[8..16].copy_from_slice(&now.0.to_be_bytes());
        Some(packet)
    }

    /// Reads a probe of the protocol [`PATH_PROBE`]. `None`: it is malformed.
    pub(crate) fn read(inner: &Inner, packet: &[u8]) -> Option<Self> {
        let body: &[u8; BODY] = packet.get(inner.header..)?.first_chunk()?;
        let answer = match body[0] {
            REQUEST => false,
            ANSWER => true,
            _ => return None,
        };
        let [_, _, _, _, s0, s1, s2, s3, time @ ..] = *body;
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        (!inner.fragment).then_some(Self { answer, sequence, time: Mono(u64::from_be_bytes(time)) })
    }

    /// Turns a request into its answer, in place.
    pub(crate) fn answer(inner: &Inner, packet: &mut [u8]) {
        turn_around(inner, packet);
        if let Some(kind) = packet.get_mut(inner.header) {
            *kind = ANSWER;
        }
    }
}

const REQUEST: u8 = 1;
const ANSWER: u8 = 2;
const BODY: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icmp::checksum;

    #[test]
    fn a_request_becomes_its_answer_at_full_size() {
        for (a, b) in [("100.96.0.1", "100.96.0.2"), ("fd00::1", "fd00::2")] {
            let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
            let mut packet = PathProbe::request(a, b, 7, Mono(9)).unwrap();
            assert_eq!(packet.len(), 1280);
            let inner = Inner::read(&packet).unwrap();
            assert_eq!((inner.protocol, inner.source, inner.destination), (PATH_PROBE, a, b));
            let probe = PathProbe { answer: false, sequence: 7, time: Mono(9) };
            assert_eq!(PathProbe::read(&inner, &packet), Some(probe));

            PathProbe::answer(&inner, &mut packet);
            let inner = Inner::read(&packet).unwrap();
            assert_eq!((inner.source, inner.destination), (b, a));
            assert_eq!(PathProbe::read(&inner, &packet), Some(PathProbe { answer: true, ..probe }));
            if a.is_ipv4() {
                assert_eq!(checksum(&[&packet[..20]]), 0);
            }
            packet[inner.header] = 3;
            assert_eq!(PathProbe::read(&inner, &packet), None, "no such kind");
            assert_eq!(PathProbe::read(&inner, &packet[..inner.header + 15]), None, "short");
        }
        let (a, b): (IpAddr, IpAddr) = ("100.96.0.1".parse().unwrap(), "fd00::2".parse().unwrap());
        assert_eq!(PathProbe::request(a, b, 1, Mono(1)), None);
    }
}
