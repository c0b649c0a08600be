//! Deadlines in the status document: the snapshot's, what is allowed until when, and break-glass files.
//!
//! Owns their fields. Refuses to judge: `rap_trust` does.

use rap_node::Node;
use rap_trust::{BreakGlassView, Until};
use rap_types::{Activity, Now, Wall};
use serde_json::{Value, json};

pub(super) fn freshness(node: &Node, now: Now) -> Value {
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

pub(super) fn break_glass(node: &Node, now: Now) -> Value {
    let wall = node.acceptor().clock().wall(now);
    node.grants().map(|view| grant_document(&view, wall)).collect()
}

/// One break-glass grant with its clock.
pub fn grant_document(view: &BreakGlassView<'_>, wall: Wall) -> Value {
    let stored = view.stored;
    let mut document = json!({
        "digest": stored.digest,
        "applied_at_ms": stored.applied_at,
        "acknowledged": stored.acknowledged,
        "state": "void",
    });
    if let Some(grant) = view.grant {
        let ends = grant.expires_at();
        let state = if ends > wall { "active" } else { "ended" };
        document["state"] = if stored.dropped { "dropped" } else { state }.into();
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
