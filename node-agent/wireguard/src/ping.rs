//! One echo and its reply. Goes through the kernel if there is a TUN and the kernel allows it, else directly
//! through the tunnel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rap_runtime::Clock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::error::PingError;
use crate::icmp::{self, ECHO_HEADER, Echo, EchoKind};
use crate::packet::Inner;
use crate::peer_state::SEND_ROOM;
use crate::responder::{PROBE, Responder};
use crate::tasks::Parts;

/// Pings `destination` and returns the round trip time.
pub(crate) async fn ping(
    parts: &Parts,
    destination: IpAddr,
    sequence: u16,
    within: Duration,
) -> Result<Duration, PingError> {
    let source = own_address(parts, destination)?;
    let answered = async {
        let Some(interface) = parts.tunnel.host.interface.as_deref() else {
            return in_process(parts, source, destination, sequence).await;
        };
        match icmp_socket(source) {
            Ok(socket) => {
                let clock = parts.tunnel.clock;
                by_kernel(clock, socket, interface, source, destination, sequence).await
            }
            // A hardened service has no CAP_NET_RAW, and the host sets net.ipv4.ping_group_range.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return in_process(parts, source, destination, sequence).await;
            }
            Err(error) => Err(error),
        }
        .map_err(PingError::Socket)
    };
    timeout(within, answered).await.map_err(|_| PingError::Timeout)?
}

fn own_address(parts: &Parts, destination: IpAddr) -> Result<IpAddr, PingError> {
    let active = parts.tunnel.active();
    if active.peer_of(destination).is_none() {
        return Err(PingError::NoPeer(destination));
    }
    active.source_for(destination).ok_or(PingError::NoAddress(destination))
}

/// Removes the awaited reply when the ping ends, in whatever way.
struct Waiting<'a> {
    responder: &'a Responder,
    peer: IpAddr,
    identifier: u16,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.responder.forget(self.peer, self.identifier);
    }
}

async fn in_process(
    parts: &Parts,
    source: IpAddr,
    destination: IpAddr,
    sequence: u16,
) -> Result<Duration, PingError> {
    let responder = &parts.tunnel.host.responder;
    let (identifier, reply) = responder.expect(destination).ok_or(PingError::Busy)?;
    let _waiting = Waiting { responder, peer: destination, identifier };
    let mut packet = [0; 40 + ECHO_HEADER + PROBE.len()];
    let len = icmp::request(&mut packet, source, destination, identifier, sequence, PROBE)
        .ok_or(PingError::NoAddress(destination))?;
    let mut out = parts.datagrams(SEND_ROOM);
    let sent = parts.tunnel.now();
    let result = parts.tunnel.send(&parts.tunnel.active(), sent, &packet[..len], &mut out);
    parts.tunnel.count(result);
    result.map_err(|reason| PingError::Dropped(reason.code()))?;
    parts.underlay.send(&mut out, &parts.tunnel).await;
    // The responder holds the sender until the reply comes or this function ends.
    let arrived = reply.await.map_err(|_| PingError::Timeout)?;
    Ok(arrived.since(sent))
}

async fn by_kernel(
    clock: Clock,
    (socket, kind): (Socket, Type),
    interface: &str,
    source: IpAddr,
    destination: IpAddr,
    sequence: u16,
) -> io::Result<Duration> {
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect(&SocketAddr::new(destination, 0).into())?;
    socket.set_nonblocking(true)?;
    // The runtime handles an ICMP socket like any datagram socket.
    let socket = UdpSocket::from_std(socket.into())?;

    let identifier: u16 = rand::random();
    let mut message = [0; ECHO_HEADER + PROBE.len()];
    message[ECHO_HEADER..].copy_from_slice(PROBE);
    let request = Echo { kind: EchoKind::Request, identifier, sequence };
    if let Some(header) = message.first_chunk_mut() {
        request.write(header, source.is_ipv6());
    }
    if source.is_ipv4() {
        // The kernel sets the checksum of ICMPv6.
        let sum = icmp::checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let sent = clock.now().mono;
    socket.send(&message).await?;
    let mut buffer = [0; 512];
    loop {
        let len = socket.recv(&mut buffer).await?;
        let arrived = clock.now().mono;
        if is_reply(&buffer[..len], kind, &request, source.is_ipv6()) {
            return Ok(arrived.since(sent));
        }
    }
}

/// True if a received message is the reply to `request`.
fn is_reply(received: &[u8], kind: Type, request: &Echo, v6: bool) -> bool {
    // Raw IPv4 sockets deliver the IP header too.
    let header =
        if kind == Type::RAW && !v6 { Inner::read(received).map_or(0, |inner| inner.header) } else { 0 };
    let echo = received.get(header..).and_then(|message| Echo::read(message, v6));
    echo.is_some_and(|echo| {
        // On datagram sockets the kernel chooses and matches the identifier.
        let ours = kind != Type::RAW || echo.identifier == request.identifier;
        ours && echo.kind == EchoKind::Reply && echo.sequence == request.sequence
    })
}

/// A datagram socket if the system allows it for this user, else a raw socket (CAP_NET_RAW).
fn icmp_socket(source: IpAddr) -> io::Result<(Socket, Type)> {
    let (domain, protocol) = match source {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => Ok((socket, Type::DGRAM)),
        Err(_) => Ok((Socket::new(domain, Type::RAW, Some(protocol))?, Type::RAW)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_told_from_other_messages() {
        let request = Echo { kind: EchoKind::Request, identifier: 7, sequence: 9 };
        let message = |echo: Echo, v6| {
            let mut bytes = [0; ECHO_HEADER];
            echo.write(&mut bytes, v6);
            bytes
        };
        let reply = Echo { kind: EchoKind::Reply, ..request };
        for v6 in [false, true] {
            assert!(is_reply(&message(reply, v6), Type::DGRAM, &request, v6));
            assert!(!is_reply(&message(request, v6), Type::DGRAM, &request, v6));
            assert!(!is_reply(&message(Echo { sequence: 8, ..reply }, v6), Type::DGRAM, &request, v6));
            assert!(is_reply(&message(Echo { identifier: 8, ..reply }, v6), Type::DGRAM, &request, v6));
        }
        assert!(!is_reply(&message(Echo { identifier: 8, ..reply }, true), Type::RAW, &request, true));
        let mut packet = [0; 64];
        let own: IpAddr = "100.96.0.1".parse().unwrap();
        let len = icmp::request(&mut packet, own, own, 7, 9, b"").unwrap();
        packet[20] = 0;
        assert!(is_reply(&packet[..len], Type::RAW, &request, false));
        assert!(!is_reply(&[], Type::RAW, &request, false));
    }
}
