//! What an act would send to whom, without the act.

use std::collections::BTreeMap;

use rap_types::{ClusterId, NodeId};
use rap_wire::v1;
use serde_json::{Value, json};
use v1::plan_diff_request::Act;

use crate::args::Global;
use crate::client::{Connection, ask};
use crate::output::{Answer, complain, id_text};

pub(super) async fn show(global: &Global, connection: &mut Connection, act: Act) -> anyhow::Result<()> {
    let diff = ask!(connection.membership.show_plan_diff(v1::PlanDiffRequest { act: Some(act) }));
    if !global.format().is_document() {
        complain(&match diff.version == diff.follows {
            true => "Nothing would change.".to_owned(),
            false => format!("Version {} would be signed. Nothing was changed.", diff.version),
        });
    }
    let names = Names::of(&diff);
    Answer::new("rap.plan-diff.v1", document(&diff, &names))
        .table(["NODES", "APPEAR", "CHANGE", "DISAPPEAR", "LINKS LOST"], 0, rows(&diff, &names))
        .print(global)
}

/// One row for all nodes that would receive the same, and one for each node that would be cut off.
fn rows(diff: &v1::PlanDiff, names: &Names) -> Vec<[String; 5]> {
    let delivered = diff.deliveries.iter().map(|one| {
        let records = |slots: &[String]| list(slots.iter().map(|slot| names.record(slot)).collect());
        [
            list(one.node_ids.iter().map(|id| names.node(id)).collect()),
            records(&one.appear),
            records(&one.change),
            records(&one.disappear),
            list(names.peers(&one.disappear)),
        ]
    });
    let none = || list(Vec::new());
    let cut_off = diff.cut_off.iter().map(|id| [names.node(id), none(), none(), none(), "all".to_owned()]);
    delivered.chain(cut_off).collect()
}

/// Every node by itself; records as slot keys.
fn document(diff: &v1::PlanDiff, names: &Names) -> Value {
    let node = |id: &Vec<u8>| json!({ "node_id": id_text(NodeId::from_slice(id)), "name": names.node(id) });
    let delivered = |one: &v1::PlannedDelivery| {
        let received = |id| {
            let mut entry = node(id);
            entry["appear"] = json!(one.appear);
            entry["change"] = json!(one.change);
            entry["disappear"] = json!(one.disappear);
            entry["links_lost"] = json!(names.peers(&one.disappear));
            entry
        };
        one.node_ids.iter().map(received).collect::<Vec<Value>>()
    };
    json!({
        "cluster_id": id_text(ClusterId::from_slice(&diff.cluster_id)), "incarnation": diff.incarnation,
        "version": diff.version, "follows": diff.follows,
        "nodes": diff.deliveries.iter().flat_map(delivered).collect::<Vec<Value>>(),
        "cut_off": diff.cut_off.iter().map(node).collect::<Vec<Value>>(),
    })
}

/// Most entries of a list in the table. The JSON document has all of them.
const SHOWN_MOST: usize = 8;

fn list(all: Vec<String>) -> String {
    match all.len() {
        0 => "-".to_owned(),
        count if count > SHOWN_MOST => {
            format!("{} and {} more", all[..SHOWN_MOST].join(", "), count - SHOWN_MOST)
        }
        _ => all.join(", "),
    }
}

/// Names of the nodes of a difference by their id as text.
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(diff: &v1::PlanDiff) -> Self {
        let named = |node: &v1::PlannedNode| (id_text(NodeId::from_slice(&node.node_id)), node.name.clone());
        Self(diff.nodes.iter().map(named).collect())
    }

    fn node(&self, id: &[u8]) -> String {
        self.named(&id_text(NodeId::from_slice(id)))
    }

    /// The nodes whose records are in these slots.
    fn peers(&self, slots: &[String]) -> Vec<String> {
        slots.iter().filter_map(|slot| self.peer(slot)).collect()
    }

    fn peer(&self, slot: &str) -> Option<String> {
        slot.strip_prefix("peer/").map(|id| self.named(id))
    }

    fn record(&self, slot: &str) -> String {
        self.peer(slot).map_or_else(|| slot.to_owned(), |name| format!("peer {name}"))
    }

    fn named(&self, id: &str) -> String {
        self.0.get(id).filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| id.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_deliveries_are_one_row_and_every_node_is_in_the_document() {
        let id = |byte: u8| NodeId::from_bytes([byte; 16]);
        let named = |byte: u8| v1::PlannedNode { node_id: id(byte).to_vec(), name: format!("n{byte}") };
        let delivery = v1::PlannedDelivery {
            node_ids: (1..=10).map(|byte| id(byte).to_vec()).collect(),
            appear: Vec::new(),
            change: vec!["trust".into()],
            disappear: vec![format!("peer/{}", id(11))],
        };
        let diff = v1::PlanDiff {
            cluster_id: ClusterId::from_bytes([9; 16]).to_vec(),
            incarnation: 1,
            version: 8,
            follows: 7,
            deliveries: vec![delivery],
            cut_off: vec![id(11).to_vec()],
            nodes: (1..=11).map(named).collect(),
        };
        let names = Names::of(&diff);
        let receivers = "n1, n2, n3, n4, n5, n6, n7, n8 and 2 more";
        let expected = [[receivers, "-", "trust", "peer n11", "n11"], ["n11", "-", "-", "-", "all"]];
        assert_eq!(rows(&diff, &names), expected);
        let document = document(&diff, &names);
        assert_eq!(document["nodes"].as_array().unwrap().len(), 10);
        let tenth = json!({
            "node_id": id(10).to_string(), "name": "n10", "appear": [], "change": ["trust"],
            "disappear": [format!("peer/{}", id(11))], "links_lost": ["n11"],
        });
        assert_eq!(document["nodes"][9], tenth);
        assert_eq!(document["cut_off"], json!([{ "node_id": id(11).to_string(), "name": "n11" }]));
        assert_eq!((&document["version"], &document["follows"]), (&json!(8), &json!(7)));
    }
}
