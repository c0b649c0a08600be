//! Reads and writes batches of datagrams on the UDP socket. The only file that uses the socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::counters::DropReason;
use crate::peer_state::Datagrams;
use crate::tunnel::Tunnel;
use crate::way::Way;

/// The UDP socket of the underlay.
pub(crate) struct UdpPort {
    socket: UdpSocket,
    local: SocketAddr,
}

impl UdpPort {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = bind(address)?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits for datagrams and takes those that are there, up to a full batch.
    pub(crate) async fn receive(&self, batch: &mut Datagrams, tunnel: &Tunnel) -> io::Result<()> {
        while batch.len() == 0 {
            self.socket.readable().await?;
            while let Some(slot) = batch.slot() {
                let full = slot.len();
                match self.socket.try_recv_from(slot) {
                    // A datagram that fills a slot was truncated.
                    Ok((len, _)) if len >= full => tunnel.counters.count(DropReason::TooBig),
                    Ok((len, from)) => {
                        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                        batch.push(len, Way::Udp(from));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if is_about_a_datagram(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Sends one datagram. Waits a short time for a full socket, then fails with `TimedOut`.
    pub(crate) async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = self.as_seen_by_socket(to);
        loop {
            match self.socket.try_send_to(datagram, to) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            timeout(WRITABLE_WAIT, self.socket.writable()).await.map_err(io::Error::from)??;
        }
    }

    /// Maps an IPv4 address for an IPv6 socket.
    fn as_seen_by_socket(&self, to: SocketAddr) -> SocketAddr {
        match (self.local, to) {
            (SocketAddr::V6(_), SocketAddr::V4(to)) => {
                SocketAddr::from((to.ip().to_ipv6_mapped(), to.port()))
            }
            _ => to,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The kernel may give less (net.core.rmem_max). Then bursts are dropped earlier.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Errors that ICMP reported for an earlier datagram. The socket still works.
fn is_about_a_datagram(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
    )
}

const SOCKET_BUFFER: usize = 1 << 20;
/// How long a full socket may delay a batch.
const WRITABLE_WAIT: Duration = Duration::from_millis(100);
