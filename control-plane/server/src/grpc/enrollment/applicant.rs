//! Calls of applicants: join, and what became of the request.
//!
//! The signature of a poll is checked before the request is looked for, so that unknown, pending, denied and
//! approved requests answer strangers alike and at the same cost.

use std::sync::Arc;

use rap_authority::{ProofChannel, check_join_proof, check_poll_proof, check_wireguard_key, ids, open_token};
use rap_contract::{Document as _, Envelope, Reject};
use rap_store::{JoinRequestRow, NewJoinRequestRow, StoreError, join_request_read, node_read, token_read};
use rap_types::{ClusterId, JoinRequestId, JoinState, KeyId, Reason, TokenId};
use rap_wire::v1;
use serde_json::json;

use crate::acts::change::commit;
use crate::acts::contract;
use crate::acts::join::{check_facts, label, no_such_token, write_join};
use crate::auth::call::Call;
use crate::failure::{Failure, refused};
use crate::grpc::answer::Answer;
use crate::grpc::enrollment::member::node_key;
use crate::replica::Replica;
use crate::serve::cluster;
use crate::serve::cluster::Cluster;

pub(crate) async fn join(replica: &Replica, call: &Call, request: v1::JoinRequest) -> Answer<v1::JoinAnswer> {
    tracing::trace!(way = "an applicant asks to join");
    let nonce = call.nonce(&request.nonce)?;
    let key = node_key(&request.node_public_key)?;
    let wireguard_public_key = check_wireguard_key(&request.wireguard_public_key)?;
    check_facts(&request, replica.config.loopback)?;
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    let Some((cluster, signer)) = cluster_of(replica, &request.token).await? else {
        // The proof is over names of nobody: only what it costs counts.
        let prove = || {
            let (token, cluster) = (TokenId::from_bytes([0; 16]), ClusterId::ZERO);
            check_join_proof(token, cluster, &key, &wireguard_public_key, &channel, &request.signature)
        };
        return Err(foreign(replica, [prove(), prove()]).await?);
    };
    let facts = &replica.keys.installation.facts;
    let now = replica.watch.clock.now().wall;
    let authority = cluster.token_authority(signer)?.public();
    let terms =
        open_token(facts.id, cluster.id, &authority, facts.dev, &request.token, &request.secret, now)?;
    check_join_proof(terms.id, cluster.id, &key, &wireguard_public_key, &channel, &request.signature)?;
    let new = NewJoinRequestRow {
        request: JoinRequestId::from_parts(ids::millis(now), ids::random(&mut rand::rng())),
        cluster: cluster.id,
        organization: terms.organization,
        token: terms.id,
        node_public_key: *key.as_bytes(),
        wireguard_public_key,
        nonce,
        name: label(&request.name),
        facts: json!({
            "capabilities": request.capabilities,
            "agent_version": request.agent_version,
            "region": request.region,
        }),
        advertise: json!({ "link": request.link_endpoints, "wireguard": request.wireguard_endpoints }),
        source: call.channel.peer().ip().to_string(),
    };
    let acting = call.acting(&replica.keys.pen, format!("token:{}", terms.id), None);
    let turn = replica.database.join_turn().await?;
    let row = commit!(&replica.serving, &acting, |transaction| {
        write_join(&replica.serving, transaction, &acting, &cluster, (&terms, &request.token), &new).await
    });
    drop(turn);
    let row = match row {
        Err(failure) if failure.reason == Reason::TokenUnknown => {
            // As for the token of a cluster that is not served here.
            replica.serving.load_clusters().await?;
            return Err(failure);
        }
        row => row?,
    };
    Ok(v1::JoinAnswer { request_id: row.request.request.to_vec(), state: row.state.to_string() })
}

/// The cluster whose authority the token names as its signer, `None` if it is not served here; the signature is checked
/// next.
async fn cluster_of(replica: &Replica, token: &[u8]) -> Result<Option<(Arc<Cluster>, KeyId)>, Failure> {
    let envelope = Envelope::decode(token, v1::JoinToken::SIZE_CAP)?;
    let Some(signer) = envelope.key_ids().next() else { return Ok(None) };
    Ok(replica.serving.cluster_of_authority(signer).await?.map(|cluster| (cluster, signer)))
}

/// The refusal of a token of a cluster that is not served here: in words and in cost that of a token that is not known.
/// A stranger learns from neither which clusters are served.
async fn foreign(replica: &Replica, _proven: [Result<(), Reject>; 2]) -> Result<Failure, Failure> {
    let turn = replica.database.join_turn().await?;
    if let Some(any) = replica.serving.clusters.all().first() {
        let mut transaction = replica.database.store.system().begin().await?;
        let nobodys = TokenId::from_bytes(ids::random(&mut rand::rng()));
        token_read(&mut transaction, &any.rows, nobodys).await?;
    }
    drop(turn);
    Ok(no_such_token())
}

pub(crate) async fn poll(
    replica: &Replica,
    call: &Call,
    request: v1::BootstrapRequest,
) -> Answer<v1::BootstrapAnswer> {
    let nonce = call.nonce(&request.nonce)?;
    let key = node_key(&request.node_public_key)?;
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    check_poll_proof(
        &request.request_id,
        &request.cluster_id,
        &key,
        &request.wireguard_public_key,
        &channel,
        &request.signature,
    )
    .map_err(|_| refused())?;
    let id = JoinRequestId::from_slice(&request.request_id).map_err(|_| refused())?;
    let cluster = ClusterId::from_slice(&request.cluster_id).map_err(|_| refused())?;
    let cluster = replica.serving.cluster(cluster).await?.ok_or_else(refused)?;
    let mut transaction = replica.database.store.system().begin().await?;
    let row = join_request_read(&mut transaction, &cluster.rows, id).await?.ok_or_else(refused)?;
    if !is_of(&row, &request) {
        return Err(refused());
    }
    match row.state {
        JoinState::Pending => Ok(answer(JoinState::Pending, String::new(), Vec::new())),
        JoinState::Denied => Ok(answer(JoinState::Denied, row.reason.unwrap_or_default(), Vec::new())),
        JoinState::Approved => {
            let node = row.node.ok_or(StoreError::Absent)?;
            let node = node_read(&mut transaction, &cluster.rows, node).await?.ok_or(StoreError::Absent)?;
            let token = token_read(&mut transaction, &cluster.rows, row.request.token)
                .await?
                .ok_or(StoreError::Absent)?;
            drop(transaction);
            if let Some(kind) = cluster.revocations.known().chain.gone(node.node.node) {
                let text = format!("the node is gone: {}", kind.as_str());
                return Ok(answer(JoinState::Denied, text, Vec::new()));
            }
            // Signed now: the one signed at approval may have expired since.
            let signer = cluster::token_signer(&cluster, &token.token.envelope)?;
            let now = replica.watch.clock.now().wall;
            let contract = contract::contract(&replica.keys, &cluster, signer, &row, &node, now)?;
            Ok(answer(JoinState::Approved, String::new(), contract))
        }
    }
}

fn is_of(row: &JoinRequestRow, request: &v1::BootstrapRequest) -> bool {
    row.request.node_public_key.as_slice() == request.node_public_key
        && row.request.cluster.as_bytes().as_slice() == request.cluster_id
        && row.request.wireguard_public_key.as_slice() == request.wireguard_public_key
}

fn answer(state: JoinState, message: String, contract: Vec<u8>) -> v1::BootstrapAnswer {
    v1::BootstrapAnswer { state: state.to_string(), message, contract }
}
