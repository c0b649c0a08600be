//! Authority keys of clusters.

use std::path::Path;

use rap_types::{ClusterId, KeyId, NodeId};
use rap_wire::v1;
use serde_json::{Value, json};

use crate::args::{Authority as Command, Global, NextKey, Protect, WhichKey};
use crate::client::{Connection, ask};
use crate::output::{Answer, confirm, id_text, time};
use crate::{files, key_store};

/// What key files for a cluster's authority say.
const PURPOSE: &str = "cluster-authority";

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    if let Command::Key { out, installation, protect } = &command {
        return make_key(out, *installation, protect)?.print(global);
    }
    let mut connection = Connection::of_context(global).await?;
    let cluster = connection.cluster(None).await?;
    let answer = match command {
        Command::Key { .. } => return Ok(()),
        Command::List => ask!(connection.authority.authority_list(v1::ClusterRef { cluster })),
        Command::Prepare(next) => ask!(connection.authority.authority_prepare(key(cluster, next)?)),
        Command::Rotate(next) => {
            let question =
                format!("Replace the authority of {cluster}? Every node will keep the new record.");
            confirm(global, &question)?;
            ask!(connection.authority.authority_rotate(key(cluster, next)?))
        }
        Command::Recover(next) => {
            let question = format!(
                "Replace the authority of {cluster} and revoke every earlier key, and the join tokens they signed?"
            );
            confirm(global, &question)?;
            ask!(connection.authority.authority_recover(key(cluster, next)?))
        }
        Command::Taint { which, force } => {
            ask!(connection.authority.authority_taint(step(cluster, which, force)))
        }
        Command::Revoke(which) => ask!(connection.authority.authority_revoke(step(cluster, which, false))),
        Command::Confirmations => {
            let request = v1::ClusterRef { cluster };
            return confirmations(&ask!(connection.authority.authority_confirmations(request))).print(global);
        }
    };
    shown(&answer).print(global)
}

fn make_key(out: &Path, installation: bool, protect: &Protect) -> anyhow::Result<Answer> {
    let signer = key_store::generate();
    let purpose = if installation { "installation-authority" } else { PURPOSE };
    key_store::create(out, purpose, &signer, protect)?;
    let id = signer.id();
    let body = json!({
        "file": files::shown(out), "purpose": purpose, "key_id": id, "public_key": signer.public().to_string(),
    });
    let rows = [("file", out.display().to_string()), ("key id", id.to_string())];
    Ok(Answer::new("rap.key-made.v1", body).properties(rows))
}

fn key(cluster: String, next: NextKey) -> anyhow::Result<v1::AuthorityKeyRequest> {
    let imported_seed = imported_seed(next.import_key.as_deref(), &next.protect)?;
    Ok(v1::AuthorityKeyRequest { cluster, imported_seed, reason: next.reason })
}

/// The seed of a cluster authority's key file; empty if none is named.
pub(super) fn imported_seed(file: Option<&Path>, protect: &Protect) -> anyhow::Result<Vec<u8>> {
    let seed = |path| Ok(key_store::open_for(path, PURPOSE, protect)?.seed().to_vec());
    file.map_or_else(|| Ok(Vec::new()), seed)
}

fn step(cluster: String, which: WhichKey, force: bool) -> v1::AuthorityStepRequest {
    v1::AuthorityStepRequest { cluster, sequence: which.record, force, reason: which.reason }
}

fn shown(answer: &v1::AuthorityListAnswer) -> Answer {
    let document = |key: &v1::AuthorityKey| {
        let id = KeyId::of(&key.public_key);
        json!({
            "record": key.sequence, "state": key.state, "kind": key.kind, "signs": key.signs,
            "key_id": id, "words": id.words(), "public_key": hex::encode(&key.public_key),
            "incarnation": key.incarnation, "issued_at_ms": key.issued_at_ms,
            "record_digest": hex::encode(&key.record_digest),
        })
    };
    let keys: Vec<Value> = answer.keys.iter().map(document).collect();
    let rows = answer.keys.iter().map(|key| {
        let sequence = if key.sequence == 0 { "-".to_owned() } else { key.sequence.to_string() };
        let state = if key.signs { format!("{}, signs", key.state) } else { key.state.clone() };
        [
            sequence,
            state,
            if key.kind.is_empty() { "-".to_owned() } else { key.kind.clone() },
            KeyId::of(&key.public_key).to_string(),
            time(key.issued_at_ms),
            key.incarnation.to_string(),
        ]
    });
    let cluster = id_text(ClusterId::from_slice(&answer.cluster_id));
    let body = json!({
        "cluster": answer.cluster_name, "cluster_id": cluster, "incarnation": answer.incarnation, "keys": keys,
    });
    Answer::new("rap.authority.v1", body).table(
        ["RECORD", "STATE", "KIND", "KEY ID", "SINCE", "INCARNATION"],
        1,
        rows,
    )
}

fn confirmations(answer: &v1::AuthorityConfirmationsAnswer) -> Answer {
    let document = |node: &v1::AuthorityConfirmation| {
        json!({
            "node_id": NodeId::from_slice(&node.node_id).ok(), "name": node.name, "record": node.sequence,
            "confirmed_at_ms": node.confirmed_at_ms, "last_seen_at_ms": node.last_seen_at_ms,
            "awaited": node.awaited,
        })
    };
    let nodes: Vec<Value> = answer.nodes.iter().map(document).collect();
    let row = |node: &v1::AuthorityConfirmation| {
        [
            node.name.clone(),
            if node.sequence == 0 { "-".to_owned() } else { node.sequence.to_string() },
            if node.awaited { "awaited" } else { "" }.to_owned(),
            time(node.confirmed_at_ms),
            time(node.last_seen_at_ms),
        ]
    };
    let awaited = answer.nodes.iter().filter(|node| node.awaited).count();
    let body = json!({ "record": answer.sequence, "awaited": awaited, "nodes": nodes });
    Answer::new("rap.authority-confirmations.v1", body).table(
        ["NODE", "RECORD", "", "CONFIRMED", "LAST SEEN"],
        0,
        answer.nodes.iter().map(row),
    )
}
