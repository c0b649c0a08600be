//! A call that is sent twice with one key is done once and answered alike.
//!
//! Owns what the second call gets: the answer of the first, if everything that the first one wrote is still there. The
//! row of the key proves nothing alone: whoever writes the database can undo an act and leave it. Refuses to own when a
//! key is claimed (`acts/claim`).

use prost::Message;
use rap_store::{IdempotencyRow, idempotency_answer, idempotency_read, still_done};
use rap_types::{Digest, Reason};

use crate::auth::actor::Actor;
use crate::auth::call::Call;
use crate::database::claim::Claim;
use crate::failure::Failure;
use crate::serve::handle::Serving;

/// Calls whose answers carry a secret, or what must not be had by reading the database. They are given once.
const SECRET: &[&str] = &["/rap.fabric.v1.Admin/TokenCreate", "/rap.fabric.v1.BreakGlass/Issue"];

/// A longer answer is not kept.
const ANSWER_CAP: usize = 256 * 1024;

/// What the key of a call stands for, if it has one.
pub(crate) fn claim_of(call: &Call, actor: &Actor, message: &impl Message) -> Claim {
    let Some(key) = call.key else { return Claim::default() };
    Claim::of(IdempotencyRow {
        actor: actor.key.id().to_string(),
        key: key.to_string(),
        request: Digest::of(&[call.method.as_bytes(), &[0], &message.encode_to_vec()]),
        act: call.method.clone(),
        done: Vec::new(),
        answer: None,
    })
}

/// The answer of the first call with this key, if there was one.
///
/// # Errors
/// `request.key_reused` if that was another request, `request.replayed` if its answer was not kept, `row.tampered` if
/// what it wrote is gone or another.
pub(crate) async fn replayed<T: Message + Default>(
    serving: &Serving,
    claim: &Claim,
) -> Result<Option<T>, Failure> {
    let Some(row) = claim.row() else { return Ok(None) };
    let mut snapshot = serving.database.store.system().begin_snapshot().await?;
    let first = idempotency_read(&mut snapshot, &serving.keys.rows, &row.actor, &row.key).await?;
    let Some(first) = first else { return Ok(None) };
    if first.request != row.request {
        return Err(Failure::new(Reason::RequestKeyReused, "the key was used for another request"));
    }
    let keys = |id| serving.clusters.by_id(id).map(|cluster| cluster.rows.clone());
    let names = still_done(&mut snapshot, &serving.keys.rows, keys, &first.done).await?;
    if let Some(answer) = first.answer.and_then(|answer| T::decode(answer.as_slice()).ok()) {
        return Ok(Some(answer));
    }
    let what = names.iter().find(|name| !name.starts_with("audit_log/")).or(names.first());
    let what = what.map_or("nothing was to be changed", String::as_str);
    Err(Failure::new(Reason::RequestReplayed, format!("done before: {what}")))
}

/// Keeps the answer of a call that claimed its key.
pub(crate) async fn kept<T: Message>(
    serving: &Serving,
    claim: &Claim,
    answer: Result<T, Failure>,
) -> Result<T, Failure> {
    if let (Ok(answer), Some(row)) = (&answer, claim.taken())
        && !SECRET.contains(&row.act.as_str())
        && answer.encoded_len() <= ANSWER_CAP
    {
        let kept = keep(serving, row, answer.encode_to_vec()).await;
        if let Err(failure) = kept {
            tracing::warn!(reason = %failure.reason, "an answer was not kept for a repeated call: {}", failure.message);
        }
    }
    answer
}

async fn keep(serving: &Serving, row: &IdempotencyRow, answer: Vec<u8>) -> Result<(), Failure> {
    let mut transaction = serving.database.store.system().begin().await?;
    idempotency_answer(&mut transaction, &serving.keys.rows, row, answer).await?;
    Ok(transaction.commit().await?)
}
