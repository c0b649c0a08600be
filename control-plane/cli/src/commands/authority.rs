//! Authority keys of clusters.

use rap_types::{ClusterId, KeyId, NodeId};
use rap_wire::v1;
use serde_json::{Value, json};

use crate::args::{Authority as Command, Global, NextKey, WhichKey};
use crate::client::{Connection, told};
use crate::output::{Answer, confirm, id_text, properties, time};
use crate::{files, key_store};

/// What key files for a cluster's authority say.
pub(crate) const PURPOSE: &str = "cluster-authority";

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    if let Command::Key { out, installation, protect } = &command {
        let signer = key_store::generate();
        let purpose = if *installation { "installation-authority" } else { PURPOSE };
        key_store::create(out, purpose, &signer, protect)?;
        let id = signer.id();
        return Answer::new(
            "rap.key-made.v1",
            json!({ "file": files::shown(out), "purpose": purpose, "key_id": id, "public_key": signer.public().to_string() }),
        )
        .properties(properties(&[("file", out.display().to_string()), ("key id", id.to_string())]),
        )
        .print(global);
    }
    let mut connection = Connection::of_context(global).await?;
    let cluster = connection.cluster(None).await?;
    let authority = &mut connection.authority.clone();
    let answered = match command {
        Command::Key { .. } => return Ok(()),
        Command::List => authority.authority_list(connection.request(v1::ClusterRef { cluster })?).await,
        Command::Prepare(next) => {
            authority.authority_prepare(connection.request(key(cluster, &next)?)?).await
        }
        Command::Rotate(next) => {
            confirm(
                global,
                &format!("Replace the authority of {cluster}? Every node will keep the new record."),
            )?;
            authority.authority_rotate(connection.request(key(cluster, &next)?)?).await
        }
        Command::Recover(next) => {
            let question = format!(
                "Replace the authority of {} and revoke every earlier key, and the join tokens they signed?",
                cluster
            );
            confirm(global, &question)?;
            authority.authority_recover(connection.request(key(cluster, &next)?)?).await
        }
        Command::Taint { which, force } => {
            authority.authority_taint(connection.request(step(cluster, which, force))?).await
        }
        Command::Revoke(which) => {
            authority.authority_revoke(connection.request(step(cluster, which, false))?).await
        }
        Command::Confirmations => {
            let request = connection.request(v1::ClusterRef { cluster })?;
            return confirmations(global, &told(authority.authority_confirmations(request).await)?);
        }
    };
    shown(&told(answered)?).print(global)
}

fn key(cluster: String, next: &NextKey) -> anyhow::Result<v1::AuthorityKeyRequest> {
    let imported_seed = match &next.import_key {
        Some(path) => key_store::open_for(path, PURPOSE, &next.protect)?.seed().to_vec(),
        None => Vec::new(),
    };
    Ok(v1::AuthorityKeyRequest { cluster, imported_seed, reason: next.reason.clone() })
}

fn step(cluster: String, which: WhichKey, force: bool) -> v1::AuthorityStepRequest {
    v1::AuthorityStepRequest { cluster, sequence: which.record, force, reason: which.reason }
}

fn shown(answer: &v1::AuthorityListAnswer) -> Answer {
    let keys: Vec<Value> = answer
        .keys
        .iter()
        .map(|key| {
            let id = KeyId::of(&key.public_key);
            json!({
                "record": key.sequence, "state": key.state, "kind": key.kind, "signs": key.signs,
                "key_id": id, "words": id.words(), "public_key": hex::encode(&key.public_key),
                "incarnation": key.incarnation, "issued_at_ms": key.issued_at_ms,
                "record_digest": hex::encode(&key.record_digest),
            })
        })
        .collect();
    let rows = answer
        .keys
        .iter()
        .map(|key| {
            let sequence = if key.sequence == 0 { "-".to_owned() } else { key.sequence.to_string() };
            let state = if key.signs { format!("{}, signs", key.state) } else { key.state.clone() };
            vec![
                sequence,
                state,
                if key.kind.is_empty() { "-".to_owned() } else { key.kind.clone() },
                KeyId::of(&key.public_key).to_string(),
                time(key.issued_at_ms),
                key.incarnation.to_string(),
            ]
        })
        .collect();
    let cluster = id_text(ClusterId::from_slice(&answer.cluster_id));
    let body = json!({
        "cluster": answer.cluster_name, "cluster_id": cluster, "incarnation": answer.incarnation, "keys": keys,
    });
    Answer::new("rap.authority.v1", body).table(
        &["RECORD", "STATE", "KIND", "KEY ID", "SINCE", "INCARNATION"],
        1,
        rows,
    )
}

fn confirmations(global: &Global, answer: &v1::AuthorityConfirmationsAnswer) -> anyhow::Result<()> {
    let nodes: Vec<Value> = answer
        .nodes
        .iter()
        .map(|node| {
            json!({
                "node_id": NodeId::from_slice(&node.node_id).ok(), "name": node.name, "record": node.sequence,
                "confirmed_at_ms": node.confirmed_at_ms, "last_seen_at_ms": node.last_seen_at_ms,
                "awaited": node.awaited,
            })
        })
        .collect();
    let rows = answer
        .nodes
        .iter()
        .map(|node| {
            vec![
                node.name.clone(),
                if node.sequence == 0 { "-".to_owned() } else { node.sequence.to_string() },
                if node.awaited { "awaited" } else { "" }.to_owned(),
                time(node.confirmed_at_ms),
                time(node.last_seen_at_ms),
            ]
        })
        .collect();
    let awaited = answer.nodes.iter().filter(|node| node.awaited).count();
    let body = json!({ "record": answer.sequence, "awaited": awaited, "nodes": nodes });
    Answer::new("rap.authority-confirmations.v1", body)
        .table(&["NODE", "RECORD", "", "CONFIRMED", "LAST SEEN"], 0, rows)
        .print(global)
}
