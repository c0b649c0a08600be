//! Transactions of handlers and tasks: run again when PostgreSQL chose them as the victim.
//!
//! The same rule as `rap_store::transact`, as a macro: the futures of handlers must be `Send`, which
//! a closure over a borrowed connection cannot promise.

use std::time::Duration;

use rand::RngExt as _;

/// How often a transaction is run at most.
pub const ATTEMPTS: u32 = 6;

/// Pause before run `attempt + 1`; doubles, with jitter between half and all of it.
pub fn pause(attempt: u32) -> Duration {
    let full = Duration::from_millis(5) * 2u32.pow(attempt - 1);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Runs `$work` (a `Result` whose error implements `Transient`) on a fresh transaction, commits on
/// `Ok`, rolls back on any error, and runs it again after a transient one. `$work` must have no
/// effect outside the transaction.
macro_rules! transaction {
    ($pool:expr, $connection:ident => $work:expr) => {{
        let mut attempt = 1;
        loop {
            let mut open = match $pool.begin().await {
                Ok(open) => open,
                Err(error) => break Err(error.into()),
            };
            let worked = {
                let $connection: &mut rap_store::PgConnection = &mut open;
                $work
            };
            let outcome = match worked {
                Ok(value) => match open.commit().await {
                    Ok(()) => Ok(value),
                    Err(error) => Err(rap_store::StoreError::from(error).into()),
                },
                // Dropping the transaction rolls it back.
                Err(error) => Err(error),
            };
            match outcome {
                Err(error)
                    if attempt < $crate::transaction::ATTEMPTS
                        && rap_store::Transient::is_transient(&error) =>
                {
                    tokio::time::sleep($crate::transaction::pause(attempt)).await;
                    attempt += 1;
                }
                outcome => break outcome,
            }
        }
    }};
}
pub(crate) use transaction;
