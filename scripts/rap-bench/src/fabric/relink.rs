//! A relay starts again, and all its nodes come back from one address.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use rap_link::SessionState;
use rap_mesh::MeshConfig;
use rap_types::NodeId;

use super::findings::Findings;
use super::support::{Authority, HOME, Node, peers};
use crate::machine;
use crate::measure::Stopwatch;

/// Seconds until every node is linked again.
pub(super) async fn measure(quick: bool, findings: &mut Findings) -> Result<()> {
    machine::allow_open_files(8192)?;
    let authority = Authority::new(HOME);
    let mut relay = start_relay(&authority, SocketAddr::from((RELAY, 0)));
    let address = relay.address();
    let nodes: Vec<Node> = (0..NODES)
        .map(|number| {
            let config = MeshConfig::new(id(number), HOME, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let node = Node::start(&authority, config);
            node.mesh.apply(peers(&authority, &[(relay.id, Some(address))]));
            node
        })
        .collect();
    linked(&relay).await?;
    let mut runs = Vec::new();
    for _ in 0..if quick { 1 } else { 3 } {
        relay.stop().await;
        tokio::time::sleep(AWAY).await;
        let watch = Stopwatch::start();
        relay = start_relay(&authority, address);
        linked(&relay).await?;
        runs.push(watch.elapsed().as_secs_f64());
    }
    let note = format!("{} nodes of one process and address; the relay is away for {AWAY:?}", nodes.len());
    findings.add("relinked", runs, &note);
    Ok(())
}

fn start_relay(authority: &Authority, listen: SocketAddr) -> Node {
    let relay = Node::start(authority, MeshConfig::new(NodeId::from_bytes([255; 16]), HOME, listen));
    let all: Vec<_> = (0..NODES).map(|number| (id(number), None)).collect();
    relay.mesh.apply(peers(authority, &all));
    relay
}

async fn linked(relay: &Node) -> Result<()> {
    let watch = Stopwatch::start();
    loop {
        let links = relay.mesh.links();
        let up = links.iter().filter(|link| link.state == SessionState::Established).count();
        if up >= usize::from(NODES) {
            return Ok(());
        }
        ensure!(watch.elapsed() < GIVEN_UP, "{up} of {NODES} are linked after {GIVEN_UP:?}");
        tokio::time::sleep(LOOK).await;
    }
}

fn id(number: u16) -> NodeId {
    let mut id = [7; 16];
    id[14..].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

const NODES: u16 = 300;
const RELAY: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);
/// How long the relay is away.
const AWAY: Duration = Duration::from_secs(2);
const GIVEN_UP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
