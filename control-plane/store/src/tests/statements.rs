//! Every statement prepares on the migrated schema.

use sqlx::{Executor, SqlSafeStr};

use crate::authentic::Authentic;
use crate::tables as t;
use crate::tables::addresses::AddressRow;
use crate::testing::TestDatabase;
use crate::*;

const ALL: &[&[(&str, &str, &str)]] = &[
    crate::backup::STATEMENTS,
    crate::doorbell::STATEMENTS,
    crate::migrate::STATEMENTS,
    crate::pool::STATEMENTS,
    crate::query::STATEMENTS,
    crate::roles::STATEMENTS,
    crate::still_done::STATEMENTS,
    t::addresses::STATEMENTS,
    t::audit::STATEMENTS,
    t::authority_life::STATEMENTS,
    t::bare_clusters::STATEMENTS,
    t::break_glass::STATEMENTS,
    t::audit_tree::STATEMENTS,
    t::cluster_keys::STATEMENTS,
    t::clusters::STATEMENTS,
    t::contacts::STATEMENTS,
    t::data_keys::STATEMENTS,
    t::role_grants::STATEMENTS,
    t::heads::STATEMENTS,
    t::heartbeats::STATEMENTS,
    t::idempotency::STATEMENTS,
    t::identities::STATEMENTS,
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
    t::signed_copies::STATEMENTS,
    t::tokens::STATEMENTS,
];

/// The statements that every row type with a MAC has.
fn of_row<R: Authentic>() -> [(&'static str, &'static str); 6] {
    [
        (R::TABLE, R::INSERT),
        (R::TABLE, R::UPDATE),
        (R::TABLE, R::BY_TEXT),
        (R::TABLE, R::ALL),
        (R::TABLE, R::AFTER),
        (R::TABLE, R::RESEAL),
    ]
}

fn of_rows() -> Vec<(&'static str, &'static str)> {
    [
        of_row::<ClusterRow>(),
        of_row::<PolicyRow>(),
        of_row::<AuthorityRow>(),
        of_row::<ClusterCaRow>(),
        of_row::<TokenRow>(),
        of_row::<JoinRequestRow>(),
        of_row::<AddressRow>(),
        of_row::<NodeRow>(),
        of_row::<IdempotencyRow>(),
        of_row::<OperatorRow>(),
        of_row::<OrganizationRow>(),
        of_row::<MemberRow>(),
    ]
    .concat()
}

#[test]
fn statements_are_made_as_their_columns_are_listed() {
    assert_eq!(
        PolicyRow::INSERT,
        "INSERT INTO cluster_policies (cluster_id, kind, body, row_mac) VALUES ($1, $2, $3, $4)"
    );
    assert_eq!(
        AuthorityRow::UPDATE,
        "UPDATE cluster_authorities SET sealed_private_key = $4, state = $5, row_version = row_version + 1, \
         row_mac = $6 WHERE cluster_id = $1 AND sequence = $2 AND row_version = $3"
    );
    assert_eq!(
        PolicyRow::AFTER,
        "SELECT cluster_id, kind, body, row_version, row_mac FROM cluster_policies WHERE cluster_id = $1 \
         AND (cluster_id::text || '/' || kind::text) COLLATE \"C\" > $2 \
         ORDER BY (cluster_id::text || '/' || kind::text) COLLATE \"C\" LIMIT 500"
    );
    assert_eq!(
        OrganizationRow::ALL,
        "SELECT organization_id, name, row_version, row_mac FROM organizations ORDER BY organization_id"
    );
    // The parameters that `sets` names.
    assert!(NodeRow::UPDATE.contains("identity_status = $7, "), "{}", NodeRow::UPDATE);
    assert!(JoinRequestRow::UPDATE.contains("state = $9, "), "{}", JoinRequestRow::UPDATE);
    assert!(AddressRow::UPDATE.contains("node_id = $4, "), "{}", AddressRow::UPDATE);
    assert!(NodeRow::INSERT.ends_with("$14, $15, $16)"), "{}", NodeRow::INSERT);
}

#[tokio::test]
async fn every_statement_prepares_on_the_migrated_schema() {
    let store = TestDatabase::migrated().await.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let mut failures = Vec::new();
    let listed = ALL.iter().copied().flatten().map(|(name, text, _)| (*name, *text));
    for (name, text) in listed.chain(of_rows()) {
        if let Err(error) = (&mut *transaction).prepare(text.into_sql_str()).await {
            failures.push(format!("{name}: {error}"));
            transaction = store.system().begin().await.unwrap();
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(ALL.iter().map(|file| file.len()).sum::<usize>() + of_rows().len() >= 160);
}

#[test]
fn a_statement_that_changes_rows_says_how_many_and_no_other_does() {
    let counted = ["one_row", "one_row_returned", "exactly", "may_conflict", "may_conflict_returned"];
    let mut changing = 0;
    for (name, text, run) in ALL.iter().copied().flatten() {
        let changes = ["INSERT ", "UPDATE ", "DELETE ", "MERGE "].iter().any(|verb| text.starts_with(verb));
        assert_eq!(changes, counted.contains(run), "{name} is run by {run:?}");
        let hidden =
            [" INSERT INTO ", "(INSERT ", "(UPDATE ", "(DELETE "].iter().any(|verb| text.contains(verb));
        assert!(!hidden, "{name} changes rows in a part of it that nobody counts");
        changing += usize::from(changes);
    }
    assert!(changing >= 40, "{changing}");
}
