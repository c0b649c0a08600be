//! The status document `rap.status.v1`: everything anyone must be able to observe about a node.
//!
//! Owns its fields; they are a contract. Refuses to own facts: it reads them from the node.

use std::collections::BTreeMap;

use rap_node::Node;
use rap_runtime::Fault;
use rap_state::CacheStatus;
use rap_trust::{FreshnessState, GrantView, Until};
use rap_types::{Activity, Mono, NodeId, Now, Reason, Wall};
use rap_wire::v1;
use serde_json::{Map, Value, json};

use crate::dataplane::DataplaneFacts;
use crate::driver::StatusAnswer;
use crate::membership::Membership;

/// Facts that do not change while a membership runs.
#[derive(Debug, Clone)]
pub struct StatusFacts {
    /// Constant part of the document.
    fields: Map<String, Value>,
    control_urls: Vec<String>,
    workload_supervision: bool,
}

impl StatusFacts {
    /// Reads the facts of a membership.
    pub fn of(
        membership: &Membership,
        boot_id: &str,
        workload_supervision: bool,
        listed: &Map<String, Value>,
    ) -> Self {
        let contract = &membership.bootstrap.contract;
        let fields = json!({
            "membership": membership.dir.name(),
            "installation": membership.identity.installation_id,
            "cluster": membership.identity.cluster_id,
            "cluster_name": contract.cluster_name,
            "node_id": membership.node,
            "node_name": contract.node_name,
            "node_fingerprint": membership.signer.id(),
            "identity_status": membership.identity.identity_status,
            "roles": contract.roles,
            "dev": membership.identity.dev,
            "agent_version": env!("CARGO_PKG_VERSION"),
            "agent_pid": std::process::id(),
            "boot_id": boot_id,
        });
        let Value::Object(mut fields) = fields else { unreachable!("an object") };
        for key in ["place", "interface", "listen_link", "listen_wireguard", "pools"] {
            fields.insert(key.to_owned(), listed.get(key).cloned().unwrap_or_default());
        }
        Self { fields, control_urls: membership.identity.control_urls.clone(), workload_supervision }
    }
}

/// Whom the node believes now; authority records move it while the agent runs.
fn pins(node: &Node) -> [(&'static str, Value); 6] {
    let pinned = node.acceptor().pinned();
    let (chain, installation) = (&pinned.chain, pinned.installation_authority.id());
    let active = chain.active();
    [
        ("authority_fingerprint", json!(active.id())),
        ("authority_words", json!(active.id().words())),
        ("cluster_authority_public_key", json!(active.to_string())),
        ("authority_sequence", json!(chain.sequence())),
        (
            "pinned_keys",
            json!([
                { "purpose": "installation-authority", "key_id": installation },
                { "purpose": "cluster-authority", "key_id": active.id(), "record": chain.sequence(),
                  "incarnation": chain.incarnation() },
            ]),
        ),
        ("pinned_key_ids", json!([installation, active.id()])),
    ]
}

/// Contact with the control plane and the data plane.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    url: Option<String>,
    heard_at: Option<Mono>,
    stream: bool,
    error: Option<(String, Reason, String)>,
    dataplane: Option<DataplaneFacts>,
    dataplane_error: Option<(Reason, String)>,
    /// Validity of the leaf.
    pub certificate: Option<(Wall, Wall)>,
    /// Why the last snapshot could not be stored or used, while that is so.
    pub disk: Option<Reason>,
    /// Whose addresses the last snapshot wanted, while that is so.
    pub overlap: Option<String>,
    alarms: BTreeMap<Reason, u64>,
}

impl Contact {
    /// A stream was opened at this URL; it counts once something was heard.
    pub fn dialled(&mut self, url: String, _now: Now) {
        self.url = Some(url);
    }

    /// Something happened that a person must look at.
    pub fn alarmed(&mut self, reason: Reason) {
        *self.alarms.entry(reason).or_default() += 1;
    }

    /// The control plane said something.
    pub fn heard(&mut self, now: Now) {
        (self.stream, self.heard_at, self.error) = (true, Some(now.mono), None);
    }

    /// The stream ended or could not be opened. True if that is news.
    pub fn lost(&mut self, url: String, fault: &Fault) -> bool {
        let news = self.stream || self.error.as_ref().is_none_or(|(_, reason, _)| *reason != fault.reason);
        self.stream = false;
        self.error = Some((url, fault.reason, fault.message.clone()));
        news
    }

