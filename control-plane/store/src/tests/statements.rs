//! Every statement prepares on the migrated schema.

use sqlx::{Executor, SqlSafeStr};

use crate::tables as t;
use crate::testing::TestDatabase;

const ALL: &[&[(&str, &str)]] = &[
    crate::backup::STATEMENTS,
    crate::columns::STATEMENTS,
    crate::doorbell::STATEMENTS,
    crate::migrate::STATEMENTS,
    crate::pool::STATEMENTS,
    crate::roles::STATEMENTS,
    t::addresses::STATEMENTS,
    t::audit::STATEMENTS,
    t::authority_life::STATEMENTS,
    t::bare_clusters::STATEMENTS,
    t::break_glass::STATEMENTS,
    t::audit_tree::STATEMENTS,
    t::cluster_keys::STATEMENTS,
    t::clusters::STATEMENTS,
    t::contacts::STATEMENTS,
    t::grants::STATEMENTS,
    t::heads::STATEMENTS,
    t::idempotency::STATEMENTS,
    t::installation::STATEMENTS,
    t::join_requests::STATEMENTS,
    t::leaves::STATEMENTS,
    t::nodes::STATEMENTS,
    t::operators::STATEMENTS,
    t::organizations::STATEMENTS,
    t::outbox::STATEMENTS,
    t::revocations::STATEMENTS,
    t::restores::STATEMENTS,
    t::rewrap::STATEMENTS,
    t::rows::STATEMENTS,
    t::tokens::STATEMENTS,
];

#[tokio::test]
async fn every_statement_prepares_on_the_migrated_schema() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let mut failures = Vec::new();
    for (name, text) in ALL.iter().copied().flatten() {
        if let Err(error) = (&mut *transaction).prepare((*text).into_sql_str()).await {
            failures.push(format!("{name}: {error}"));
            transaction = store.system().begin().await.unwrap();
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(ALL.iter().map(|file| file.len()).sum::<usize>() >= 80);
}
