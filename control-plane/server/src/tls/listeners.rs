//! The listening sockets.
//!
//! Owns how they are bound: `[::]` takes IPv4 too, and is `0.0.0.0` where IPv6 is off. A peer that is mapped into IPv6 is
//! told as the IPv4 address that it is. Refuses to own what is accepted.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use rap_types::Reason;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::config::listen::Listen;
use crate::failure::Failure;

/// At least one listening socket.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Binds every address. One of several addresses of a name that is not of this host is passed over.
    ///
    /// # Errors
    /// `config.invalid` if the name has no address, or none can be bound.
    pub async fn bind(listen: &Listen) -> Result<Self, Failure> {
        let mut bound = Vec::new();
        let mut last = None;
        for address in listen.addresses().await? {
            match bind(address) {
                Ok(listener) => bound.push(listener),
                Err(error) => {
                    tracing::warn!(%address, %error, "cannot listen there");
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if bound.is_empty() => {
                Err(Failure::new(Reason::ConfigInvalid, format!("cannot listen on {listen}: {error}")))
            }
            Some(_) | None => Ok(Self(bound)),
        }
    }

    /// Where they listen.
    ///
    /// # Errors
    /// The error of the operating system that refuses to name the address of a socket.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(TcpListener::local_addr).collect()
    }

    /// The next connection of any of them.
    ///
    /// # Errors
    /// The error of the operating system for this one connection; the listeners stay open.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = poll_fn(|cx| {
            let ready = self.0.iter().find_map(|listener| match listener.poll_accept(cx) {
                Poll::Ready(accepted) => Some(accepted),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await?;
        Ok((stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())))
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match bind_one(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_off(&error) => {
            tracing::info!("IPv6 is off on this host: listening on IPv4 only");
            bind_one((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// No such family, or no address of it.
fn is_off(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Whatever the host's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn peer_of(listeners: &Listeners, address: SocketAddr) -> SocketAddr {
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listeners.accept());
        assert_eq!(accepted.as_ref().unwrap().1, connected.unwrap().local_addr().unwrap());
        accepted.unwrap().1
    }

    #[tokio::test]
    async fn one_socket_takes_both_families_and_tells_an_ipv4_peer_as_one() {
        let listeners = Listeners::bind(&Listen::At("[::]:0".parse().unwrap())).await.unwrap();
        let port = listeners.addresses().unwrap()[0].port();
        assert!(peer_of(&listeners, ([127, 0, 0, 1], port).into()).await.is_ipv4());
        assert!(peer_of(&listeners, (Ipv6Addr::LOCALHOST, port).into()).await.is_ipv6());
    }

    #[tokio::test]
    async fn a_name_binds_every_address_it_has_and_one_without_is_refused() {
        let name = Listen::parse("localhost:0").unwrap();
        let listeners = Listeners::bind(&name).await.unwrap();
        let bound = listeners.addresses().unwrap();
        assert_eq!(bound.len(), name.addresses().await.unwrap().len());
        for address in bound {
            assert_eq!(peer_of(&listeners, address).await.ip(), address.ip());
        }
        let fault = Listeners::bind(&Listen::parse("no-such-host.invalid:0").unwrap()).await.unwrap_err();
        assert_eq!(fault.reason, Reason::ConfigInvalid);
    }

    #[test]
    fn a_host_without_ipv6_says_so_in_one_of_two_ways() {
        assert!(is_off(&io::Error::from_raw_os_error(97)));
        assert!(is_off(&io::ErrorKind::AddrNotAvailable.into()));
        assert!(!is_off(&io::ErrorKind::AddrInUse.into()));
    }
}
