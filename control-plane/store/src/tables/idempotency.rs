//! Idempotency keys: a mutation that is sent twice is done once and answered alike.

use rap_types::Digest;
use sqlx::PgConnection;

use crate::query::{affected, changed, done, one, statements};
use crate::{Result, StoreError};

/// What [`idempotency_claim`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// First time: do it, then [`idempotency_finish`], in this transaction.
    Fresh,
    /// Done before: answer with these bytes.
    Done(Vec<u8>),
    /// The key was used for another request.
    Misused,
}

statements! {
    /// True if nobody claimed the key before.
    async fn claimed(actor: &str, key: &str, request: Digest) -> bool = changed
        "INSERT INTO idempotency_keys (actor, idempotency_key, request_digest) \
        VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    /// The digest of the request that claimed the key, and its answer.
    async fn answered(actor: &str, key: &str) -> (Digest, Option<Vec<u8>>) = one
        "SELECT request_digest, answer FROM idempotency_keys WHERE actor = $1 AND idempotency_key = $2";
    /// Stores the answer, in the transaction of the claim.
    pub async fn idempotency_finish(actor: &str, key: &str, answer: &[u8]) -> () = done
        "UPDATE idempotency_keys SET answer = $3 WHERE actor = $1 AND idempotency_key = $2";
    /// Removes keys older than a day; returns how many.
    pub async fn idempotency_expire() -> u64 = affected
        "DELETE FROM idempotency_keys WHERE created_at < clock_timestamp() - interval '1 day'";
}

/// Claims `key` of `actor` for the request with this digest. A second claim waits until the
/// transaction of the first ended.
pub async fn idempotency_claim(
    connection: &mut PgConnection,
    actor: &str,
    key: &str,
    request: Digest,
) -> Result<Claim> {
    if claimed(connection, actor, key, request).await? {
        return Ok(Claim::Fresh);
    }
    match answered(connection, actor, key).await? {
        (first, _) if first != request => Ok(Claim::Misused),
        (_, Some(answer)) => Ok(Claim::Done(answer)),
        (_, None) => Err(StoreError::Contended("idempotency key without answer".to_owned())),
    }
}
