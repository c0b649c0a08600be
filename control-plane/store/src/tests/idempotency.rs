//! A request that is sent twice is done once, and what it wrote is looked at again.

use rap_types::{Digest, Reason};

use super::fixture::{id, own_keys};
use crate::testing::TestDatabase;
use crate::*;

pub(super) fn claim_of(actor: &str, request: &[u8]) -> IdempotencyRow {
    IdempotencyRow {
        actor: actor.into(),
        key: "00112233445566778899aabbccddeeff".into(),
        request: Digest::of(&[request]),
        act: "/Admin/TokenCreate".into(),
        done: Vec::new(),
        answer: None,
    }
}

#[tokio::test]
async fn what_an_act_wrote_and_somebody_took_away_is_not_done_any_more() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    let mut transaction = store.system().begin().await.unwrap();
    let claim = claim_of("ann", b"request");
    assert!(idempotency_claim(&mut transaction, &own_keys(), &claim).await.unwrap());
    let organization = OrganizationRow { organization: id(5), name: "alpha".into() };
    organization_insert(&mut transaction, &own_keys(), &organization).await.unwrap();
    idempotency_finish(&mut transaction, &own_keys(), &claim).await.unwrap();
    transaction.commit().await.unwrap();
    let asked = async || {
        let mut transaction = store.system().begin().await.unwrap();
        let row = idempotency_read(&mut transaction, &own_keys(), "ann", &claim.key).await?.unwrap();
        still_done(&mut transaction, &own_keys(), |_| None, &row.done).await
    };
    assert_eq!(asked().await.unwrap().len(), 1);
    database.as_superuser("UPDATE organizations SET name = 'beta'").await;
    assert_eq!(asked().await.unwrap_err().reason(), Reason::RowTampered);
    database.as_superuser("UPDATE organizations SET name = 'alpha'").await;
    assert_eq!(asked().await.unwrap().len(), 1);
    database.as_superuser("DELETE FROM organizations").await;
    assert_eq!(asked().await.unwrap_err().reason(), Reason::RowTampered);
    // What the row itself says is under its MAC.
    database.as_superuser("UPDATE idempotency_keys SET done = '[]'").await;
    assert_eq!(asked().await.unwrap_err().reason(), Reason::RowTampered);
}
