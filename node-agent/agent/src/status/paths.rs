//! Paths through relays in documents: what was decided for each peer.

use rap_node::Node;
use rap_routing::Decision;
use rap_trust::Sense;
use rap_types::{NodeId, Now};
use serde_json::{Map, Value, json};

/// The relays of both paths, the generation, and since when and why the first one is that.
pub(super) fn decided(node: &Node, decision: &Decision, now: Now) -> Map<String, Value> {
    let wall = node.acceptor().clock().wall(now).0;
    let age = i64::try_from(now.mono.since(decision.since).as_millis()).unwrap_or(i64::MAX);
    let fields = [
        ("primary", relays(node, &decision.primary)),
        ("backup", relays(node, &decision.backup)),
        ("path_generation", json!(decision.generation)),
        ("since_ms", json!(wall.saturating_sub(age))),
        ("why", json!(decision.why)),
        ("why_text", json!(if node.has_relays() { decision.why.text() } else { NO_RELAY })),
        ("direct_only", json!(!node.has_relays())),
    ];
    fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// Why there is no path.
const NO_RELAY: &str = "the cluster has no relay for this node: traffic goes directly";

/// Relays as documents name them.
pub(super) fn relays(node: &Node, relays: &[NodeId]) -> Value {
    let sense = node.sense().map(|sense| &**sense);
    relays.iter().map(|relay| relay_document(sense, relay.as_bytes())).collect()
}

/// A relay as documents name it; one that this node does not know has no name.
pub fn relay_document(sense: Option<&Sense>, relay: &[u8]) -> Value {
    let id = NodeId::from_slice(relay).ok();
    let record = id.and_then(|id| sense?.peer(id));
    json!({ "node_id": id, "name": record.map(|record| &record.name) })
}
