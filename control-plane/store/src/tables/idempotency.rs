//! Idempotency keys: a mutation that is sent twice is done once and answered alike.
//!
//! Owns the row of a key: which request it stands for, what its transaction wrote, its answer. Refuses to own whether
//! what was written is still there: [`crate::still_done`] reads it.

use rap_authority::RowKeys;
use rap_types::Digest;
use sqlx::PgConnection;

use crate::authentic::{Authentic as _, Held, held, new_row, update, verified};
use crate::columns::bound;
use crate::counted::may_conflict;
use crate::query::statements;
use crate::row::{authentic_row, select};
use crate::statement::joined;
use crate::transaction::SystemTransaction;
use crate::{Result, StoreError};

/// What one key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRow {
    /// Key of the operator, as hexadecimal digits.
    pub actor: String,
    /// The key, as hexadecimal digits.
    pub key: String,
    /// Digest of the request.
    pub request: Digest,
    /// The call.
    pub act: String,
    /// What its transaction wrote; empty until it is about to commit. See [`crate::still_done`].
    pub done: Vec<u8>,
    /// The encoded answer, once it was given, unless it carried a secret.
    pub answer: Option<Vec<u8>>,
}

authentic_row! {
    IdempotencyRow { actor, key: idempotency_key, request: request_digest, act, done, answer } in "idempotency_keys";
    key actor, idempotency_key;
    request_digest: Fixed, act: Fixed, done: Changes, answer: Changes;
}

statements! {
    IDEMPOTENCY_ROW = select!(IdempotencyRow, "WHERE actor = $1 AND idempotency_key = $2");
    IDEMPOTENCY_HOLD = select!(IdempotencyRow, "WHERE actor = $1 AND idempotency_key = $2 FOR UPDATE");
    async fn claimed(arguments) -> bool = may_conflict joined!(IdempotencyRow::INSERT, " ON CONFLICT DO NOTHING");
    /// Removes keys older than a day; returns how many.
    pub async fn idempotency_expire() -> u64 = may_conflict
        "DELETE FROM idempotency_keys WHERE created_at < clock_timestamp() - interval '1 day'";
}

/// What a key of an operator stands for, once its act is committed.
pub async fn idempotency_read(
    connection: &mut PgConnection,
    keys: &RowKeys,
    actor: &str,
    key: &str,
) -> Result<Option<IdempotencyRow>> {
    verified(sqlx::query_as_with(IDEMPOTENCY_ROW, bound!(actor, key)), connection, keys).await
}

/// Claims the key of this row, first in the transaction of the act. False if it is claimed: a second claim waits until
/// the transaction of the first one ended.
///
/// # Errors
/// [`StoreError::Miscounted`] if the row was kept back.
pub async fn idempotency_claim(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    new: &IdempotencyRow,
) -> Result<bool> {
    let claimed = claimed(transaction, new_row(new, keys)?).await?;
    if !claimed && idempotency_read(transaction, keys, &new.actor, &new.key).await?.is_none() {
        return Err(StoreError::Miscounted { table: IdempotencyRow::TABLE, rows: 0 });
    }
    Ok(claimed)
}

/// Writes down what the transaction of a claim wrote, last in it.
pub async fn idempotency_finish(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    claimed: &IdempotencyRow,
) -> Result<()> {
    let done = transaction.written_down();
    hold(transaction, keys, claimed, |row| row.done = done).await
}

/// Keeps the answer of an act that is done.
pub async fn idempotency_answer(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    claimed: &IdempotencyRow,
    answer: Vec<u8>,
) -> Result<()> {
    hold(transaction, keys, claimed, |row| row.answer = Some(answer)).await
}

async fn hold(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    claimed: &IdempotencyRow,
    change: impl FnOnce(&mut IdempotencyRow),
) -> Result<()> {
    let find = sqlx::query_as_with(IDEMPOTENCY_HOLD, bound!(&claimed.actor, &claimed.key));
    let row: Option<Held<IdempotencyRow>> = held(find, transaction, keys).await?;
    let mut row = row.ok_or(StoreError::Miscounted { table: IdempotencyRow::TABLE, rows: 0 })?;
    change(&mut row);
    update(transaction, keys, row).await.map(drop)
}
