//! Changes of the host's network as they happen.
//!
//! Owns which of them are of interest: one event is compared alone, so that a host with a full routing table is not
//! read again at each of its changes.

use std::io;

use futures_util::StreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::{mpsc, watch};

use crate::observe::route_of;

/// Tells that something changed. At most one notice of a kind waits: what changed is read afterwards.
pub struct Events {
    notices: mpsc::Receiver<Changed>,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Interfaces, addresses or routes.
    Network,
    /// The packet filter.
    Filter,
}

impl Events {
    /// Begins to listen for what concerns the prefixes in `wanted`. The future carries the events and runs until this
    /// is dropped or the socket fails.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn listen(
        wanted: watch::Receiver<Vec<IpNet>>,
    ) -> io::Result<(Self, impl Future<Output = io::Result<()>>)> {
        let (connection, handle, mut messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Ifinfo,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        let mut filter = filter_events().inspect_err(|error| {
            tracing::debug!(%error, "changes of the packet filter are not heard");
        });
        let (sender, notices) = mpsc::channel(4);
        let carry = async move {
            // The connection ends with its last handle.
            let _open = handle;
            let mut connection = std::pin::pin!(connection);
            loop {
                let changed = tokio::select! {
                    () = &mut connection => return Err(ended()),
                    () = sender.closed() => return Ok(()),
                    message = messages.next() => {
                        let (message, _) = message.ok_or_else(ended)?;
                        if !is_of_interest(&message, &wanted.borrow()) {
                            continue;
                        }
                        Changed::Network
                    }
                    heard = next_filter_event(&mut filter) => {
                        // Events that were lost are events.
                        drop(heard);
                        Changed::Filter
                    }
                };
                // Full: notices wait, and everything is read after them.
                let _full = sender.try_send(changed);
            }
        };
        Ok((Self { notices }, carry))
    }

    /// Waits for the next change. `None` if there will be none.
    pub async fn next(&mut self) -> Option<Changed> {
        self.notices.recv().await
    }
}

/// A socket that hears of every change of the packet filter.
fn filter_events() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
    Ok(socket)
}

async fn next_filter_event(socket: &mut io::Result<TokioSocket>) -> io::Result<()> {
    match socket {
        Ok(socket) => socket.recv_from_full().await.map(drop),
        Err(_) => std::future::pending().await,
    }
}

fn ended() -> io::Error {
    io::Error::other("the netlink socket ended")
}

fn is_of_interest(message: &NetlinkMessage<RouteNetlinkMessage>, wanted: &[IpNet]) -> bool {
    let NetlinkPayload::InnerMessage(message_of_route) = &message.payload else {
        // Events were lost.
        return true;
    };
    match message_of_route {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            // Of a route that is replaced nothing else is told.
            let replaced = message.header.flags & NLM_F_REPLACE != 0;
            let concerns = |read: crate::observe::SeenRoute| {
                read.in_main && read.of_host().iter().any(|route| route.concerns(wanted))
            };
            replaced || route_of(route).is_some_and(concerns)
        }
        _ => true,
    }
}

/// Of linux/netfilter/nfnetlink.h.
const NFNLGRP_NFTABLES: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::RouteMessageBuilder;
    use std::net::IpAddr;

    fn event(prefix: &str, table: u32, flags: u16) -> NetlinkMessage<RouteNetlinkMessage> {
        let prefix: IpNet = prefix.parse().unwrap();
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.addr(), prefix.prefix_len())
            .unwrap()
            .table_id(table)
            .build();
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(route));
        message.header.flags = flags;
        message
    }

    #[test]
    fn a_route_is_compared_alone_and_everything_else_is_of_interest() {
        let wanted = ["100.96.0.0/16".parse().unwrap()];
        let of_interest = |message| is_of_interest(&message, &wanted);
        assert!(of_interest(event("100.96.7.0/24", 254, 0)) && of_interest(event("0.0.0.0/0", 254, 0)));
        assert!(!of_interest(event("10.7.0.0/16", 254, 0)) && !of_interest(event("fd00::/8", 254, 0)));
        assert!(!of_interest(event("100.96.7.0/24", 255, 0)), "another table");
        assert!(of_interest(event("10.7.0.0/16", 254, NLM_F_REPLACE)));
        let lost = NetlinkMessage::new(Default::default(), NetlinkPayload::Overrun(Vec::new()));
        assert!(of_interest(lost));
        assert!(of_interest(NetlinkMessage::from(RouteNetlinkMessage::NewAddress(Default::default()))));
    }
}
