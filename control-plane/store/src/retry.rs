//! Transactions that run again after PostgreSQL rolled them back for the benefit of another.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::{Committed, StoreError, SystemTransaction};
use rand::RngExt as _;

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
/// `transact!(store.system(), |transaction| { token_insert(transaction, &new).await?; Ok(new.token) })`
/// is a `Result<T, E>` with `E:` [`Transient`]; `transaction` is a `&mut SystemTransaction`. A macro and
/// not a function because the future of a generic async closure is not known to be `Send`.
#[macro_export]
macro_rules! transact {
    ($pool:expr, |$transaction:ident| $work:expr) => {
        $crate::transact!(@ settle, $pool, |$transaction| $work)
    };
    (@ $settle:ident, $pool:expr, |$transaction:ident| $work:expr) => {{
        let pool: &$crate::SystemPool = $pool;
        let mut runs = $crate::Runs::default();
        loop {
            let mut transaction = match pool.begin().await {
                Ok(transaction) => transaction,
                Err(error) => break Err(error.into()),
            };
            #[allow(unused_braces)]
            let outcome = async {
                let $transaction: &mut $crate::SystemTransaction = &mut transaction;
                $work
            }
            .await;
            if let std::ops::ControlFlow::Break(outcome) = runs.$settle(transaction, outcome).await {
                break outcome;
            }
        }
    }};
}

/// As [`transact!`]; gives the value together with the [`Committed`] transaction.
#[macro_export]
macro_rules! transact_and_keep {
    ($pool:expr, |$transaction:ident| $work:expr) => {
        $crate::transact!(@ settle_and_keep, $pool, |$transaction| $work)
    };
}

/// How often one piece of work was run; the inside of [`transact!`].
#[derive(Debug, Default)]
pub struct Runs(u32);

impl Runs {
    /// Commits or rolls back. `Continue` means: run the work again, the pause is over.
    pub async fn settle<T, E: Transient>(
        &mut self,
        transaction: SystemTransaction,
        outcome: Result<T, E>,
    ) -> ControlFlow<Result<T, E>> {
        let outcome = match outcome {
            Ok(value) => transaction.commit().await.map(|()| value).map_err(E::from),
            Err(error) => Err(undone(transaction, error).await),
        };
        self.next(outcome).await
    }

    /// The same, for [`transact_and_keep!`].
    pub async fn settle_and_keep<T, E: Transient>(
        &mut self,
        transaction: SystemTransaction,
        outcome: Result<T, E>,
    ) -> ControlFlow<Result<(T, Committed), E>> {
        let outcome = match outcome {
            Ok(value) => transaction.commit_and_keep().await.map(|kept| (value, kept)).map_err(E::from),
            Err(error) => Err(undone(transaction, error).await),
        };
        self.next(outcome).await
    }

    async fn next<T, E: Transient>(&mut self, outcome: Result<T, E>) -> ControlFlow<Result<T, E>> {
        self.0 += 1;
        match outcome {
            Err(error) if error.is_transient() && self.0 < MOST_RUNS => {
                tokio::time::sleep(pause(self.0)).await;
                ControlFlow::Continue(())
            }
            outcome => ControlFlow::Break(outcome),
        }
    }
}

async fn undone<E>(transaction: SystemTransaction, error: E) -> E {
    // The connection may be the reason for the error; dropping it rolls back as well.
    let _ = transaction.rollback().await;
    error
}

fn pause(runs: u32) -> Duration {
    let full = FIRST_PAUSE * 2u32.pow(runs - 1);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}
