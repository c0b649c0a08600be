//! The first packet to a node that was never contacted: through a relay that both ends are linked with.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use rap_wire::v1::{ForwardingTable, TableLink, TablePath};

use super::findings::Findings;
use super::planes::{Node, PATIENCE, Plane, answered, node, table, until};
use super::support::{Authority, HOME};
use crate::measure::Stopwatch;

/// Milliseconds from the question to the first answer, for each of several nodes.
pub(super) fn measure(programs: &Path, quick: bool, findings: &mut Findings) -> Result<()> {
    let authority = Authority::new(HOME);
    let others: u8 = if quick { 8 } else { 40 };
    let at = |number: u8| node(number, Ipv4Addr::new(127, 5, 0, number));
    let (relay, source) = (at(200), at(1));
    let others: Vec<Node> = (2..2 + others).map(at).collect();
    let ends: Vec<Node> = [source].iter().chain(&others).copied().collect();
    let _relay = Plane::relay(programs, &authority, &relay, &ends)?;
    let start = |node: &Node, peers: &[Node]| {
        let mut command = Command::new(programs.join("rap-dataplane"));
        command.env("RAP_DATAPLANE_NO_TUN", "true");
        Plane::start(command, node, end_table(&authority, node, &relay, peers))
    };
    let mut first = start(&source, &others)?;
    let mut there = others.iter().map(|other| start(other, &[source])).collect::<Result<Vec<_>>>()?;
    for plane in [&mut first].into_iter().chain(&mut there) {
        until("linked with the relay", || {
            plane.agent.stats_of(&relay.id().to_vec()).filter(|stats| stats.link_state == "established")
        })?;
    }
    let mut runs = Vec::new();
    for other in &others {
        let watch = Stopwatch::start();
        while answered(&first.agent.ping(&other.id().to_vec(), 1).overlay) == 0 {
            anyhow::ensure!(watch.elapsed() < PATIENCE, "no answer");
        }
        runs.push(watch.elapsed_ms());
    }
    let note = "data planes are processes; both ends are linked with the relay; path, WireGuard handshake, question, answer";
    findings.add("first_packet", runs, note);
    Ok(())
}

/// A node that reaches `peers` through the relay alone.
pub(super) fn end_table(authority: &Authority, own: &Node, relay: &Node, peers: &[Node]) -> ForwardingTable {
    let all: Vec<Node> = peers.iter().chain([relay]).copied().collect();
    let mut table = table(authority, own, &all);
    table.relays = vec![relay.id().to_vec()];
    table.path_instance = 1;
    for peer in &mut table.peers {
        if peer.node_id == relay.id().to_vec() {
            peer.link = TableLink::Dial.into();
            continue;
        }
        peer.link = TableLink::None.into();
        peer.link_endpoints.clear();
        peer.wireguard_endpoints.clear();
        peer.primary = Some(TablePath { relays: vec![0] });
    }
    table
}
