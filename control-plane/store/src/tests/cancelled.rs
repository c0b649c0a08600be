//! A caller who goes away at any moment leaves no connection in a transaction.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use sqlx::Row as _;

use crate::testing::TestDatabase;
use crate::*;

#[tokio::test]
async fn a_begin_that_is_given_up_at_any_moment_leaves_no_open_transaction_behind() {
    let settings = PoolSettings { system_connections: 1, ..PoolSettings::default() };
    let store = Store::open(TestDatabase::migrated().await.target(), &settings).await.unwrap();
    let mut given_up = 0;
    for polls in 1..60 {
        {
            let mut begin = pin!(store.system().begin());
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                match begin.as_mut().poll(&mut context) {
                    Poll::Ready(_) => break,
                    // The answer is on its way; each look finds a later part of the exchange.
                    Poll::Pending => tokio::task::yield_now().await,
                }
            }
            given_up += 1;
        }
        // The only connection: whoever gets it next must not be inside somebody else's transaction.
        let mut connection = store.system().inner().acquire().await.unwrap();
        let answer = sqlx::raw_sql("SELECT now() = statement_timestamp()").fetch_one(&mut *connection).await;
        let outside: bool = answer.unwrap().get(0);
        assert!(outside, "given up after {polls} looks: the next user is in an open transaction");
        drop(connection);
        drop(store.system().begin_snapshot().await.unwrap());
    }
    assert_eq!(given_up, 59);
}