    /// A data plane is there.
    pub fn dataplane_up(&mut self, facts: DataplaneFacts) {
        (self.dataplane, self.dataplane_error) = (Some(facts), None);
    }

    /// It is gone. True if that is news.
    pub fn dataplane_down(&mut self, fault: &Fault) -> bool {
        let before = self.dataplane_error.as_ref().map(|(reason, _)| *reason);
        // None to adopt at start is the usual case: one is spawned next.
        let expected = before.is_none() && fault.reason == Reason::DataplaneUnavailable;
        let news = self.dataplane.take().is_some() || (before != Some(fault.reason) && !expected);
        self.dataplane_error = Some((fault.reason, fault.message.clone()));
        news
    }
}

/// Builds the document.
pub fn status_document(
    facts: &StatusFacts,
    node: &Node,
    contact: &Contact,
    cache: &CacheStatus,
    certificate_failure: Option<&Fault>,
    now: Now,
) -> StatusAnswer {
    let mut degraded_reasons = degraded_reasons(node, contact, cache, now);
    // The control plane says that this node is no member: what still works ends with the snapshot.
    let out = certificate_failure.map(|fault| fault.reason);
    degraded_reasons.extend(out.filter(|reason| matches!(reason, Reason::NodeRevoked | Reason::NodeUnknown)));
    let degraded = !degraded_reasons.is_empty();
    let mut document = Map::new();
    document.insert("schema".into(), "rap.status.v1".into());
    document.insert("state".into(), if degraded { "degraded" } else { "healthy" }.into());
    document.insert("degraded".into(), degraded.into());
    document.insert("degraded_reasons".into(), json!(degraded_reasons));
    document.extend(facts.fields.clone());
    document.extend(pins(node).map(|(key, value)| (key.to_owned(), value)));
    let parts = [
        ("contact", json!(node.contact(now))),
        ("contact_since_ms", json!(node.contact_since().at)),
        ("active", active(node)),
        ("freshness", freshness(node, now)),
        ("last_reject", last_reject(node)),
        (
            "rejects",
            node.acceptor().rejects().counts().map(|(r, n)| (r.code().to_owned(), json!(n))).collect(),
        ),
        ("alarms", contact.alarms.iter().map(|(reason, n)| (reason.code().to_owned(), json!(n))).collect()),
        ("control", control(facts, contact, now)),
        ("certificate", certificate(contact, certificate_failure, node, now)),
        ("dataplane", dataplane(node, contact)),
        ("audit", audit(node)),
        ("peers", peers(node)),
        ("links", links(node)),
        ("routes", routes(node)),
        ("break_glass", break_glass(node, now)),
        ("leases", json!([])),
        ("workloads", json!({ "supervision_enabled": facts.workload_supervision, "assigned": [] })),
        ("update", json!({ "slot": null, "state": "idle", "version": env!("CARGO_PKG_VERSION") })),
        ("update_slot", Value::Null),
        (
            "cache",
            json!({ "bytes": cache.bytes, "quarantined": cache.quarantined, "dropped": cache.dropped }),
        ),
        ("warnings", json!(warnings(node, contact, cache, certificate_failure))),
    ];
    document.extend(parts.map(|(key, value)| (key.to_owned(), value)));
    StatusAnswer { document: Value::Object(document), degraded }
}

/// What this node witnesses of the control plane's audit log.
fn audit(node: &Node) -> Value {
    let witness = node.audit();
    let held = witness.checkpoint();
    json!({
        "state": match (witness.contradicted(), held) {
            (true, _) => "inconsistent",
            (false, Some(_)) => "consistent",
            (false, None) => "none",
        },
        "generation": held.map(|held| held.generation),
        "size": held.map(|held| held.size),
        "root": held.map(|held| held.root),
        "last_refused": witness.refused().map(|reject| reject.reason),
    })
}

/// Why the node is degraded, as reason codes.
fn degraded_reasons(node: &Node, contact: &Contact, cache: &CacheStatus, now: Now) -> Vec<Reason> {
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
    reasons.extend(node.table().2);
    reasons.extend(contact.disk.or(cache.failed.as_ref().map(|failure| failure.reason)));
    let wall = node.acceptor().clock().wall(now);
    if contact.certificate.is_some_and(|(_, until)| until <= wall) {
        reasons.push(Reason::CertificateInvalid);
    }
    reasons
}

