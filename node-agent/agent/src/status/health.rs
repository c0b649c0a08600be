//! Why a membership is degraded, and what a person should look at.
//!
//! Owns the choice of reason codes. Refuses to own facts: it reads them.

use std::collections::BTreeSet;
use std::time::Duration;

use rap_node::Node;
use rap_runtime::Fault;
use rap_state::CacheStatus;
use rap_trust::FreshnessState;
use rap_types::{Now, Reason};
use serde_json::{Value, json};

use super::contact::Contact;
use super::peers::links_down;

/// Why the node is degraded, as reason codes.
pub(super) fn degraded_reasons(
    node: &Node,
    contact: &Contact,
    cache: &CacheStatus,
    certificate_failure: Option<&Fault>,
    now: Now,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match node.freshness_state(now) {
        None => reasons.push(Reason::SnapshotAbsent),
        Some(FreshnessState::Degraded | FreshnessState::Expired) => reasons.push(Reason::SnapshotStale),
        Some(FreshnessState::Fresh) => {}
    }
    if node.acceptor().floors().frozen.is_some() {
        reasons.push(Reason::SnapshotFrozen);
    }
    if !node.dataplane_up() {
        let reason = contact.dataplane_error.as_ref().map(|(reason, _)| *reason);
        reasons.push(reason.unwrap_or(Reason::DataplaneUnavailable));
    }
    reasons.extend(node.is_alone(now).then_some(Reason::LinkNoneUp));
    reasons.extend(node.table().2);
    reasons.extend(host_reasons(node));
    if contact.write_since.is_some_and(|since| now.mono.since(since) > LATE) {
        reasons.push(Reason::StateTimeout);
    }
    reasons.extend(contact.disk.or(cache.failed.as_ref().map(|failure| failure.reason)));
    reasons.extend(refused(contact, certificate_failure, now));
    let wall = node.acceptor().clock().wall(now);
    if contact.certificate.is_some_and(|(_, until)| until <= wall) {
        reasons.push(Reason::CertificateInvalid);
    }
    reasons
}

/// What the control plane refuses this node for, each once: what still works ends with the snapshot.
fn refused(contact: &Contact, certificate_failure: Option<&Fault>, now: Now) -> BTreeSet<Reason> {
    let stream = contact.refusal(now.mono).map(|(_, fault, _)| fault.reason);
    let certificate = certificate_failure.map(|fault| fault.reason);
    let out = |reason: &Reason| matches!(reason, Reason::NodeRevoked | Reason::NodeUnknown);
    stream.into_iter().chain(certificate.filter(out)).collect()
}

/// What an operator of this host does about a refusal that waiting does not change.
const fn way_back(reason: Reason) -> &'static str {
    match reason {
        Reason::NodeRevoked | Reason::NodeUnknown => {
            "; join again with the same key: rap-node-agent join --rejoin --token-file FILE"
        }
        Reason::AuthorityMismatch => {
            "; the control plane may stand on an older backup: restore a newer one, or join again with the same key: \
             rap-node-agent join --rejoin --token-file FILE"
        }
        _ => "",
    }
}

/// Codes of what on the host keeps this node from doing all that it should, each once.
fn host_reasons(node: &Node) -> BTreeSet<Reason> {
    let findings = node.stats().host.iter().filter(|finding| finding.degrades);
    findings.filter_map(|finding| Reason::from_code(&finding.reason)).collect()
}

pub(super) fn warnings(
    node: &Node,
    contact: &Contact,
    cache: &CacheStatus,
    certificate_failure: Option<&Fault>,
    now: Now,
) -> Vec<Value> {
    let warning = |reason: Reason, text: String| json!({ "reason": reason, "text": text });
    let mut warnings = Vec::new();
    if !contact.stream {
        let (reason, text) = contact.error.as_ref().map_or_else(
            || (Reason::ServerUnreachable, "no contact with the control plane yet".to_owned()),
            |(url, reason, text)| (*reason, format!("no contact with the control plane at {url}: {text}")),
        );
        warnings.push(warning(reason, text));
    }
    if let Some((url, fault, at)) = contact.refusal(now.mono) {
        let (ago, back) = (now.mono.since(*at).as_secs(), way_back(fault.reason));
        let text = format!("the control plane at {url} refused this node {ago} s ago: {fault}{back}");
        warnings.push(warning(fault.reason, text));
    }
    if let Some(fault) = certificate_failure {
        warnings.push(warning(fault.reason, format!("certificate: {fault}")));
    }
    if let Some(reason) = node.identity_doubt() {
        warnings.push(warning(
            reason,
            format!("the control plane doubts this node's identity: {}", reason.row().text),
        ));
    }
    if node.audit().contradicted() {
        let text = "two histories of the control plane's audit log are signed; evidence-audit.json has both";
        warnings.push(warning(Reason::AuditInconsistent, text.to_owned()));
    }
    let mut unused = node.unused_slots();
    if let Some(first) = unused.next() {
        let more = match unused.count() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let text =
            format!("{} of the snapshot makes no sense and is not used: {}{more}", first.slot, first.what);
        warnings.push(warning(Reason::SnapshotPeerInvalid, text));
    }
    for (reason, text) in &contact.found {
        warnings.push(warning(*reason, text.clone()));
    }
    if let Some(behind) = node.acceptor().clock().behind(now) {
        let text =
            format!("the wall clock is {} s behind what this node knows to have passed", behind.as_secs());
        warnings.push(warning(Reason::ClockRegressed, text));
    }
    if let Some(ms) = node.clock_skew_ms().filter(|ms| ms.unsigned_abs() >= SKEW_MS) {
        let (seconds, side) = (ms.unsigned_abs() / 1000, if ms > 0 { "behind" } else { "ahead of" });
        let text = format!(
            "this host's clock is {seconds} s {side} the control plane's: compare both with a time server and set the \
             wrong one (timedatectl); from 60 s on heads are refused"
        );
        warnings.push(warning(Reason::ClockSkew, text));
    }
    if let Some(text) = &contact.overlap {
        warnings.push(warning(Reason::OverlayOverlap, text.clone()));
    }
    if let Some((reason, at)) = node.acceptor().rejects().last() {
        let text = format!("the last refused message was at {} ms", at.0);
        warnings.push(warning(reason, text));
    }
    if let Some(failure) = &cache.failed {
        warnings.push(warning(failure.reason, format!("cache: {}", failure.text)));
    }
    if cache.quarantined > 0 {
        let text = "the cache was damaged; it was moved aside and fetched again".to_owned();
        warnings.push(warning(Reason::StateCorrupt, text));
    }
    if let Some(text) = links_down(node, now) {
        let reason = if node.is_alone(now) { Reason::LinkNoneUp } else { Reason::LinkClosed };
        warnings.push(warning(reason, text));
    }
    for finding in &node.stats().host {
        warnings.push(json!({ "reason": finding.reason, "text": finding.text }));
    }
    if let Some((reason, text)) = &contact.dataplane_error {
        warnings.push(warning(*reason, format!("data plane: {text}")));
    }
    warnings
}

/// A write that takes longer is shown.
const LATE: Duration = Duration::from_secs(5);
/// Half of what is tolerated.
const SKEW_MS: u64 = 30_000;
