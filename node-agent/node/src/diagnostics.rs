//! Diagnostics that the control plane may ask for: an allow-list, read-only, at most one per second.
//!
//! Owns which requests run and their deadline. Refuses to run them.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_types::{ChannelClass, Mono, NodeId, Reason};
use rap_wire::v1;
use v1::diagnostic_request::Body;

/// At most one diagnostic starts in this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// A diagnostic that has no result by then failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most probes in one ping.
const COUNT_CAP: u32 = 20;
/// Longest time the probes of one ping may be spread over.
const SPREAD_CAP_MS: u64 = 8_000;
/// Most relays that are assumed to be down.
const DOWN_CAP: usize = 64;
/// Longest document of a path.
const DOCUMENT_CAP: usize = 512 * 1024;
/// Longest id that is echoed.
const ID_LENGTH: usize = 16;

/// A ping to run through the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPing {
    /// Id of the diagnostic.
    pub diagnostic: [u8; ID_LENGTH],
    /// Peer to ping.
    pub node: NodeId,
    /// Probes per path.
    pub count: u32,
    /// Time between probes, milliseconds.
    pub interval_ms: u32,
}

/// A path to explain. Nothing is sent for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunExplain {
    /// Id of the diagnostic.
    pub diagnostic: [u8; ID_LENGTH],
    /// The node that the path leads to.
    pub node: NodeId,
    /// Class of the traffic.
    pub class: ChannelClass,
    /// Names or ids of relays that are assumed to be down.
    pub down: Vec<String>,
}

/// A diagnostic that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// A ping.
    Ping(RunPing),
    /// A path.
    Explain(RunExplain),
}

/// What runs and when the next may start.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    running: BTreeMap<[u8; ID_LENGTH], Mono>,
    next_at: Mono,
}

impl Diagnostics {
    /// Judges a request.
    ///
    /// # Errors
    /// The result that refuses it.
    pub fn admit(
        &mut self,
        request: v1::DiagnosticRequest,
        now: Mono,
        is_peer: impl Fn(NodeId) -> bool,
    ) -> Result<Admitted, Box<v1::DiagnosticResult>> {
        let id = request.diagnostic_id.clone();
        let refuse = |reason| Box::new(refusal(id.clone(), reason));
        let Ok(diagnostic) = <[u8; ID_LENGTH]>::try_from(id.as_slice()) else {
            return Err(Box::new(refusal(Vec::new(), Reason::RequestInvalid)));
        };
        let admitted = request.body.and_then(|body| read(diagnostic, body));
        let (node, admitted) = admitted.ok_or_else(|| refuse(Reason::RequestInvalid))?;
        if !is_peer(node) {
            return Err(refuse(Reason::NodeUnknown));
        }
        if now < self.next_at {
            return Err(refuse(Reason::RateLimited));
        }
        self.next_at = now.plus(INTERVAL);
        self.running.insert(diagnostic, now.plus(DEADLINE));
        Ok(admitted)
    }

    /// The result of a path that was explained; `None` if it is over already.
    pub(crate) fn explained(
        &mut self,
        diagnostic: [u8; ID_LENGTH],
        outcome: Result<String, Reason>,
    ) -> Option<v1::DiagnosticResult> {
        self.running.remove(&diagnostic)?;
        let path_explain = match outcome {
            Ok(document) if document.len() <= DOCUMENT_CAP => document,
            Ok(_) => return Some(refusal(diagnostic.to_vec(), Reason::RequestTooLarge)),
            Err(reason) => return Some(refusal(diagnostic.to_vec(), reason)),
        };
        Some(v1::DiagnosticResult { diagnostic_id: diagnostic.to_vec(), path_explain, ..Default::default() })
    }

    /// The result of a diagnostic that still runs; `None` if it is over already.
    pub fn finish(
        &mut self,
        diagnostic: [u8; ID_LENGTH],
        outcome: Result<v1::PingOutcome, Reason>,
    ) -> Option<v1::DiagnosticResult> {
        self.running.remove(&diagnostic)?;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(reason) => return Some(refusal(diagnostic.to_vec(), reason)),
        };
        let sample =
            |sample: v1::ProbeSample| v1::PingSample { sequence: sample.sequence, rtt_ns: sample.rtt_ns };
        Some(v1::DiagnosticResult {
            diagnostic_id: diagnostic.to_vec(),
            reason: String::new(),
            path_explain: String::new(),
            ping: Some(v1::PingResult {
                overlay: outcome.overlay.into_iter().map(sample).collect(),
                link: outcome.link.into_iter().map(sample).collect(),
                overlay_address: outcome.overlay_address,
                link_state: outcome.link_state,
                way: outcome.way,
                via: outcome.via,
            }),
        })
    }

    /// Results of those that ran out of time.
    pub fn expire(&mut self, now: Mono) -> Vec<v1::DiagnosticResult> {
        let over: Vec<_> =
            self.running.iter().filter(|(_, deadline)| **deadline <= now).map(|(id, _)| *id).collect();
        over.into_iter()
            .map(|id| {
                self.running.remove(&id);
                refusal(id.to_vec(), Reason::RequestTimeout)
            })
            .collect()
    }

    /// When [`Self::expire`] is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.running.values().min().copied()
    }
}

