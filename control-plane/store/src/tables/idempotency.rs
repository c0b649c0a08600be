//! Idempotency keys: a mutation that is sent twice is done once and answered alike.

use rap_types::Digest;
use sqlx::PgConnection;

use crate::columns::{read, statements};
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
    IDEMPOTENCY_CLAIM = "INSERT INTO idempotency_keys (actor, idempotency_key, request_digest) \
        VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    IDEMPOTENCY_READ = "SELECT request_digest, answer FROM idempotency_keys \
        WHERE actor = $1 AND idempotency_key = $2";
    IDEMPOTENCY_FINISH = "UPDATE idempotency_keys SET answer = $3 WHERE actor = $1 AND idempotency_key = $2";
    IDEMPOTENCY_EXPIRE = "DELETE FROM idempotency_keys \
        WHERE created_at < clock_timestamp() - interval '1 day'";
}

/// Claims `key` of `actor` for the request with this digest. A second claim waits until the
/// transaction of the first ended.
pub async fn idempotency_claim(
    connection: &mut PgConnection,
    actor: &str,
    key: &str,
    request: Digest,
) -> Result<Claim> {
    let claim = sqlx::query(IDEMPOTENCY_CLAIM).bind(actor).bind(key).bind(request.as_bytes().as_slice());
    if claim.execute(&mut *connection).await?.rows_affected() == 1 {
        return Ok(Claim::Fresh);
    }
    let row = sqlx::query(IDEMPOTENCY_READ).bind(actor).bind(key).fetch_one(connection).await?;
    match read::<Option<Vec<u8>>>(&row, "answer")? {
        _ if read::<Digest>(&row, "request_digest")? != request => Ok(Claim::Misused),
        Some(answer) => Ok(Claim::Done(answer)),
        None => Err(StoreError::Contended("idempotency key without answer".to_owned())),
    }
}

/// Stores the answer, in the transaction of the claim.
pub async fn idempotency_finish(
    connection: &mut PgConnection,
    actor: &str,
    key: &str,
    answer: &[u8],
) -> Result<()> {
    sqlx::query(IDEMPOTENCY_FINISH).bind(actor).bind(key).bind(answer).execute(connection).await?;
    Ok(())
}

/// Removes keys older than a day; returns how many.
pub async fn idempotency_expire(connection: &mut PgConnection) -> Result<u64> {
    Ok(sqlx::query(IDEMPOTENCY_EXPIRE).execute(connection).await?.rows_affected())
}
