//! What the data plane tells of its links, of the heads that peers hold, and of its own end.
//!
//! Why this is sound: a row is told when it changed, once per stream, and a stream begins with all rows untold.
//! So whoever reads a stream from its start has every row, however many reports it took.
//!
//! Owns the bounds, and what a stream has not been told yet. Refuses to judge links and heads.

use std::collections::{BTreeMap, BTreeSet};

use rap_types::{HeadOrder, NodeId, Reason};
use rap_wire::v1;

/// Most rows of a kind in one report; the next report has the rest.
const ROWS_CAP: usize = 512;
/// Most bytes that are kept of a text about the data plane's end.
const TEXT_CAP: usize = 300;

const ESTABLISHED: &str = "established";
const SUSPECT: &str = "suspect";

/// One connection of a link: the peer and the lane, a number of `LinkLane`.
type LinkKey = (NodeId, i32);

/// What is known, and what the stream has not been told.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    links: BTreeMap<LinkKey, v1::LinkEvent>,
    /// Why the connection last failed, until it stands again.
    failed: BTreeMap<LinkKey, String>,
    heads: BTreeMap<NodeId, HeadOrder>,
    exit: Option<v1::DataplaneExit>,
    untold_links: BTreeSet<LinkKey>,
    untold_heads: BTreeSet<NodeId>,
    exit_is_untold: bool,
}

/// What a report has of it.
pub(crate) struct Told {
    pub(crate) links: Vec<v1::LinkReport>,
    pub(crate) heads: Vec<v1::PeerHeadReport>,
    pub(crate) exit: Option<v1::DataplaneExit>,
}

impl Observations {
    /// The latest probes of lane A with this peer; `None` before the first.
    pub fn measured(&self, peer: NodeId) -> Option<v1::LinkMeasurement> {
        self.links.get(&(peer, v1::LinkLane::A as i32))?.measured
    }

    /// Code of why the link with this peer is not established, on lane A; while it is dialled again, why it failed last.
    /// Empty if it is, or never failed.
    pub fn why(&self, peer: NodeId) -> &str {
        let link = self.links.get(&(peer, v1::LinkLane::A as i32));
        link.filter(|link| link.state != ESTABLISHED).map_or("", |link| &link.reason)
    }

    /// Order of the newest verified head that the peer's hello carried.
    pub fn head(&self, peer: NodeId) -> Option<HeadOrder> {
        self.heads.get(&peer).copied()
    }

    /// How the data plane last ended, if it did while this agent watched.
    pub const fn exit(&self) -> Option<&v1::DataplaneExit> {
        self.exit.as_ref()
    }

    /// A connection changed. True if it entered another state; a measurement alone is no news that hurries.
    /// The connections of strangers are dropped.
    pub(crate) fn link_changed(&mut self, event: v1::LinkEvent, is_peer: impl Fn(NodeId) -> bool) -> bool {
        let Ok(peer) = NodeId::from_slice(&event.node_id) else { return false };
        let lane = v1::LinkLane::try_from(event.lane).unwrap_or_default();
        let lane = if lane == v1::LinkLane::Unspecified { v1::LinkLane::A } else { lane };
        if !is_peer(peer) {
            return false;
        }
        let key = (peer, lane as i32);
        let event = self.explained(key, event);
        let before = self.links.insert(key, event);
        let (before, now) = (before.as_ref(), &self.links[&key]);
        if before == Some(now) {
            return false;
        }
        self.untold_links.insert(key);
        before.is_none_or(|before| before.state != now.state)
    }

    /// The same with the last failure, in a state that names none of its own.
    fn explained(&mut self, key: LinkKey, mut event: v1::LinkEvent) -> v1::LinkEvent {
        match event.state.as_str() {
            ESTABLISHED => drop(self.failed.remove(&key)),
            SUSPECT if event.reason.is_empty() => event.reason = Reason::LinkSilent.code().to_owned(),
            _ if event.reason.is_empty() => event.reason = self.failed.get(&key).cloned().unwrap_or_default(),
            _ => drop(self.failed.insert(key, event.reason.clone())),
        }
        event
    }

    /// A peer's hello carried this head, which verified.
    pub(crate) fn head_heard(&mut self, peer: NodeId, order: HeadOrder) {
        if self.heads.insert(peer, order) != Some(order) {
            self.untold_heads.insert(peer);
        }
    }

