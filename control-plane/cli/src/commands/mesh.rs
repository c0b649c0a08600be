//! `mesh`: who cannot reach whom, from what the nodes report of their links.

use std::collections::BTreeMap;

use rap_types::ExitCode;
use rap_wire::v1;
use serde_json::{Value, json};

use super::node_view::{id, peer_of};
use crate::args::{Global, Mesh};
use crate::client::{Connection, ask};
use crate::output::{Answer, complain};

/// Prints the links that are down, or all. Exit 8 if one between two connected nodes is down.
pub(crate) async fn run(global: &Global, command: Mesh) -> anyhow::Result<ExitCode> {
    let mut connection = Connection::of_context(global).await?;
    let cluster = connection.cluster(None).await?;
    let listed =
        ask!(connection.admin.node_list(v1::NodeListRequest { cluster: cluster.clone(), pending: false }));
    let mut nodes = Vec::new();
    for node in listed.nodes.iter().filter(|node| node.connected && !node.elsewhere) {
        let request = v1::NodeRef { cluster: cluster.clone(), node: id(node) };
        nodes.push(ask!(connection.admin.node_show(request)));
    }
    let mesh = LinksSeen::of(&nodes);
    let shown = mesh.links.iter().filter(|link| command.all || !link.up()).collect::<Vec<_>>();
    let body = json!({
        "connected": nodes.len(), "links": mesh.links.len(), "up": mesh.up(),
        "shown": shown.iter().map(|link| link.document()).collect::<Vec<_>>(),
    });
    let rows = shown.iter().map(|link| link.row());
    Answer::new("rap.mesh.v1", body)
        .table(["FROM", "TO", "STATE", "REASON", "RTT MS", "LOSS %"], 0, rows)
        .print(global)?;
    if !global.quiet && !global.format().is_document() {
        let (up, all) = (mesh.up(), mesh.links.len());
        let gone = |node: &&v1::Node| ["revoked", "left"].contains(&node.identity_status.as_str());
        let offline = listed.nodes.len() - nodes.len() - listed.nodes.iter().filter(gone).count();
        complain(&format!("{up} of {all} links that {} connected nodes report are up", nodes.len()));
        if offline > 0 {
            complain(&format!(
                "not connected to this replica, so nothing is known of their links: {offline} nodes"
            ));
        }
    }
    let broken = mesh.links.iter().any(|link| !link.up() && link.to_connected);
    Ok(if broken { ExitCode::Degraded } else { ExitCode::Ok })
}

/// What connected nodes report of lane A of their links.
struct LinksSeen {
    links: Vec<LinkSeen>,
}

struct LinkSeen {
    from: String,
    to: String,
    /// The peer's stream is at the same replica.
    to_connected: bool,
    report: v1::LinkReport,
}

impl LinksSeen {
    fn of(nodes: &[v1::Node]) -> Self {
        let names: BTreeMap<String, &str> = nodes.iter().map(|node| (id(node), node.name.as_str())).collect();
        let seen = |from: &v1::Node, report: &v1::LinkReport| {
            let peer = peer_of(report);
            let name = names.get(&peer);
            LinkSeen {
                from: from.name.clone(),
                to: name.map_or(peer.clone(), |name| (*name).to_owned()),
                to_connected: name.is_some(),
                report: report.clone(),
            }
        };
        let first_lane =
            |report: &&v1::LinkReport| !matches!(report.lane(), v1::LinkLane::B | v1::LinkLane::C);
        let links = nodes
            .iter()
            .flat_map(|node| node.links.iter().filter(first_lane).map(move |one| seen(node, one)));
        Self { links: links.collect() }
    }

    fn up(&self) -> usize {
        self.links.iter().filter(|link| link.up()).count()
    }
}

impl LinkSeen {
    fn up(&self) -> bool {
        self.report.state == "established"
    }

    fn row(&self) -> [String; 6] {
        let measured = self.report.samples > 0;
        let number = |known: bool, value: f64| if known { format!("{value:.3}") } else { "-".to_owned() };
        [
            self.from.clone(),
            self.to.clone(),
            self.report.state.clone(),
            self.report.reason.clone(),
            number(self.report.rtt_us > 0, f64::from(self.report.rtt_us) / 1e3),
            number(measured, f64::from(self.report.loss_ppm) / 1e4),
        ]
    }

    fn document(&self) -> Value {
        json!({
            "from": self.from, "to": self.to, "state": self.report.state, "reason": self.report.reason,
            "rtt_us": self.report.rtt_us, "loss_ppm": self.report.loss_ppm, "samples": self.report.samples,
            "to_connected": self.to_connected,
        })
    }
}

#[cfg(test)]
mod tests {
    use rap_types::NodeId;

    use super::*;

    #[test]
    fn links_are_named_and_only_the_first_lane_counts() {
        let node = |bytes: u8, name: &str, links: Vec<v1::LinkReport>| v1::Node {
            node_id: vec![bytes; 16],
            name: name.to_owned(),
            links,
            ..Default::default()
        };
        let link = |peer: u8, state: &str, lane: v1::LinkLane| v1::LinkReport {
            peer: vec![peer; 16],
            state: state.to_owned(),
            lane: lane.into(),
            ..Default::default()
        };
        let mesh = LinksSeen::of(&[
            node(1, "a", vec![link(2, "established", v1::LinkLane::A), link(2, "closed", v1::LinkLane::C)]),
            node(
                2,
                "b",
                vec![link(1, "dialing", v1::LinkLane::Unspecified), link(9, "closed", v1::LinkLane::A)],
            ),
        ]);
        let seen: Vec<_> = mesh
            .links
            .iter()
            .map(|one| (one.from.as_str(), one.to.clone(), one.up(), one.to_connected))
            .collect();
        let stranger = NodeId::from_slice(&[9; 16]).map_or_else(|_| String::new(), |id| id.to_string());
        assert_eq!(
            seen,
            [
                ("a", "b".to_owned(), true, true),
                ("b", "a".to_owned(), false, true),
                ("b", stranger, false, false)
            ]
        );
        assert_eq!(mesh.up(), 1);
    }
}
