//! What is told of a cluster's keys: their states, and which nodes keep which record.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::AuthorityState;
use rap_store::{ConfirmationRow, authority_confirmations, authority_prepared_read, cluster_read};
use rap_types::{ClusterId, Wall};
use rap_wire::v1;
use v1::authority_record::Kind;

use super::{find, unknown};
use crate::clusters::StoredAuthority;
use crate::control::Control;
use crate::grpc::{Actor, Failure};

pub(super) async fn list(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::ClusterRef,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    view(control, id).await
}

pub(super) async fn view(control: &Control, id: ClusterId) -> Result<v1::AuthorityListAnswer, Failure> {
    let mut transaction = control.store.system().begin_snapshot().await?;
    let facts = &control.installation.facts;
    let keyring = control.keyring();
    let rows = keyring.rows(id, &keyring.read(&mut transaction, id).await?);
    let row = cluster_read(&mut transaction, &rows).await?.ok_or_else(unknown)?;
    let stored = StoredAuthority::read(&mut transaction, facts, &rows).await?;
    let prepared = authority_prepared_read(&mut transaction, id).await?;
    let newest = stored.chain.sequence();
    let mut keys: Vec<v1::AuthorityKey> = stored
        .chain
        .records()
        .iter()
        .map(|record| {
            let header = record.header();
            let state = stored.life.state(header.sequence).unwrap_or(AuthorityState::Revoked);
            v1::AuthorityKey {
                sequence: header.sequence,
                state: state.as_str().to_owned(),
                kind: match Kind::try_from(record.kind) {
                    Ok(Kind::Rotate) => "rotate",
                    Ok(Kind::Recovery) => "recovery",
                    _ => "create",
                }
                .to_owned(),
                public_key: record.authority_key.clone(),
                incarnation: header.incarnation,
                issued_at_ms: header.issued_at.0,
                record_digest: record.digest().to_vec(),
                signs: header.sequence == newest,
            }
        })
        .collect();
    keys.extend(prepared.map(|prepared| v1::AuthorityKey {
        state: AuthorityState::Prepared.as_str().to_owned(),
        public_key: prepared.public_key.to_vec(),
        ..v1::AuthorityKey::default()
    }));
    Ok(v1::AuthorityListAnswer {
        cluster_id: id.to_vec(),
        cluster_name: row.cluster.name,
        keys,
        incarnation: stored.chain.incarnation(),
    })
}

pub(super) async fn confirmations(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::ClusterRef,
) -> Result<v1::AuthorityConfirmationsAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    let mut transaction = control.store.system().begin_snapshot().await?;
    let facts = &control.installation.facts;
    let keyring = control.keyring();
    let keys = keyring.rows(id, &keyring.read(&mut transaction, id).await?);
    let stored = StoredAuthority::read(&mut transaction, facts, &keys).await?;
    let rows = authority_confirmations(&mut transaction, id).await?;
    let (newest, now) = (stored.chain.sequence(), control.clock.now().wall);
    let nodes = rows.iter().map(|row| v1::AuthorityConfirmation {
        node_id: row.node.to_vec(),
        name: row.name.clone(),
        sequence: row.sequence.unwrap_or(0),
        confirmed_at_ms: row.confirmed_at.map_or(0, |at| at.0),
        last_seen_at_ms: row.last_seen_at.map_or(0, |at| at.0),
        awaited: is_awaited(control, row, id, newest, now),
    });
    Ok(v1::AuthorityConfirmationsAnswer { sequence: newest, nodes: nodes.collect() })
}

/// True if the node was seen within a day and has not confirmed the record `wanted`.
pub(super) fn is_awaited(
    control: &Control,
    row: &ConfirmationRow,
    cluster: ClusterId,
    wanted: u64,
    now: Wall,
) -> bool {
    if wanted <= 1 || row.sequence.is_some_and(|sequence| sequence >= wanted) {
        return false;
    }
    let connected = control.sessions.acknowledged_by(cluster, row.node).is_some();
    connected || row.last_seen_at.is_some_and(|at| now.since(at) < SEEN_WITHIN)
}

const SEEN_WITHIN: Duration = Duration::from_secs(86_400);