    /// The data plane's process ended. What a reader would print is cut and has no control characters.
    pub(crate) fn exited(&mut self, exit: v1::DataplaneExit) {
        let clean = |text: &str| -> String {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let end = (0..=TEXT_CAP.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text[..end.unwrap_or(0)].to_owned()
        };
        let v1::DataplaneExit { at_ms, status, reason, text } = exit;
        let (status, reason, text) = (clean(&status), clean(&reason), clean(&text));
        self.exit = Some(v1::DataplaneExit { at_ms, status, reason, text });
        self.exit_is_untold = true;
    }

    /// The connection to the data plane is gone. That it is, says what becomes of its links.
    pub(crate) fn plane_went_down(&mut self) {
        self.links.clear();
        self.failed.clear();
        self.untold_links.clear();
    }

    /// Forgets nodes that are no peers any more. The stream is told that their connections are gone.
    pub(crate) fn retain(&mut self, is_peer: impl Fn(NodeId) -> bool) {
        let gone = self.links.keys().filter(|(peer, _)| !is_peer(*peer)).copied();
        self.untold_links.extend(gone);
        self.links.retain(|(peer, _), _| is_peer(*peer));
        self.failed.retain(|(peer, _), _| is_peer(*peer));
        self.heads.retain(|peer, _| is_peer(*peer));
    }

    /// Another stream knows nothing.
    pub(crate) fn stream_opened(&mut self) {
        self.untold_links = self.links.keys().copied().collect();
        self.untold_heads = self.heads.keys().copied().collect();
    }

    /// True if a report would have something.
    pub(crate) fn is_untold(&self) -> bool {
        !self.untold_links.is_empty() || !self.untold_heads.is_empty() || self.exit_is_untold
    }

    /// Takes out what the next report tells.
    pub(crate) fn tell(&mut self) -> Told {
        let links = (0..ROWS_CAP).map_while(|_| self.untold_links.pop_first());
        let links = links.map(|key| reported(key, self.links.get(&key))).collect();
        let heads = (0..ROWS_CAP).map_while(|_| self.untold_heads.pop_first());
        let heads = heads.filter_map(|peer| {
            let order = self.heads.get(&peer)?;
            Some(v1::PeerHeadReport {
                peer: peer.to_vec(),
                incarnation: order.incarnation.0,
                version: order.version.0,
                refresh: order.refresh.0,
            })
        });
        let heads = heads.collect();
        let exit = self.exit.clone().filter(|_| std::mem::take(&mut self.exit_is_untold));
        Told { links, heads, exit }
    }
}

fn reported((peer, lane): LinkKey, event: Option<&v1::LinkEvent>) -> v1::LinkReport {
    let measured = event.and_then(|event| event.measured).unwrap_or_default();
    v1::LinkReport {
        peer: peer.to_vec(),
        state: event.map(|event| event.state.clone()).unwrap_or_default(),
        rtt_us: measured.rtt_median_us,
        reason: event.map(|event| event.reason.clone()).unwrap_or_default(),
        lane,
        loss_ppm: measured.loss_ppm,
        samples: measured.samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(peer: u8, state: &str, rtt_median_us: u32) -> v1::LinkEvent {
        v1::LinkEvent {
            node_id: vec![peer; 16],
            state: state.into(),
            reason: String::new(),
            lane: v1::LinkLane::A as i32,
            measured: Some(v1::LinkMeasurement { rtt_median_us, loss_ppm: 0, samples: 15 }),
        }
    }

    fn told(observations: &mut Observations) -> Vec<(u8, String, u32)> {
        let links = observations.tell().links;
        links.into_iter().map(|link| (link.peer[0], link.state, link.rtt_us)).collect()
    }

    #[test]
    fn a_row_is_told_when_it_changed_and_all_of_them_to_another_stream() {
        let mut observations = Observations::default();
        assert!(observations.link_changed(event(1, "established", 900), |_| true));
        assert!(!observations.link_changed(event(2, "established", 900), |_| false), "a stranger");
        assert_eq!(told(&mut observations), [(1, "established".into(), 900)]);
        assert!(!observations.link_changed(event(1, "established", 900), |_| true), "no change");
        assert!(!observations.is_untold());
        assert!(!observations.link_changed(event(1, "established", 500), |_| true), "only measured anew");
        assert!(observations.is_untold());
        observations.link_changed(event(1, "established", 700), |_| true);
        assert_eq!(told(&mut observations), [(1, "established".into(), 700)], "the latest, once");
        observations.stream_opened();
        assert_eq!(told(&mut observations), [(1, "established".into(), 700)]);
        observations.retain(|_| false);
        assert_eq!(told(&mut observations), [(1, String::new(), 0)], "gone");
        assert!(!observations.is_untold());
    }

    #[test]
    fn a_link_that_is_dialled_again_says_why_it_failed_until_it_stands() {
        let mut observations = Observations::default();
        let peer = NodeId::from_bytes([1; 16]);
        let mut why = |state: &str, reason: &str| {
            let event = v1::LinkEvent { reason: reason.into(), ..event(1, state, 1) };
            observations.link_changed(event, |_| true);
            observations.why(peer).to_owned()
        };
        assert_eq!(why("dialing", ""), "");
        assert_eq!(why("closed", "link.unreachable"), "link.unreachable");
        assert_eq!(why("dialing", ""), "link.unreachable");
        assert_eq!(why("established", ""), "");
        assert_eq!(why("suspect", ""), "link.silent");
        assert_eq!(why("dialing", ""), "", "the failure before is over");
        observations.stream_opened();
        let told = observations.tell().links;
        assert_eq!((told[0].state.as_str(), told[0].reason.as_str()), ("dialing", ""));
    }

    #[test]
    fn a_report_is_bounded_and_the_next_one_has_the_rest() {
        let mut observations = Observations::default();
        for peer in 0..=255 {
            for lane in 1..=3 {
                let event = v1::LinkEvent { lane, ..event(peer, "established", 1) };
                observations.link_changed(event, |_| true);
            }
        }
        assert_eq!(observations.tell().links.len(), ROWS_CAP);
        assert_eq!(observations.tell().links.len(), 768 - ROWS_CAP);
        observations.plane_went_down();
        observations.stream_opened();
        assert!(!observations.is_untold());
    }

    #[test]
    fn an_end_is_told_once_and_shown_until_the_next() {
        let mut observations = Observations::default();
        let text = format!("a\nb{}", "é".repeat(400));
        let exit = v1::DataplaneExit { at_ms: 5, status: "signal: 9".into(), reason: "x.y".into(), text };
        observations.exited(exit);
        let told = observations.tell().exit.unwrap();
        assert!(told.text.starts_with("a b") && told.text.len() <= TEXT_CAP && told.text.ends_with('é'));
        assert_eq!(observations.tell().exit, None);
        assert_eq!(observations.exit(), Some(&told));
    }
}
