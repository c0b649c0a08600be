//! From the operator's command to the end of a revoked node's link, seen by the kernel's table of connections.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::agent::Host;
use crate::measure::Stopwatch;
use crate::operator::Operator;
use crate::scenario::Measured;
use crate::settings::Settings;

/// Measures every row of this part.
pub async fn measure(
    settings: &Settings,
    folder: &Path,
    operator: &mut Operator,
    measured: &mut Measured,
) -> Result<()> {
    let rounds = if settings.quick { 3 } else { 30 };
    let token = super::token(operator, folder, CLUSTER, rounds + 1, true).await?;
    let mut peer = Host::new(&settings.programs, folder, "peer")?;
    peer.start().await?;
    peer.join(&token).await?;
    let mut took = Vec::new();
    for round in 0..rounds {
        let name = format!("revoked-{round}");
        let mut host = Host::new(&settings.programs, folder, &name)?;
        host.start().await?;
        host.join(&token).await?;
        host.linked(1).await?;
        peer.linked(1).await?;
        let ports = [peer.link(), host.link()];
        ensure!(connections(&ports)? > 0, "a link has a connection");
        let watch = Stopwatch::start();
        operator.revoke(CLUSTER, &name).await?;
        while connections(&ports)? > 0 {
            if watch.elapsed() > DEADLINE {
                bail!("the link of a revoked node is still open after {DEADLINE:?}");
            }
            tokio::time::sleep(LOOK).await;
        }
        took.push(watch.elapsed_ms());
        host.stop().await?;
    }
    peer.stop().await?;
    let note = "from sending NodeRevoke until no connection of the link is established any more, on both hosts (/proc/net/tcp, looked at \
                every 2 ms): signing, commit, publication, push, verification, new forwarding table, close";
    measured.insert("revoke", (took, note.to_owned()));
    Ok(())
}

/// Established TCP connections on any of these ports of this host.
fn connections(ports: &[SocketAddr]) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").context("/proc/net/tcp")?;
    let ports: Vec<String> = ports.iter().map(|address| format!(":{:04X}", address.port())).collect();
    let established = table.lines().skip(1).filter(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next(), fields.next(), fields.next());
        let ours = |address: Option<&str>| {
            address.is_some_and(|address| ports.iter().any(|port| address.ends_with(port.as_str())))
        };
        state == Some(ESTABLISHED) && (ours(local) || ours(remote))
    });
    Ok(established.count())
}

const ESTABLISHED: &str = "01";
const CLUSTER: &str = "revoking";
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_is_seen_while_it_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(connections(&[address]).unwrap(), 0);
        let near = TcpStream::connect(address).unwrap();
        let (far, _) = listener.accept().unwrap();
        assert_eq!(connections(&[address]).unwrap(), 2, "both ends are on this host");
        drop((near, far));
        assert_eq!(connections(&[address]).unwrap(), 0);
    }
}
