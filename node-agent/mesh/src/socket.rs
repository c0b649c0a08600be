//! Sockets of links and their options.
//!
//! Owns the options that decide over latency. Dialled and accepted sockets get the same.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt};
use rap_link::BulkSample;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// A listening socket with SO_REUSEADDR, so that a restarted process can bind at once.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Turns Nagle off and keeps little unsent data in the kernel: frames in the kernel cannot be overtaken.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT)
}

/// A second handle to the socket of a connection.
#[derive(Debug)]
pub(crate) struct Handle(Socket);

impl Handle {
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        SockRef::from(stream).try_clone().map(Self)
    }

    /// Options of a lane that carries bulk: more unsent data, and BBR where the kernel has it, which keeps its rate over
    /// a leg that loses segments. Returns the name of the congestion control.
    pub(crate) fn carry_bulk(&self) -> io::Result<String> {
        self.0.set_tcp_notsent_lowat(NOTSENT_LOWAT_BULK)?;
        let _without = self.0.set_tcp_congestion(b"bbr").or_else(|_| self.0.set_tcp_congestion(b"cubic"));
        let name = self.0.tcp_congestion()?;
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Ok(String::from_utf8_lossy(&name[..length]).into_owned())
    }

    /// Time since the kernel of the peer last acknowledged a segment.
    pub(crate) fn last_ack(&self) -> Option<Duration> {
        let info = getsockopt(&self.0, TcpInfo).ok()?;
        Some(Duration::from_millis(info.tcpi_last_ack_recv.into()))
    }

    /// What [`rap_link::Pace`] needs to know.
    pub(crate) fn bulk_sample(&self) -> Option<BulkSample> {
        let info = getsockopt(&self.0, TcpInfo).ok()?;
        Some(BulkSample {
            acked: info.tcpi_bytes_acked,
            unsent: info.tcpi_notsent_bytes > 0,
            round_trip: Duration::from_micros(info.tcpi_rtt.into()),
            least_round_trip: Duration::from_micros(info.tcpi_min_rtt.into()),
        })
    }

    /// Limits what is sent to so many bytes per second. `u64::MAX` takes the limit away.
    pub(crate) fn limit(&self, rate: u64) -> io::Result<()> {
        Ok(setsockopt(&self.0, MaxPacingRate, &rate)?)
    }
}

/// What the kernel knows of a TCP connection.
#[derive(Debug, Clone, Copy)]
struct TcpInfo;

nix::getsockopt_impl!(
    TcpInfo,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info,
    nix::sys::socket::sockopt::GetStruct<libc::tcp_info>
);

/// The most that the kernel sends per second.
#[derive(Debug, Clone, Copy)]
struct MaxPacingRate;

nix::setsockopt_impl!(
    MaxPacingRate,
    libc::SOL_SOCKET,
    libc::SO_MAX_PACING_RATE,
    u64,
    nix::sys::socket::sockopt::SetStruct<'_, u64>
);

const BACKLOG: i32 = 1024;
const NOTSENT_LOWAT: u32 = 16 * 1024;
const NOTSENT_LOWAT_BULK: u32 = 64 * 1024;
