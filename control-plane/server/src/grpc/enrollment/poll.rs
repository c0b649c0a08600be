//! Bootstrap poll: what became of a request, told only to the key that made it.
//!
//! The signature is checked before the request is looked for, so that unknown, pending, denied and
//! approved requests answer strangers alike and at the same cost.

use std::sync::Arc;

use rap_authority::{ProofChannel, check_poll_proof};
use rap_store::{JoinRequestRow, StoreError, join_request_read, node_read, token_read};
use rap_types::{ClusterId, JoinRequestId, JoinState};
use rap_wire::v1;

use super::{approve, node_key, refused};
use crate::control::Control;
use crate::grpc::{Call, Failure};

pub(super) async fn poll(
    control: &Arc<Control>,
    call: &Call,
    request: v1::BootstrapRequest,
) -> Result<v1::BootstrapAnswer, Failure> {
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
    let cluster = control.cluster(cluster).await?.ok_or_else(refused)?;
    let mut transaction = control.store.system().begin().await?;
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
            let signer = approve::token_signer(&cluster, &token.token.envelope)?;
            let now = control.clock.now().wall;
            let contract = approve::contract(control, &cluster, signer, &row, &node, now)?;
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
