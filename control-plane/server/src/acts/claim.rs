//! The first and the last statement of an act whose call has a key.

use rap_store::{IdempotencyRow, SystemTransaction, idempotency_claim, idempotency_finish};
use rap_types::Reason;

use crate::failure::Failure;
use crate::serve::handle::Serving;

/// Claims the key.
///
/// # Errors
/// `request.conflict` if another transaction claimed it meanwhile.
pub(crate) async fn claim_key(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    claim: Option<&IdempotencyRow>,
) -> Result<(), Failure> {
    let Some(row) = claim else { return Ok(()) };
    if idempotency_claim(transaction, &serving.keys.rows, row).await? {
        return Ok(());
    }
    Err(Failure::new(
        Reason::RequestConflict,
        "the same call was done meanwhile; ask again with the same key",
    ))
}

/// Writes down what the act wrote.
pub(crate) async fn write_down(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    claim: Option<&IdempotencyRow>,
) -> Result<(), Failure> {
    let Some(row) = claim else { return Ok(()) };
    Ok(idempotency_finish(transaction, &serving.keys.rows, row).await?)
}
