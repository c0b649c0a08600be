//! A control plane on `[::]` takes both families, and what one source may take is counted by family.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::scene::Scene;
use super::shown::{half, shown};
use crate::check::Finding;
use crate::fabric::{CALL, Control};
use crate::host::Host;

/// Hosts open connections and say nothing: two IPv4 hosts have a share each, two hosts of one IPv6 network have one together.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let settings = format!("handshakes_per_source = {SHARE}\nhandshake_timeout_ms = 60000\n");
    let dual = Control::start_strict_at(scene.lab, "dual", "[::]:8443", &settings)?;
    let [one, two] = scene.nodes.each_ref().map(|node| node.host());
    for (host, address) in [(one, ONE), (two, TWO), (dual.host(), SERVER), (scene.control.host(), OTHER)] {
        host.typed(&format!("ip -6 address add {address}/64 dev eth0 nodad"), CALL)?;
    }
    let v4 = SocketAddr::new(IpAddr::V4(dual.host().address()), 8443);
    let mut silent = Silent::default();
    let ipv4 = [silent.open(one, v4)?, silent.open(two, v4)?];
    let v6 = SocketAddr::new(SERVER.parse::<Ipv6Addr>()?.into(), 8443);
    let ipv6 = [silent.open(one, v6)?, silent.open(two, v6)?];
    drop(silent);
    // A control plane on an IPv4 address is not to be reached otherwise.
    let other = SocketAddr::new(OTHER.parse::<Ipv6Addr>()?.into(), 8443);
    let refused = one.view().enter(|| Ok(TcpStream::connect_timeout(&other, CONNECT).is_err()))?;
    for (host, address) in [(one, ONE), (two, TWO), (scene.control.host(), OTHER)] {
        host.typed(&format!("ip -6 address del {address}/64 dev eth0"), CALL)?;
    }
    dual.part(scene.lab)?.stop()?;
    let value = json!({ "kept_of_two_ipv4_hosts": ipv4, "kept_of_two_hosts_of_an_ipv6_network": ipv6 });
    Ok(shown(
        half(ipv4 == [SHARE, SHARE] && ipv6 == [SHARE, 0], value),
        half(refused, json!({ "ipv6_to_an_ipv4_listener_refused": refused })),
        "[::] takes both families; each IPv4 host has its share of handshakes, an IPv6 network has one",
    ))
}

/// Connections that say nothing.
#[derive(Debug, Default)]
struct Silent(Vec<TcpStream>);

impl Silent {
    /// Opens one more than a share and keeps those that the server keeps; gives how many those are.
    fn open(&mut self, from: &Host, to: SocketAddr) -> Result<usize> {
        let opened = from.view().enter(|| {
            let connect = |_| TcpStream::connect_timeout(&to, CONNECT);
            Ok((0..=SHARE).map(connect).collect::<std::io::Result<Vec<_>>>()?)
        })?;
        let before = self.0.len();
        for mut stream in opened {
            stream.set_read_timeout(Some(KEPT))?;
            let read = stream.read(&mut [0]);
            if read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)) {
                self.0.push(stream);
            }
        }
        Ok(self.0.len() - before)
    }
}

const SHARE: usize = 4;
const ONE: &str = "fd77::1";
const TWO: &str = "fd77::2";
const SERVER: &str = "fd77::9";
const OTHER: &str = "fd77::8";
const CONNECT: Duration = Duration::from_secs(5);
/// A connection over the share is ended at once.
const KEPT: Duration = Duration::from_millis(500);
