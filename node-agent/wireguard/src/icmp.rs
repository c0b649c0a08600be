//! Echo messages of ICMP (RFC 792) and ICMPv6 (RFC 4443) in IP packets.
//!
//! Owns their bytes and checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::Inner;

/// IP protocol number of ICMP.
pub(crate) const ICMP: u8 = 1;
/// Next header of ICMPv6.
pub(crate) const ICMPV6: u8 = 58;
/// Length of an echo message without payload.
pub(crate) const ECHO_HEADER: usize = 8;

/// Request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EchoKind {
    Request,
    Reply,
}

/// An echo message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) kind: EchoKind,
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
}

impl Echo {
    /// Reads an ICMP or ICMPv6 message without its IP header. `None`: not an echo message.
    pub(crate) fn read(message: &[u8], v6: bool) -> Option<Self> {
        let fixed: &[u8; ECHO_HEADER] = message.first_chunk()?;
        let kind = match (fixed[0], fixed[1], v6) {
            (8, 0, false) | (128, 0, true) => EchoKind::Request,
            (0, 0, false) | (129, 0, true) => EchoKind::Reply,
            _ => return None,
        };
        let identifier = u16::from_be_bytes([fixed[4], fixed[5]]);
        let sequence = u16::from_be_bytes([fixed[6], fixed[7]]);
        Some(Self { kind, identifier, sequence })
    }

    /// Writes type, code, identifier and sequence. The checksum stays zero.
    pub(crate) fn write(self, message: &mut [u8; ECHO_HEADER], v6: bool) {
        let kind = match (self.kind, v6) {
            (EchoKind::Request, false) => 8,
            (EchoKind::Reply, false) => 0,
            (EchoKind::Request, true) => 128,
            (EchoKind::Reply, true) => 129,
        };
        let [i0, i1] = self.identifier.to_be_bytes();
        let [s0, s1] = self.sequence.to_be_bytes();
        *message = [kind, 0, 0, 0, i0, i1, s0, s1];
    }
}

/// The echo message in an inner packet. `None`: no echo message, a fragment, or a wrong checksum.
pub(crate) fn echo_in(inner: &Inner, packet: &[u8]) -> Option<Echo> {
    let v6 = match (inner.protocol, inner.source) {
        (ICMP, IpAddr::V4(_)) if !inner.fragment => false,
        (ICMPV6, IpAddr::V6(_)) => true,
        _ => return None,
    };
    let message = packet.get(inner.header..)?;
    (message_checksum(inner.source, inner.destination, message) == 0).then(|| Echo::read(message, v6))?
}

/// Turns an echo request into its reply, in place. `packet` is the IP packet without bytes after it.
pub(crate) fn answer(inner: &Inner, echo: Echo, packet: &mut [u8]) {
    turn_around(inner, packet);
    let reply = Echo { kind: EchoKind::Reply, ..echo };
    write_message(&mut packet[inner.header..], reply, inner.destination, inner.source);
}

/// Sends a packet back in place: swaps its addresses and sets the hop limit.
pub(crate) fn turn_around(inner: &Inner, packet: &mut [u8]) {
    match (inner.destination, inner.source) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet[8] = HOP_LIMIT;
            write_v4_addresses(packet, inner.header, source, destination);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[7] = HOP_LIMIT;
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
        }
        _ => {}
    }
}

/// Writes an IP header for the whole of `packet` and returns its length. `None`: the families differ, or the packet
/// is too short or too long.
pub(crate) fn ip_header(
    packet: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
) -> Option<usize> {
    let length = packet.len();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.get_mut(..20)?.fill(0);
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
            packet[6] = 0x40; // don't fragment
            packet[8] = HOP_LIMIT;
            packet[9] = protocol;
            write_v4_addresses(packet, 20, source, destination);
            Some(20)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet.get_mut(..40)?.fill(0);
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&u16::try_from(length - 40).ok()?.to_be_bytes());
            packet[6] = protocol;
            packet[7] = HOP_LIMIT;
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
            Some(40)
        }
        _ => None,
    }
}

/// Writes an echo request as an IP packet into `packet` and returns its length. `None`: the families differ,
/// or the packet does not fit.
pub(crate) fn request(
    packet: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    identifier: u16,
    sequence: u16,
    payload: &[u8],
) -> Option<usize> {
    let (header, protocol) = if source.is_ipv4() { (20, ICMP) } else { (40, ICMPV6) };
    let length = header + ECHO_HEADER + payload.len();
    let packet = packet.get_mut(..length)?;
    ip_header(packet, source, destination, protocol)?;
    packet[header + ECHO_HEADER..].copy_from_slice(payload);
    let echo = Echo { kind: EchoKind::Request, identifier, sequence };
    write_message(&mut packet[header..], echo, source, destination);
    Some(length)
}

