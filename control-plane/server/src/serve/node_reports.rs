//! What the node of one stream reported of its links, of its peers' heads and of its data plane's end.
//!
//! In memory, and with the stream: a stream tells everything once and then what changes. Owns the bounds and
//! that a node's words are plain. Refuses to judge them, and to keep them: another replica does not know them.

use std::collections::BTreeMap;

use rap_runtime::output::bounded;
use rap_types::{NodeId, Reason};
use rap_wire::v1;

/// Most connections that are kept of one node. A node has 64 active peers with up to 3 each, or a small full mesh.
const LINKS_CAP: usize = 1024;
/// Most slots that are kept of what a node does not use.
const UNUSED_CAP: usize = 64;
/// Most characters of a word: a state or a code.
const WORD_CAP: usize = 64;
/// Most characters of a text about a data plane's end.
const TEXT_CAP: usize = 300;

/// What one node reported on its present stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeReports {
    links: BTreeMap<(NodeId, i32), v1::LinkReport>,
    heads: BTreeMap<NodeId, v1::PeerHeadReport>,
    exit: Option<v1::DataplaneExit>,
    unused: Vec<v1::UnusedSlot>,
}

impl NodeReports {
    /// Takes a report in. Returns the end of a data plane, if it tells of one.
    pub fn take_in(&mut self, report: &v1::NodeReport) -> Option<&v1::DataplaneExit> {
        if report.dataplane_up == 0 {
            self.links.clear();
        }
        for link in &report.links {
            let Ok(peer) = NodeId::from_slice(&link.peer) else { continue };
            let key = (peer, link.lane);
            if link.state.is_empty() {
                self.links.remove(&key);
            } else if self.links.len() < LINKS_CAP || self.links.contains_key(&key) {
                let (state, reason) = (bounded(&link.state, WORD_CAP), bounded(&link.reason, WORD_CAP));
                self.links.insert(key, v1::LinkReport { state, reason, ..link.clone() });
            }
        }
        for head in &report.peer_heads {
            let Ok(peer) = NodeId::from_slice(&head.peer) else { continue };
            if self.heads.len() < LINKS_CAP || self.heads.contains_key(&peer) {
                self.heads.insert(peer, head.clone());
            }
        }
        let unused = report.unused_slots.iter().take(UNUSED_CAP).map(|unused| v1::UnusedSlot {
            slot: bounded(&unused.slot, WORD_CAP),
            reason: bounded(&unused.reason, WORD_CAP),
            what: bounded(&unused.what, TEXT_CAP),
        });
        self.unused = unused.collect();
        let told = report.dataplane_exit.as_ref()?;
        let reason = Reason::from_code(&told.reason).map(|reason| reason.code().to_owned());
        self.exit = Some(v1::DataplaneExit {
            at_ms: told.at_ms,
            status: bounded(&told.status, WORD_CAP),
            reason: reason.unwrap_or_default(),
            text: bounded(&told.text, TEXT_CAP),
        });
        self.exit.as_ref()
    }

    /// Adds it to what operators see of the node.
    pub fn fill(self, node: &mut v1::Node) {
        node.links = self.links.into_values().collect();
        node.peer_heads = self.heads.into_values().collect();
        node.dataplane_exit = self.exit;
        node.unused_slots = self.unused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(peer: u16, state: &str) -> v1::LinkReport {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&peer.to_be_bytes());
        v1::LinkReport { peer: id.to_vec(), state: state.into(), rtt_us: 7, lane: 1, ..Default::default() }
    }

    fn report(links: Vec<v1::LinkReport>) -> v1::NodeReport {
        v1::NodeReport { links, dataplane_up: 1, ..Default::default() }
    }

    fn shown(reports: &NodeReports) -> v1::Node {
        let mut node = v1::Node::default();
        reports.clone().fill(&mut node);
        node
    }

    #[test]
    fn rows_follow_the_reports_and_a_data_plane_that_is_down_has_no_links() {
        let mut reports = NodeReports::default();
        reports.take_in(&report(vec![link(1, "established"), link(2, "established")]));
        reports.take_in(&report(vec![link(2, "closed")]));
        let states: Vec<String> = shown(&reports).links.into_iter().map(|link| link.state).collect();
        assert_eq!(states, ["established", "closed"]);
        reports.take_in(&report(vec![link(1, "")]));
        assert_eq!(shown(&reports).links.len(), 1, "an empty state: it is gone");
        reports.take_in(&v1::NodeReport::default());
        assert_eq!(shown(&reports).links, []);
    }

    #[test]
    fn what_a_node_says_is_bounded_and_plain() {
        let mut reports = NodeReports::default();
        reports.take_in(&report((0..2000).map(|peer| link(peer, "x\u{1b}y")).collect()));
        let node = shown(&reports);
        assert_eq!((node.links.len(), node.links[0].state.as_str()), (LINKS_CAP, "x\u{fffd}y"));
        reports.take_in(&report(vec![link(5, &"é".repeat(100)), link(1999, "established")]));
        let node = shown(&reports);
        assert_eq!((node.links.len(), node.links[5].state.chars().count()), (LINKS_CAP, WORD_CAP));
        let slot = v1::UnusedSlot { slot: "x\u{1b}y".into(), reason: "r".into(), what: "z".repeat(400) };
        let unused_slots = vec![slot; 100];
        reports.take_in(&v1::NodeReport { unused_slots, ..report(Vec::new()) });
        let unused = shown(&reports).unused_slots;
        assert_eq!((unused.len(), unused[0].slot.as_str()), (UNUSED_CAP, "x\u{fffd}y"));
        assert_eq!(unused[0].what.chars().count(), TEXT_CAP);
        let exit = v1::DataplaneExit {
            at_ms: 3,
            status: "signal: 9".into(),
            reason: "no such code".into(),
            text: "z\n".repeat(400),
        };
        let told = reports.take_in(&v1::NodeReport { dataplane_exit: Some(exit), ..Default::default() });
        let told = told.cloned().unwrap();
        assert_eq!((told.reason.as_str(), told.text.chars().count()), ("", TEXT_CAP));
        assert_eq!(shown(&reports).dataplane_exit, Some(told));
    }
}
