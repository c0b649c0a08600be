//! Sockets of links and their options.
//!
//! Owns the options that decide over latency. Dialled and accepted sockets get the same.

use std::io;
use std::net::SocketAddr;

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

const BACKLOG: i32 = 1024;
const NOTSENT_LOWAT: u32 = 16 * 1024;