/// Internet checksum (RFC 1071) of the concatenated parts. All parts but the last have even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        let mut words = part.chunks_exact(2);
        for word in &mut words {
            sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u64::from(u16::from_be_bytes([*last, 0]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn write_v4_addresses(packet: &mut [u8], header: usize, source: Ipv4Addr, destination: Ipv4Addr) {
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..header]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn write_message(message: &mut [u8], echo: Echo, source: IpAddr, destination: IpAddr) {
    let Some(header) = message.first_chunk_mut() else { return };
    echo.write(header, source.is_ipv6());
    let sum = message_checksum(source, destination, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// The pseudo header in the checksum of ICMPv6 (RFC 8200 section 8.1).
fn message_checksum(source: IpAddr, destination: IpAddr, message: &[u8]) -> u16 {
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => v6_checksum(source, destination, message),
        _ => checksum(&[message]),
    }
}

fn v6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    checksum(&[&source.octets(), &destination.octets(), &length, &[0, 0, 0, ICMPV6], message])
}

const HOP_LIMIT: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_the_rfc_1071_example() {
        // Section 3: words 0001 f203 f4f5 f6f7 sum to ddf2.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn checksum_of_a_known_ipv4_header() {
        // 192.168.0.1 -> 192.168.0.199, UDP, 115 bytes: the well-known example with checksum b861.
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01,
            0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert_eq!(checksum(&[&header]), 0xb861);
    }

    #[test]
    fn checksum_of_a_known_echo_request() {
        // `ping -p` bytes: type 8, id 0001, sequence 0001, payload "abcdefghijklmnopqrstuvwabcdefghi" -> 4d5a.
        let mut message = vec![8, 0, 0, 0, 0, 1, 0, 1];
        message.extend_from_slice(b"abcdefghijklmnopqrstuvwabcdefghi");
        assert_eq!(checksum(&[&message]), 0x4d5a);
    }

    #[test]
    fn odd_bytes_are_padded_and_parts_are_one_text() {
        assert_eq!(checksum(&[&[0x12, 0x34, 0x56]]), checksum(&[&[0x12, 0x34, 0x56, 0x00]]));
        assert_eq!(checksum(&[&[0x12, 0x34], &[0x56]]), checksum(&[&[0x12, 0x34, 0x56]]));
        assert_eq!(checksum(&[]), 0xffff);
    }

    #[test]
    fn checksum_of_a_known_icmpv6_echo_request() {
        // ::1 -> ::1, id 0, sequence 0, no payload: 2 + 8 + 3a + 8000 = 8044.
        let message = [128, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(v6_checksum(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &message), !0x8044);
    }

    #[test]
    fn a_request_becomes_its_reply() {
        for (a, b) in [("100.96.0.1", "100.96.0.2"), ("fd00::1", "fd00::2")] {
            let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
            let mut packet = [0xff; 128];
            let len = request(&mut packet, a, b, 0x1234, 7, b"payload").unwrap();
            let packet = &mut packet[..len];
            let inner = Inner::read(packet).unwrap();
            assert_eq!((inner.source, inner.destination), (a, b));
            let echo = echo_in(&inner, packet).unwrap();
            assert_eq!(echo, Echo { kind: EchoKind::Request, identifier: 0x1234, sequence: 7 });

            answer(&inner, echo, packet);
            let inner = Inner::read(packet).unwrap();
            assert_eq!((inner.source, inner.destination), (b, a));
            let reply = Echo { kind: EchoKind::Reply, identifier: 0x1234, sequence: 7 };
            assert_eq!(echo_in(&inner, packet), Some(reply));
            if a.is_ipv4() {
                assert_eq!(checksum(&[&packet[..20]]), 0);
            }
            assert!(packet.ends_with(b"payload"));
        }
    }

    #[test]
    fn a_damaged_or_fragmented_echo_is_not_an_echo() {
        let (a, b): (IpAddr, IpAddr) = ("100.96.0.1".parse().unwrap(), "100.96.0.2".parse().unwrap());
        let mut packet = [0; 64];
        let len = request(&mut packet, a, b, 1, 1, b"x").unwrap();
        packet[len - 1] ^= 1;
        assert_eq!(echo_in(&Inner::read(&packet[..len]).unwrap(), &packet[..len]), None);
        packet[len - 1] ^= 1;
        packet[6] = 0x20;
        assert_eq!(echo_in(&Inner::read(&packet[..len]).unwrap(), &packet[..len]), None);
    }

    #[test]
    fn families_do_not_mix_and_short_buffers_are_refused() {
        let (a, b): (IpAddr, IpAddr) = ("100.96.0.1".parse().unwrap(), "fd00::2".parse().unwrap());
        assert_eq!(request(&mut [0; 128], a, b, 1, 1, b""), None);
        assert_eq!(request(&mut [0; 27], a, a, 1, 1, b""), None);
    }
}
