//! The CAs of a cluster and their rotation.

use rap_types::{ClusterId, Digest, NodeId};
use rap_wire::v1;
use serde_json::{Value, json};

use crate::args::Global;
use crate::client::{Connection, ask};
use crate::output::{Answer, confirm, id_text, time};

/// Takes a step of the rotation: the next one, or the one before is kept.
pub(super) async fn run(
    global: &Global,
    connection: &mut Connection,
    cluster: String,
    (advance, abort): (bool, bool),
    reason: String,
) -> anyhow::Result<()> {
    let step = match (advance, abort) {
        (true, _) => v1::ClusterCaStep::Advance,
        (false, true) => v1::ClusterCaStep::Abort,
        (false, false) => v1::ClusterCaStep::Begin,
    };
    if step == v1::ClusterCaStep::Begin {
        confirm(global, &format!("Replace the CA of {cluster}? Every node gets another certificate."))?;
    }
    if step == v1::ClusterCaStep::Advance {
        let now = ask!(connection.authority.cluster_ca_show(v1::ClusterRef { cluster: cluster.clone() }));
        let missing: Vec<&str> =
            now.nodes.iter().filter(|node| node.missing).map(|node| node.name.as_str()).collect();
        let question = format!(
            "Go on without {} of {} nodes ({}) of {cluster}? They are cut off until they reach the control plane.",
            missing.len(),
            now.nodes.len(),
            missing.join(", ")
        );
        confirm(global, &question)?;
    }
    let request = v1::ClusterCaRequest { cluster, step: step.into(), reason };
    let answer = ask!(connection.authority.cluster_ca_rotate(request));
    shown(&answer).next("rapctl cluster ca".to_owned()).print(global)
}

/// The CAs, and the nodes with what is known of each.
pub(super) fn shown(answer: &v1::ClusterCaAnswer) -> Answer {
    let cas: Vec<Value> = answer
        .cas
        .iter()
        .map(|ca| {
            let fingerprint = Digest::of(&[&ca.certificate]).to_string();
            json!({ "generation": ca.generation, "state": ca.state, "certificate_sha256": fingerprint })
        })
        .collect();
    let nodes: Vec<Value> = answer
        .nodes
        .iter()
        .map(|node| {
            json!({
                "node_id": NodeId::from_slice(&node.node_id).ok(), "name": node.name, "trusts": node.trusts,
                "certificate_ca": node.certificate_ca, "last_seen_at_ms": node.last_seen_at_ms,
                "missing": node.missing,
            })
        })
        .collect();
    let missing = answer.nodes.iter().filter(|node| node.missing).count();
    let body = json!({
        "cluster": answer.cluster_name, "cluster_id": id_text(ClusterId::from_slice(&answer.cluster_id)),
        "stage": answer.stage, "members": answer.nodes.len(), "missing": missing, "cas": cas, "nodes": nodes,
    });
    let mut rows = Vec::new();
    for ca in &answer.cas {
        let none = "-".to_owned();
        rows.push([format!("CA {}", ca.generation), ca.state.clone(), none.clone(), none.clone(), none]);
    }
    for node in &answer.nodes {
        let ca = if node.certificate_ca == 0 { "-".to_owned() } else { node.certificate_ca.to_string() };
        rows.push([
            node.name.clone(),
            if node.missing { "missing" } else { "follows" }.to_owned(),
            if node.trusts { "yes" } else { "no" }.to_owned(),
            ca,
            time(node.last_seen_at_ms),
        ]);
    }
    Answer::new("rap.cluster-ca.v1", body).table(
        ["NAME", "STATE", "TRUSTS NEWER", "CERTIFICATE OF CA", "LAST SEEN"],
        0,
        rows,
    )
}
