//! Removal of nodes: revoke one, and verify and show the chain of revocations.

use std::collections::BTreeMap;

use rap_contract::{AuthorityChain, PublicKey, RevocationChain, Standing};
use rap_runtime::Fault;
use rap_types::{ClusterId, Digest, InstallationId, Reason};
use rap_wire::v1;
use serde_json::{Value, json};
use v1::plan_diff_request::Act;

use super::{node_view, plan_diff};
use crate::args::{Global, Revoke};
use crate::client::{Connection, ask};
use crate::output::{Answer, confirm};

pub(super) async fn revoke(
    global: &Global,
    connection: &mut Connection,
    cluster: String,
    revoke: Revoke,
) -> anyhow::Result<()> {
    let request = v1::NodeRevokeRequest {
        cluster: cluster.clone(),
        node: revoke.node.clone(),
        evict: revoke.evict,
        reason: revoke.reason,
    };
    if revoke.dry_run.is_wanted() {
        return plan_diff::show(global, connection, Act::NodeRevoke(request)).await;
    }
    let verb = if revoke.evict { "Evict" } else { "Ban" };
    let ends = if revoke.evict { "it may ask to join again" } else { "its key never returns" };
    let question =
        format!("{verb} node {} of cluster {cluster}? Its links close everywhere; {ends}.", revoke.node);
    confirm(global, &question)?;
    let answer = ask!(connection.membership.node_revoke(request));
    let shown = answer.node.unwrap_or_default();
    let mut body = json!({ "node": node_view::document(&shown) });
    body["revocation_sequence"] = json!(answer.revocation_sequence);
    body["version"] = json!(answer.version);
    body["already"] = json!(answer.already);
    let said =
        if answer.already { "it was so before".to_owned() } else { format!("version {}", answer.version) };
    let rows = vec![
        ("name", shown.name.clone()),
        ("id", node_view::id(&shown)),
        ("revocation", shown.revocation.clone()),
        ("chain length", answer.revocation_sequence.to_string()),
        ("published", said),
    ];
    Answer::new("rap.node-revoke.v1", body).properties(rows).print(global)
}

/// Walks the whole chain and shows what it says of each node.
pub(super) async fn revocations(
    global: &Global,
    connection: &mut Connection,
    cluster: String,
) -> anyhow::Result<()> {
    let installation = ask!(connection.admin.installation(v1::InstallationRequest {}));
    let shown = ask!(connection.admin.cluster_show(v1::ClusterRef { cluster: cluster.clone() }));
    let mut records: Vec<Vec<u8>> = Vec::new();
    let answer = loop {
        let after = records.len() as u64;
        let mut page = ask!(
            connection
                .membership
                .revocation_list(v1::RevocationListRequest { cluster: cluster.clone(), after })
        );
        let complete = page.records.is_empty();
        records.append(&mut page.records);
        if complete || records.len() as u64 >= page.sequence {
            break page;
        }
    };
    let chain = verified(&installation, &shown, &answer, &records)?;
    let listed = ask!(connection.admin.node_list(v1::NodeListRequest { cluster, pending: false })).nodes;
    let names: BTreeMap<String, String> =
        listed.into_iter().map(|node| (node_view::id(&node), node.name)).collect();
    let nodes = chain.revoked();
    let mut rows = Vec::new();
    let mut documents: Vec<Value> = Vec::new();
    for (node, generation) in &nodes {
        let (standing, key) = match chain.standing(*node) {
            Some(Standing::Gone(kind)) => (kind.as_str(), None),
            Some(Standing::Member(key)) => ("member", Some(key.to_string())),
            None => continue,
        };
        // The chain names ids; the control plane's word for the name proves nothing and is only shown.
        let name = names.get(&node.to_string());
        let shown = name.cloned().unwrap_or_else(|| "-".to_owned());
        rows.push([shown, standing.to_owned(), generation.to_string(), node.to_string()]);
        documents.push(json!({
            "node_id": node.to_string(), "name": name, "standing": standing, "revoked_generation": generation,
            "node_fingerprint": key,
        }));
    }
    let body = json!({
        "cluster_id": ClusterId::from_slice(&shown.cluster_id)?.to_string(),
        "sequence": chain.sequence(),
        "digest": chain.digest().map(|digest| digest.to_string()),
        "nodes": documents,
    });
    Answer::new("rap.revocations.v1", body)
        .table(["NAME", "STANDING", "REVOKED GENERATION", "ID"], 0, rows)
        .print(global)
}

fn verified(
    installation: &v1::InstallationAnswer,
    cluster: &v1::Cluster,
    answer: &v1::RevocationListAnswer,
    records: &[Vec<u8>],
) -> anyhow::Result<RevocationChain> {
    let authority = PublicKey::from_slice(&installation.installation_authority_key)?;
    let id = InstallationId::from_slice(&installation.installation_id)?;
    let features: &[&str] = if installation.mode == "dev" { &[rap_contract::FEATURE_DEV] } else { &[] };
    let of = ClusterId::from_slice(&cluster.cluster_id)?;
    let authority = AuthorityChain::verify(&answer.authority_records, &authority, id, of, features)?;
    let chain = RevocationChain::verify(records, &authority, features)?;
    let digest = Digest::from_slice(&answer.digest).ok();
    if chain.sequence() != answer.sequence || chain.digest() != digest {
        let text = "the records are not those that the control plane says there are";
        return Err(Fault::new(Reason::ChainBroken, text).into());
    }
    Ok(chain)
}
