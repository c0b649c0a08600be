//! Transactions that run again after PostgreSQL rolled them back for the benefit of another.

use std::ops::ControlFlow;
use std::time::Duration;

use rand::RngExt as _;
use sqlx::PgTransaction;

use crate::StoreError;

/// How often a transaction is run at most, and the pause before the second run; pauses double and are
/// jittered between half and all of their length.
const MOST_RUNS: u32 = 6;
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

/// Runs the work in a transaction of role `system` and commits when it ends in `Ok`; rolls back on
/// any error, `?` included. A transient failure, of the work or of the commit, runs it again from the
/// start, so the work must have no effect outside the transaction.
///
/// `transact!(store.system(), |connection| { token_insert(connection, &new).await?; Ok(new.token) })`
/// is a `Result<T, E>` with `E:` [`Transient`]; `connection` is a `&mut PgConnection`. A macro and not
/// a function because the future of a generic async closure is not known to be `Send`.
#[macro_export]
macro_rules! transact {
    ($pool:expr, |$connection:ident| $work:expr) => {{
        let pool: &$crate::SystemPool = $pool;
        let mut runs = $crate::Runs::default();
        loop {
            let mut transaction = match pool.begin().await {
                Ok(transaction) => transaction,
                Err(error) => break Err(error.into()),
            };
            #[allow(unused_braces)]
            let outcome = async {
                let $connection: &mut $crate::PgConnection = &mut transaction;
                $work
            }
            .await;
            if let std::ops::ControlFlow::Break(outcome) = runs.settle(transaction, outcome).await {
                break outcome;
            }
        }
    }};
}

/// How often one piece of work was run; the inside of [`transact!`].
#[derive(Debug, Default)]
pub struct Runs(u32);

impl Runs {
    /// Commits or rolls back. `Continue` means: run the work again, the pause is over.
    pub async fn settle<T, E: Transient>(
        &mut self,
        transaction: PgTransaction<'_>,
        outcome: Result<T, E>,
    ) -> ControlFlow<Result<T, E>> {
        self.0 += 1;
        let outcome = match outcome {
            Ok(value) => transaction.commit().await.map(|()| value).map_err(|e| StoreError::from(e).into()),
            Err(error) => {
                // The connection may be the reason for the error; dropping it rolls back as well.
                let _ = transaction.rollback().await;
                Err(error)
            }
        };
        match outcome {
            Err(error) if error.is_transient() && self.0 < MOST_RUNS => {
                tokio::time::sleep(pause(self.0)).await;
                ControlFlow::Continue(())
            }
            outcome => ControlFlow::Break(outcome),
        }
    }
}

fn pause(runs: u32) -> Duration {
    let full = FIRST_PAUSE * 2u32.pow(runs - 1);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}
