//! The status document `rap.status.v1`: everything anyone must be able to observe about a node.
//!
//! Owns its fields; they are a contract. Refuses to own facts: it reads them from the node.

use rap_node::Node;
use rap_runtime::Fault;
use rap_state::CacheStatus;
use rap_types::Now;
use serde_json::{Map, Value, json};

use super::contact::Contact;
use super::facts::StatusFacts;
use super::freshness::{break_glass, freshness};
use super::health::{degraded_reasons, warnings};
use super::peers::{links, peers, routes};
use crate::requests::StatusAnswer;

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

/// Builds the document.
pub fn status_document(
    facts: &StatusFacts,
    node: &Node,
    contact: &Contact,
    cache: &CacheStatus,
    certificate_failure: Option<&Fault>,
    now: Now,
) -> StatusAnswer {
    let degraded_reasons = degraded_reasons(node, contact, cache, certificate_failure, now);
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
        ("overlay", overlay(node)),
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
        ("peers", peers(node, now)),
        ("unused_slots", node.unused_slots().map(unused).collect()),
        ("links", links(node, now)),
        ("routes", routes(node, now)),
        ("routing", json!({ "relays": node.has_relays(), "disputed_paths": node.disputed_paths() })),
        ("break_glass", break_glass(node, now)),
        ("leases", json!([])),
        ("workloads", json!({ "supervision_enabled": facts.workload_supervision, "assigned": [] })),
        ("update", json!({ "slot": null, "state": "idle", "version": env!("CARGO_PKG_VERSION") })),
        ("update_slot", Value::Null),
        (
            "cache",
            json!({ "bytes": cache.bytes, "quarantined": cache.quarantined, "dropped": cache.dropped }),
        ),
        ("warnings", json!(warnings(node, contact, cache, certificate_failure, now))),
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

/// The own overlay addresses in use, and whether others hold an endpoint that they can dial.
fn overlay(node: &Node) -> Value {
    let Some(sense) = node.sense() else { return Value::Null };
    let address = |index: usize| sense.own().map(|own| &own.texts()[index]);
    json!({ "ipv4": address(0), "ipv6": address(1), "inbound": sense.assignment().inbound })
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
        "refusal": contact.refusal(now.mono).map(|(url, fault, at)| json!({
            "url": url, "reason": fault.reason, "text": fault.message,
            "ms_ago": now.mono.since(*at).as_millis() as u64,
        })),
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
        "host": stats.host.iter().map(|finding| json!({
            "reason": finding.reason, "text": finding.text, "degrades": finding.degrades,
        })).collect::<Vec<_>>(),
        "rss_bytes": stats.rss_bytes,
        "last_exit": node.observations().exit().map(|exit| json!({
            "at_ms": exit.at_ms, "status": exit.status, "reason": exit.reason, "text": exit.text,
        })),
        "drops": stats.drops.iter().map(|drop| (drop.reason.clone(), json!(drop.count))).collect::<Map<_, _>>(),
        "last_error": contact.dataplane_error.as_ref().map(|(reason, text)| {
            json!({ "reason": reason, "text": text })
        }),
    })
}

/// A slot of the snapshot in use that makes no sense, and why.
fn unused(slot: rap_wire::v1::UnusedSlot) -> Value {
    json!({ "slot": slot.slot, "reason": slot.reason, "text": slot.what })
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
