//! What the routers do, proven with plain sockets before anything of the product runs: without it a passed scenario shows nothing.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::scene::{RELAYS, ROUTERS, SITES};
use crate::check::Finding;
use crate::fabric::inside;
use crate::lab::Lab;

/// One socket of a site is seen under another port by each of two hosts; an answer comes back, and nothing else does.
pub fn check(lab: &Lab) -> Result<Finding> {
    let outside = RELAYS.map(|name| lab.host(name));
    let [one, other] = outside;
    let (one, other) = (one?, other?);
    let mut seen = Vec::new();
    for (router, site) in ROUTERS.iter().zip(SITES) {
        let host = lab.host_behind(router, site)?;
        let public = lab.host(router)?.address();
        let socket = |host: &crate::host::Host| {
            let address = host.address();
            inside(host, || {
                let socket = UdpSocket::bind((address, 0))?;
                socket.set_read_timeout(Some(Duration::from_secs(2)))?;
                Ok(socket)
            })
        };
        let (own, first, second) = (socket(&host)?, socket(&one)?, socket(&other)?);
        let first_port = mapped(&own, &first, public)?;
        let second_port = mapped(&own, &second, public)?;
        ensure!(
            first_port != second_port,
            "{site} is seen under port {first_port} by both: such a NAT can be crossed directly"
        );
        // Who was asked may answer; somebody else may not use the same port.
        second.send_to(b"uninvited", (public, first_port))?;
        first.send_to(b"answer", (public, first_port))?;
        let mut buffer = [0; 64];
        let count = own.recv(&mut buffer)?;
        ensure!(&buffer[..count] == b"answer", "{site} hears who was not asked");
        ensure!(own.recv(&mut buffer).is_err(), "{site} hears who was not asked, later");
        seen.push(json!({ "site": site, "ports": [first_port, second_port] }));
    }
    Ok(Finding::new(true, seen, "each destination sees another port; nobody else gets in by it"))
}

/// The port under which `far` sees a datagram of `own`.
fn mapped(own: &UdpSocket, far: &UdpSocket, public: Ipv4Addr) -> Result<u16> {
    own.send_to(b"question", far.local_addr()?)?;
    let mut buffer = [0; 64];
    let (_, from) = far.recv_from(&mut buffer)?;
    let SocketAddr::V4(from) = from else { anyhow::bail!("an IPv6 address") };
    ensure!(*from.ip() == public, "seen under {from}, the router has {public}");
    Ok(from.port())
}
