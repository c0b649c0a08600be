//! The document `rap.path-explain.v1`: every path that was looked at, and why one of them is taken.
//!
//! Owns its fields. Refuses to decide: the routing engine does.

use rap_node::Node;
use rap_routing::{Candidate, Lane, Leg, Standing, Terms};
use rap_runtime::Fault;
use rap_types::{ChannelClass, NodeId, Now, Reason};
use serde_json::{Value, json};

use super::paths::{decided, relay_document, relays};

/// The peer that is named so or has this id.
///
/// # Errors
/// `node.unknown`.
pub fn peer_named(node: &Node, peer: &str, now: Now) -> Result<NodeId, Fault> {
    node.peer(peer, now).ok_or_else(|| {
        let is_itself = node.sense().is_some_and(|sense| sense.assignment().name == peer);
        let hint = if is_itself { ": it is this node itself" } else { "" };
        Fault::new(Reason::NodeUnknown, format!("no peer `{peer}` in the snapshot{hint}"))
    })
}

/// Explains the paths to a peer for a class, if these relays were down.
///
/// # Errors
/// `node.unknown`; `request.invalid` for a relay that is none.
pub fn explanation(
    node: &Node,
    peer: &str,
    class: ChannelClass,
    down: &[String],
    now: Now,
) -> Result<Value, Fault> {
    let id = peer_named(node, peer, now)?;
    let down: Vec<NodeId> = down.iter().map(|name| relay_named(node, name, now)).collect::<Result<_, _>>()?;
    let lane = Lane::of(class);
    let no_paths = || Fault::new(Reason::PathNoRoute, "no path was decided for it yet");
    let explained = node.explain(id, lane, &down, now).ok_or_else(no_paths)?;
    let mut document = decided(node, &explained.decision, now);
    let wall = node.acceptor().clock().wall(now).0;
    let in_ms = |at| i64::try_from(rap_types::Mono::since(at, now.mono).as_millis()).unwrap_or(i64::MAX);
    let name = |id: NodeId| relay_document(node.sense().map(|sense| &**sense), id.as_bytes());
    let damped = explained.damped.iter().map(|damped| {
        json!({ "relay": name(damped.relay), "merit": thousandths(damped.merit_permille), "avoided": damped.avoided })
    });
    let no_route = node.has_relays() && explained.decision.primary.is_empty();
    let fields = [
        ("schema", json!("rap.path-explain.v1")),
        ("from", json!(node.sense().map(|sense| sense.assignment().name.clone()))),
        ("to", json!(peer)),
        ("node_id", json!(id)),
        ("class", json!(class.as_str())),
        ("lane", json!(lane.as_str())),
        (
            "way",
            json!(
                node.stats()
                    .peers
                    .iter()
                    .find(|stats| stats.node_id == id.as_bytes())
                    .map(|stats| &stats.way)
            ),
        ),
        ("reason", json!(no_route.then_some(Reason::PathNoRoute))),
        ("assumed_down", relays(node, &explained.assumed_down)),
        (
            "candidates",
            explained.candidates.iter().map(|candidate| self::candidate(node, candidate, &name)).collect(),
        ),
        ("damped", damped.collect()),
        ("next_change_ms", json!(explained.next_change.map(|at| wall.saturating_add(in_ms(at))))),
        ("installed", json!(lane == Lane::C && explained.assumed_down.is_empty())),
    ];
    document.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    Ok(Value::Object(document))
}

fn relay_named(node: &Node, name: &str, now: Now) -> Result<NodeId, Fault> {
    let id = node.peer(name, now).filter(|id| node.is_relay(*id));
    id.ok_or_else(|| Fault::new(Reason::RequestInvalid, format!("`{name}` is no relay of the snapshot")))
}

fn candidate(node: &Node, candidate: &Candidate, name: &impl Fn(NodeId) -> Value) -> Value {
    let leg = |leg: &Leg| {
        json!({
            "to": name(leg.to),
            "source": leg.source,
            "terms_ms": terms(&leg.terms),
            "cost_ms": millis(leg.terms.total()),
        })
    };
    json!({
        "relays": relays(node, &candidate.relays),
        "constraint": candidate.constraint,
        "code": candidate.constraint.map(|constraint| constraint.code()),
        "cost_ms": candidate.cost.map(millis),
        "measured_ms": candidate.measured_us.map(millis),
        "disputed": candidate.disputed.then_some(Reason::RelayMetricsDisputed),
        "legs": candidate.legs.iter().map(leg).collect::<Vec<_>>(),
        "relay_terms_ms": terms(&candidate.relay_terms),
        "standing": word(candidate.standing),
        "note": note(candidate),
    })
}

/// The terms that are not 0.
fn terms(terms: &Terms) -> Value {
    let Terms { latency, jitter, loss, reliability, load, region, flap, relay } = *terms;
    let all = [
        ("latency", latency),
        ("jitter", jitter),
        ("loss", loss),
        ("reliability", reliability),
        ("load", load),
        ("region", region),
        ("flap", flap),
        ("relay", relay),
    ];
    let some = all.into_iter().filter(|(_, value)| *value > 0);
    Value::Object(some.map(|(key, value)| (key.to_owned(), json!(millis(value)))).collect())
}

const fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Chosen => "chosen",
        Standing::Backup => "backup",
        Standing::Inadmissible => "inadmissible",
        Standing::Refused(_) => "refused",
        Standing::Avoided => "avoided",
        Standing::Costlier(_) => "costlier",
        Standing::WithinMargin(_) => "within_margin",
        Standing::JustLeft => "just_left",
        Standing::Guarded => "guarded",
    }
}

/// Why the path is taken, or why not, for a person.
fn note(candidate: &Candidate) -> String {
    match (candidate.standing, candidate.constraint) {
        (Standing::Chosen | Standing::Backup, Some(constraint)) => {
            format!("no other path is left, and this one does not work: {}", constraint.text())
        }
        (Standing::Chosen, None) => "taken first".to_owned(),
        (Standing::Backup, None) => "taken when the first one fails".to_owned(),
        (_, Some(constraint)) => constraint.text().to_owned(),
        (Standing::Refused(reason), None) => {
            format!("it was refused or ended within the last minute: {reason}")
        }
        (Standing::Avoided, None) => {
            "a relay of it leaves or fails too often, and there is another path".to_owned()
        }
        (Standing::Costlier(by), None) => format!("{:.1} ms more than the first one", millis(by)),
        (Standing::WithinMargin(by), None) => {
            format!("{:.1} ms less than the first one: too little for a change", millis(by))
        }
        (Standing::JustLeft, None) => {
            "less than the first one, but a relay of it was left a short while ago".to_owned()
        }
        (Standing::Guarded, None) => "less than the first one: the change waits for its turn".to_owned(),
        (Standing::Inadmissible, None) => "no path is admissible".to_owned(),
    }
}

fn millis(micros: u32) -> f64 {
    f64::from(micros) / 1000.0
}

fn thousandths(permille: u32) -> f64 {
    f64::from(permille) / 1000.0
}