/// The result that says why a diagnostic did not run.
pub(crate) fn refusal(diagnostic_id: Vec<u8>, reason: Reason) -> v1::DiagnosticResult {
    v1::DiagnosticResult { diagnostic_id, reason: reason.code().to_owned(), ..Default::default() }
}

/// What is asked, and about whom; `None` if it is out of bounds.
fn read(diagnostic: [u8; ID_LENGTH], body: Body) -> Option<(NodeId, Admitted)> {
    match body {
        Body::Ping(v1::PingRequest { node_id, count, interval_ms }) => {
            let node = NodeId::from_slice(&node_id).ok()?;
            let spread = u64::from(count) * u64::from(interval_ms);
            let bounded = count > 0 && count <= COUNT_CAP && spread <= SPREAD_CAP_MS;
            bounded.then_some((node, Admitted::Ping(RunPing { diagnostic, node, count, interval_ms })))
        }
        Body::PathExplain(v1::PathExplainRequest { node_id, class, down }) => {
            let node = NodeId::from_slice(&node_id).ok()?;
            let class = if class.is_empty() { ChannelClass::Vpn } else { class.parse().ok()? };
            let explain = RunExplain { diagnostic, node, class, down };
            (explain.down.len() <= DOWN_CAP).then_some((node, Admitted::Explain(explain)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId::from_bytes([1; 16]);

    fn request(id: u8, node: NodeId, count: u32, interval_ms: u32) -> v1::DiagnosticRequest {
        let ping = v1::PingRequest { node_id: node.to_vec(), count, interval_ms };
        v1::DiagnosticRequest { diagnostic_id: vec![id; 16], body: Some(Body::Ping(ping)) }
    }

    fn reason(result: Result<Admitted, Box<v1::DiagnosticResult>>) -> String {
        result.map_or_else(|refusal| refusal.reason, |_| "runs".into())
    }

    #[test]
    fn only_pings_of_peers_within_bounds_run_and_one_per_second() {
        let mut diagnostics = Diagnostics::default();
        let mut ask = |request, now| reason(diagnostics.admit(request, Mono(now), |node| node == PEER));
        assert_eq!(ask(request(1, NodeId::from_bytes([9; 16]), 1, 1), 0), "node.unknown");
        assert_eq!(ask(request(1, PEER, 0, 1), 0), "request.invalid");
        assert_eq!(ask(request(1, PEER, 21, 1), 0), "request.invalid");
        assert_eq!(ask(request(1, PEER, 10, 1000), 0), "request.invalid");
        assert_eq!(
            ask(v1::DiagnosticRequest { diagnostic_id: vec![1; 16], body: None }, 0),
            "request.invalid"
        );
        assert_eq!(ask(request(1, PEER, 3, 200), 0), "runs");
        assert_eq!(ask(request(2, PEER, 3, 200), 999_999_999), "rate.limited");
        assert_eq!(ask(request(3, PEER, 3, 200), 1_000_000_000), "runs");
    }

    #[test]
    fn a_path_is_explained_for_a_class_and_its_document_is_bounded() {
        let ask = |class: &str, down: usize| {
            let down = vec!["r1".to_owned(); down];
            let body = v1::PathExplainRequest { node_id: PEER.to_vec(), class: class.into(), down };
            let request =
                v1::DiagnosticRequest { diagnostic_id: vec![1; 16], body: Some(Body::PathExplain(body)) };
            let mut diagnostics = Diagnostics::default();
            (diagnostics.admit(request, Mono(0), |node| node == PEER), diagnostics)
        };
        assert_eq!(reason(ask("bulk", 0).0), "request.invalid");
        assert_eq!(reason(ask("input", 65).0), "request.invalid");
        let (admitted, mut diagnostics) = ask("", 1);
        let Ok(Admitted::Explain(explain)) = admitted else { panic!("{admitted:?}") };
        assert_eq!((explain.class, explain.down), (ChannelClass::Vpn, vec!["r1".to_owned()]));
        let mut large = diagnostics.clone();
        let large = large.explained([1; 16], Ok("x".repeat(DOCUMENT_CAP + 1))).unwrap();
        assert_eq!(large.reason, "request.too_large");
        assert_eq!(diagnostics.explained([1; 16], Ok("{}".into())).unwrap().path_explain, "{}");
        assert_eq!(diagnostics.explained([1; 16], Ok("{}".into())), None, "once");
    }

    #[test]
    fn a_diagnostic_has_exactly_one_result() {
        let mut diagnostics = Diagnostics::default();
        diagnostics.admit(request(1, PEER, 1, 1), Mono(0), |_| true).unwrap();
        diagnostics.admit(request(2, PEER, 1, 1), Mono(2_000_000_000), |_| true).unwrap();
        assert_eq!(diagnostics.next_deadline(), Some(Mono(10_000_000_000)));
        let expired = diagnostics.expire(Mono(10_000_000_000));
        assert_eq!(expired.len(), 1);
        assert_eq!(expired[0].reason, "request.timeout");
        assert_eq!(diagnostics.finish([1; 16], Ok(v1::PingOutcome::default())), None);
        let result = diagnostics.finish([2; 16], Ok(v1::PingOutcome::default())).unwrap();
        assert!(result.ping.is_some() && result.reason.is_empty());
    }
}
