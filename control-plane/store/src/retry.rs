//! Transactions that run again when PostgreSQL chose them as the victim.

use std::time::Duration;

use rand::RngExt as _;
use sqlx::PgConnection;

use crate::{StoreError, SystemPool};

/// How often a transaction is run at most, and the pause before the second run; pauses double and are
/// jittered between half and all of their length.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// An error that may say "run the same transaction again".
pub trait Transient: From<StoreError> {
    /// True when the transaction was certainly rolled back for the benefit of another (SQLSTATE
    /// 40001, 40P01, 55P03).
    fn is_transient(&self) -> bool;
}

impl Transient for StoreError {
    fn is_transient(&self) -> bool {
        Self::is_transient(self)
    }
}

/// Runs `work` in a transaction of role `system` and commits when it returns `Ok`; rolls back on any
/// error. A transient failure, of the work or of the commit, runs it again from the start, so `work`
/// must have no effect outside the transaction.
pub async fn transact<T, E, F>(pool: &SystemPool, mut work: F) -> Result<T, E>
where
    E: Transient,
    F: AsyncFnMut(&mut PgConnection) -> Result<T, E>,
{
    let mut attempt = 1;
    loop {
        let mut transaction = pool.begin().await?;
        let outcome = match work(&mut transaction).await {
            Ok(value) => transaction.commit().await.map(|()| value).map_err(|e| E::from(StoreError::from(e))),
            Err(error) => {
                // The connection may be the reason for the error; dropping it rolls back as well.
                let _ = transaction.rollback().await;
                Err(error)
            }
        };
        match outcome {
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                tokio::time::sleep(pause(attempt)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

fn pause(attempt: u32) -> Duration {
    let full = FIRST_PAUSE * 2u32.pow(attempt - 1);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}
