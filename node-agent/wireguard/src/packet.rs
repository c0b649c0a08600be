//! The parts of an inner IP packet that are read: version, source, destination, payload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses and payload offset of an inner packet (RFC 791, RFC 8200).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Protocol of IPv4, or the first next header of IPv6.
    pub(crate) protocol: u8,
    /// Offset of the payload.
    pub(crate) header: usize,
    /// True for a fragment of an IPv4 packet.
    pub(crate) fragment: bool,
}

impl Inner {
    /// Reads the header. `None`: not IPv4 or IPv6, or shorter than its header states.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => read_v4(packet),
            6 => read_v6(packet),
            _ => None,
        }
    }

    /// True for multicast and limited broadcast.
    pub(crate) fn is_to_many(&self) -> bool {
        self.destination.is_multicast() || self.destination == IpAddr::V4(Ipv4Addr::BROADCAST)
    }
}

fn read_v4(packet: &[u8]) -> Option<Inner> {
    let fixed: &[u8; 20] = packet.first_chunk()?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if header < 20 || total < header || total > packet.len() {
        return None;
    }
    Some(Inner {
        source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
        destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
        protocol: fixed[9],
        header,
        // more-fragments flag or an offset
        fragment: u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0,
    })
}

fn read_v6(packet: &[u8]) -> Option<Inner> {
    let fixed: &[u8; 40] = packet.first_chunk()?;
    let payload = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    if 40 + payload > packet.len() {
        return None;
    }
    let source: [u8; 16] = fixed[8..24].try_into().ok()?;
    let destination: [u8; 16] = fixed[24..40].try_into().ok()?;
    Some(Inner {
        source: Ipv6Addr::from(source).into(),
        destination: Ipv6Addr::from(destination).into(),
        protocol: fixed[6],
        header: 40,
        fragment: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4() -> [u8; 24] {
        let mut packet = [0; 24];
        packet[0] = 0x45;
        packet[3] = 24;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&[100, 96, 0, 1]);
        packet[16..20].copy_from_slice(&[100, 96, 0, 2]);
        packet
    }

    #[test]
    fn reads_addresses_of_both_families() {
        let inner = Inner::read(&v4()).unwrap();
        assert_eq!(inner.source, "100.96.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(inner.destination, "100.96.0.2".parse::<IpAddr>().unwrap());
        assert_eq!((inner.protocol, inner.header, inner.fragment), (17, 20, false));

        let mut v6 = [0; 44];
        v6[0] = 0x60;
        v6[5] = 4;
        v6[6] = 58;
        v6[8] = 0xfd;
        v6[23] = 1;
        v6[24] = 0xff;
        v6[39] = 2;
        let inner = Inner::read(&v6).unwrap();
        assert_eq!(inner.source, "fd00::1".parse::<IpAddr>().unwrap());
        assert_eq!(inner.destination, "ff00::2".parse::<IpAddr>().unwrap());
        assert!(inner.is_to_many());
    }

    #[test]
    fn refuses_what_is_short_or_lies_about_its_length() {
        assert_eq!(Inner::read(&[]), None);
        assert_eq!(Inner::read(&[0x10; 60]), None, "version 1");
        assert_eq!(Inner::read(&v4()[..19]), None);
        let mut lying = v4();
        lying[3] = 25;
        assert_eq!(Inner::read(&lying), None, "longer than the packet");
        lying[3] = 19;
        assert_eq!(Inner::read(&lying), None, "shorter than the header");
        lying = v4();
        lying[0] = 0x44;
        assert_eq!(Inner::read(&lying), None, "header of four words");
        assert_eq!(Inner::read(&[0x60; 39]), None);
        assert_eq!(Inner::read(&[0x60; 40]), None, "payload is missing");
    }

    #[test]
    fn fragments_are_seen() {
        for (flags, fragment) in [([0x20, 0], true), ([0, 1], true), ([0x40, 0], false)] {
            let mut packet = v4();
            packet[6..8].copy_from_slice(&flags);
            assert_eq!(Inner::read(&packet).unwrap().fragment, fragment);
        }
    }
}
