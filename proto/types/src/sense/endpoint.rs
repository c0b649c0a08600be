//! Endpoints: where a datagram or a connection may be sent to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::name::label;

/// Whether addresses of the own host count as endpoints. They lead a peer to itself, so only installations whose
/// nodes all run on one host have a use for them: development mode, tests, the loopback lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// They make no sense.
    Refused,
    /// They are taken.
    Allowed,
}

impl From<bool> for Loopback {
    fn from(allowed: bool) -> Self {
        if allowed { Self::Allowed } else { Self::Refused }
    }
}

/// Says whether `text` is HOST:PORT with a host that another one can be reached at: an address, an IPv6 address in
/// brackets, or a name.
///
/// # Errors
/// Says why not.
pub fn endpoint(text: &str, loopback: Loopback) -> Result<(), &'static str> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return socket_address(address, loopback);
    }
    let (host, port) = text.rsplit_once(':').ok_or("an endpoint is HOST:PORT")?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err("the port of an endpoint is 1 to 65535");
    }
    host_name(host, loopback)
}

/// Says whether another host can be reached at `address`.
///
/// # Errors
/// Says why not.
pub fn socket_address(address: SocketAddr, loopback: Loopback) -> Result<(), &'static str> {
    if address.port() == 0 {
        return Err("the port of an endpoint is 1 to 65535");
    }
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => ipv4(ip, loopback),
        IpAddr::V6(ip) => ipv6(ip, loopback),
    }
}

fn ipv4(ip: Ipv4Addr, loopback: Loopback) -> Result<(), &'static str> {
    match ip.octets() {
        [0, ..] => Err("an endpoint is in 0.0.0.0/8"),
        [127, ..] if loopback == Loopback::Refused => Err(LOOPBACK),
        [169, 254, ..] => Err("an endpoint is link-local"),
        [224..=239, ..] => Err("an endpoint is a multicast address"),
        [240..=255, ..] => Err("an endpoint is a broadcast or reserved address"),
        _ => Ok(()),
    }
}

fn ipv6(ip: Ipv6Addr, loopback: Loopback) -> Result<(), &'static str> {
    if ip.is_loopback() {
        return if loopback == Loopback::Allowed { Ok(()) } else { Err(LOOPBACK) };
    }
    // Also the addresses that once stood for IPv4 ones (::a.b.c.d), which no host has.
    if ip.segments()[..6] == [0; 6] {
        return Err("an endpoint is in ::/96");
    }
    if ip.is_unicast_link_local() {
        return Err("an endpoint is link-local");
    }
    if ip.is_multicast() {
        return Err("an endpoint is a multicast address");
    }
    Ok(())
}

/// A name whose last label is a number would be read as an address by resolvers: `127.1` is 127.0.0.1.
fn host_name(host: &str, loopback: Loopback) -> Result<(), &'static str> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.len() > 253 || !host.split('.').all(|part| label(part).is_ok()) {
        return Err("the host of an endpoint is neither an address nor a name");
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the host of an endpoint is a number");
    }
    if last == "localhost" && loopback == Loopback::Refused {
        return Err(LOOPBACK);
    }
    Ok(())
}

const LOOPBACK: &str = "an endpoint is a loopback address";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_lead_nowhere_or_to_the_own_host_are_refused() {
        let bad = [
            "0.0.0.0:51820",
            "0.1.2.3:51820",
            "169.254.169.254:80",
            "224.0.0.1:51820",
            "239.255.255.250:1900",
            "255.255.255.255:51820",
            "240.0.0.1:1",
            "192.0.2.1:0",
            "[::]:51820",
            "[::127.0.0.1]:1",
            "[fe80::1]:51820",
            "[fe80::1%2]:51820",
            "[ff02::1]:51820",
            "[::ffff:169.254.169.254]:80",
            "[2001:db8::1]:0",
            "node.example.net:0",
            "node.example.net:65536",
            "node.example.net:+1",
            "node.example.net",
            "127.1:1",
            "2130706433:1",
            "0x7f000001:1",
            "a.0x1:1",
            ":1",
            "a b:1",
            "a..b:1",
            "../../x:1",
            "a/b:1",
            "[node]:1",
            "h:1\n",
            "",
        ];
        for text in bad {
            for loopback in [Loopback::Refused, Loopback::Allowed] {
                assert!(endpoint(text, loopback).is_err(), "{text}");
            }
        }
        for text in [
            "192.0.2.1:51820",
            "10.1.2.3:1",
            "[2001:db8::1]:65535",
            "[fd00::1]:1",
            "node.example.net:7443",
            "Node-7.example.net.:1",
            "h:1",
            "[::ffff:192.0.2.1]:1",
            "3com.example:1",
        ] {
            assert_eq!(endpoint(text, Loopback::Refused), Ok(()), "{text}");
        }
    }

    #[test]
    fn loopback_is_an_endpoint_only_where_it_is_allowed() {
        for text in [
            "127.0.0.1:5432",
            "127.8.9.1:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "localhost:1",
            "a.LocalHost:1",
        ] {
            assert_eq!(endpoint(text, Loopback::Refused), Err(LOOPBACK), "{text}");
            assert_eq!(endpoint(text, Loopback::Allowed), Ok(()), "{text}");
        }
        assert_eq!((Loopback::from(true), Loopback::from(false)), (Loopback::Allowed, Loopback::Refused));
    }
}