fn warnings(
    node: &Node,
    contact: &Contact,
    cache: &CacheStatus,
    certificate_failure: Option<&Fault>,
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
    if let Some(fault) = certificate_failure {
        warnings.push(warning(fault.reason, format!("certificate: {fault}")));
    }
    if node.audit().contradicted() {
        let text = "two histories of the control plane's audit log are signed; evidence-audit.json has both";
        warnings.push(warning(Reason::AuditInconsistent, text.to_owned()));
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
    if let Some((reason, text)) = &contact.dataplane_error {
        warnings.push(warning(*reason, format!("data plane: {text}")));
    }
    warnings
}

fn active(node: &Node) -> Value {
    let Some(snapshot) = node.snapshot() else { return Value::Null };
    let order = snapshot.head().order;
    let signer = node.acceptor().pinned().chain.key_at(order.incarnation.0);
    json!({
        "authority_public_key": signer.map(|key| key.to_string()),
        "incarnation": order.incarnation,
        "sequence": order.version,
        "refresh": order.refresh,
        "manifest_digest": snapshot.manifest().root(),
        "head_digest": snapshot.head_document().digest(),
        "leaf": snapshot.leaf_hash(),
        "slots": snapshot.manifest().len(),
    })
}

fn freshness(node: &Node, now: Now) -> Value {
    let (Some(freshness), Some(state)) = (node.freshness(now), node.freshness_state(now)) else {
        return Value::Null;
    };
    let (wall, contract) = (node.acceptor().clock().wall(now), node.contract());
    let activities: Vec<Value> = Activity::ALL
        .iter()
        .map(|activity| {
            let until = match contract.until(&freshness, *activity) {
                Until::At(until) => Some(until),
                Until::Always => None,
            };
            json!({
                "activity": activity.as_str(),
                "row": activity.row().as_str(),
                "text": activity.phrase(),
                "allowed": contract.allows(Some(state), *activity),
                "until_ms": until,
                "for_ms": until.map(|until| until.0 - wall.0),
            })
        })
        .collect();
    let (allowed, refused): (Vec<&Activity>, Vec<_>) =
        Activity::ALL.iter().partition(|activity| contract.allows(Some(state), **activity));
    let words = |activities: Vec<&Activity>| -> Vec<&str> {
        activities.into_iter().map(|activity| activity.as_str()).collect()
    };
    json!({
        "state": state.as_str(),
        "issued_at_ms": freshness.issued_at,
        "fresh_until_ms": freshness.fresh_until,
        "degraded_until_ms": freshness.degraded_until,
        "fresh_for_ms": freshness.fresh_until.0 - wall.0,
        "degraded_for_ms": freshness.degraded_until.0 - wall.0,
        "trusted_now_ms": wall,
        "allowed": words(allowed),
        "refused": words(refused),
        "activities": activities,
    })
}

fn break_glass(node: &Node, now: Now) -> Value {
    let wall = node.acceptor().clock().wall(now);
    node.grants().map(|view| grant_document(&view, wall)).collect()
}

/// One break-glass grant with its clock.
pub fn grant_document(view: &GrantView<'_>, wall: Wall) -> Value {
    let stored = view.stored;
    let mut document = json!({
        "digest": stored.digest,
        "applied_at_ms": stored.applied_at,
        "acknowledged": stored.acknowledged,
        "state": "void",
    });
    if let Some(grant) = view.grant {
        let ends = grant.expires_at();
        document["state"] = if ends > wall { "active" } else { "ended" }.into();
        document["permit"] = grant.permit().into();
        document["signer"] = grant.by().as_str().into();
        document["reason"] = grant.reason().into();
        document["expires_at_ms"] = json!(ends);
        document["ends_in_ms"] = json!(ends.0 - wall.0);
        document["extends_degraded_until_ms"] = json!(grant.extends_degraded());
        document["peer"] = json!(grant.peer().map(|peer| &peer.name));
    }
    document
}

fn last_reject(node: &Node) -> Value {
    match node.acceptor().rejects().last() {
        Some((reason, at)) => json!({ "reason": reason, "at_ms": at }),
        None => Value::Null,
    }
}

fn control(facts: &StatusFacts, contact: &Contact, now: Now) -> Value {
    json!({
        "connected": contact.stream,
        "url": contact.url,
        "urls": facts.control_urls,
        "last_contact_ms_ago": contact.heard_at.map(|at| now.mono.since(at).as_millis() as u64),
        "last_error": contact.error.as_ref().map(|(url, reason, text)| {
            json!({ "url": url, "reason": reason, "text": text })
        }),
    })
}

fn certificate(contact: &Contact, failure: Option<&Fault>, node: &Node, now: Now) -> Value {
    let wall = node.acceptor().clock().wall(now);
    let failure = failure.map(|fault| json!({ "reason": fault.reason, "text": fault.message }));
    match contact.certificate {
        None => json!({ "state": "absent", "last_error": failure }),
        Some((from, until)) => json!({
            "state": if wall < until { "valid" } else { "expired" },
            "not_before_ms": from,
            "not_after_ms": until,
            "renew_at_ms": rap_trust::certificate::renew_at(from, until),
            "last_error": failure,
        }),
    }
}

fn dataplane(node: &Node, contact: &Contact) -> Value {
    let (published, applied, refused) = node.table();
    let stats = node.stats();
    let hello = contact.dataplane.as_ref().map(|facts| &facts.hello);
    json!({
        "up": node.dataplane_up(),
        "pid": hello.map(|hello| hello.pid),
        "version": hello.map(|hello| &hello.version),
        "instance": hello.map(|hello| hex::encode(&hello.instance_id)),
        "adopted": contact.dataplane.as_ref().map(|facts| facts.adopted),
        "tun": hello.map(|hello| hello.tun),
        "interface": hello.map(|hello| &hello.interface),
        "table_version": published,
        "table_applied": applied,
        "table_refused": refused,
        "rss_bytes": stats.rss_bytes,
        "drops": stats.drops.iter().map(|drop| (drop.reason.clone(), json!(drop.count))).collect::<Map<_, _>>(),
        "last_error": contact.dataplane_error.as_ref().map(|(reason, text)| {
            json!({ "reason": reason, "text": text })
        }),
    })
}

/// Active: the link is established. Warm: known and not connected now. Cold: bootstrap peers, of which
/// there are none yet.
fn peers(node: &Node) -> Value {
    let (mut connected, mut warm) = (Vec::new(), Vec::new());
    for (id, record) in node.snapshot().iter().flat_map(|snapshot| &snapshot.contents().peers) {
        let stats = peer_stats(node, *id);
        let entry = json!({
            "node_id": id,
            "name": record.name,
            "roles": record.roles,
            "region": record.region,
            "overlay_ipv4": record.overlay_ipv4,
            "overlay_ipv6": record.overlay_ipv6,
            "link_endpoints": record.link_endpoints,
            "wireguard_endpoints": record.wireguard_endpoints,
            "wireguard_endpoint": stats.map(|stats| &stats.wireguard_endpoint),
            "handshake_age_ms": stats.map(|stats| stats.handshake_age_ms),
            "rx_bytes": stats.map(|stats| stats.rx_bytes),
            "tx_bytes": stats.map(|stats| stats.tx_bytes),
        });
        let established = stats.is_some_and(|stats| stats.link_state == "established");
        if established { connected.push(entry) } else { warm.push(entry) }
    }
    json!({ "active": connected, "warm": warm, "cold": [] })
}

fn links(node: &Node) -> Value {
    let links = node.stats().peers.iter().filter_map(|stats| {
        let id = NodeId::from_slice(&stats.node_id).ok()?;
        let record = node.snapshot()?.contents().peers.get(&id)?;
        Some(json!({
            "peer": id,
            "name": record.name,
            "class": "direct",
            "hops": 1,
            "generation": record.key_generation,
            "state": stats.link_state,
            "reason": stats.link_reason,
            "rtt_us": stats.link_rtt_ns / 1000,
        }))
    });
    links.collect()
}

/// Every peer is reached directly: routes through relays do not exist yet.
fn routes(node: &Node) -> Value {
    let generation = node.snapshot().map(|snapshot| snapshot.parts().leaf.node_generation);
    let peers = node.snapshot().into_iter().flat_map(|snapshot| &snapshot.contents().peers);
    let routes = peers.map(|(id, record)| {
        json!({
            "destination": id,
            "name": record.name,
            "prefixes": [format!("{}/32", record.overlay_ipv4), format!("{}/128", record.overlay_ipv6)],
            "class": "direct",
            "via": [],
            "hops": 1,
            "generation": generation,
        })
    });
    routes.collect()
}

fn peer_stats(node: &Node, id: NodeId) -> Option<&v1::PeerStats> {
    node.stats().peers.iter().find(|stats| stats.node_id == id.as_bytes())
}

/// The document of a membership that does not run.
pub fn stopped_document(name: &str, fault: &Fault) -> Value {
    json!({
        "schema": "rap.status.v1",
        "membership": name,
        "state": "stopped",
        "degraded": true,
        "degraded_reasons": [fault.reason],
        "text": fault.message,
    })
}
