//! A token admits as many hosts as it says, whatever races.

use rap_types::{JoinState, NodeId, Wall};
use tokio::task::JoinSet;

use super::fixture::{self, cluster_with_token, id, keys, request, token, token_id};
use crate::testing::TestDatabase;
use crate::*;

async fn join(store: &Store, new: &NewJoinRequestRow) -> JoinOutcome {
    let mut transaction = store.system().begin().await.unwrap();
    let outcome = join_request_upsert(&mut transaction, &keys(), new).await.unwrap();
    transaction.commit().await.unwrap();
    outcome
}

async fn stored(store: &Store) -> TokenRow {
    token_read(&mut store.system().begin().await.unwrap(), &keys(), token_id()).await.unwrap().unwrap()
}

#[tokio::test]
async fn two_hundred_hosts_racing_over_three_replicas_for_a_one_use_token_make_one_request() {
    let database = TestDatabase::migrated().await;
    let settings = PoolSettings {
        system_connections: 16,
        acquire_timeout: std::time::Duration::from_secs(60),
        lock_timeout: std::time::Duration::from_secs(60),
        statement_timeout: std::time::Duration::from_secs(60),
        ..PoolSettings::default()
    };
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Store::open(database.target(), &settings).await.unwrap());
    }
    cluster_with_token(&replicas[0], 1).await;

    let mut racing = JoinSet::new();
    for host in 0..200u16 {
        let store = replicas[usize::from(host) % 3].clone();
        racing.spawn(async move { join(&store, &request(host, None)).await });
    }
    let (mut created, mut refused) = (0, 0);
    while let Some(outcome) = racing.join_next().await {
        match outcome.unwrap() {
            JoinOutcome::Created(_) => created += 1,
            JoinOutcome::Refused(_) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((created, refused), (1, 199));
    assert_eq!(stored(&replicas[0]).await.uses, 1);
    let mut transaction = replicas[0].system().begin().await.unwrap();
    assert_eq!(join_requests_and_tampered(&mut transaction, &keys()).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn two_hundred_calls_of_the_consuming_statement_alone_take_one_use() {
    let database = TestDatabase::migrated().await;
    let patience = std::time::Duration::from_secs(60);
    let settings =
        PoolSettings { acquire_timeout: patience, lock_timeout: patience, ..PoolSettings::default() };
    let store = Store::open(database.target(), &settings).await.unwrap();
    cluster_with_token(&store, 1).await;
    let mut racing = JoinSet::new();
    for _ in 0..200 {
        let store = store.clone();
        racing.spawn(async move {
            let mut transaction = store.system().begin().await?;
            let token = token_hold(&mut transaction, &keys(), token_id()).await?.unwrap();
            let taken = token_consume(&mut transaction, &keys(), token).await?;
            transaction.commit().await?;
            Ok::<_, StoreError>(taken)
        });
    }
    let outcomes = racing.join_all().await;
    assert_eq!(outcomes.into_iter().filter(|outcome| *outcome.as_ref().unwrap()).count(), 1);
}

#[tokio::test]
async fn the_same_node_key_racing_with_itself_gets_one_request_and_burns_one_use() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    cluster_with_token(&store, 50).await;
    let mut racing = JoinSet::new();
    for call in 0..30u8 {
        let store = store.clone();
        let new = NewJoinRequestRow { request: id(100 + call), nonce: [call; 32], ..request(7, None) };
        racing.spawn(async move { join(&store, &new).await });
    }
    let mut ids = std::collections::BTreeSet::new();
    let mut created = 0;
    for outcome in racing.join_all().await {
        match outcome {
            JoinOutcome::Created(row) => {
                created += 1;
                ids.insert(row.request.request);
            }
            JoinOutcome::Again(row) => drop(ids.insert(row.request.request)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((created, ids.len()), (1, 1));
    assert_eq!(stored(&store).await.uses, 1);
}

#[tokio::test]
async fn a_pending_request_follows_its_host_and_a_decided_one_does_not() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    cluster_with_token(&store, 1).await;
    let JoinOutcome::Created(first) = join(&store, &request(1, None)).await else { panic!() };
    assert_eq!(first.request, request(1, None));
    assert_eq!(first.state, JoinState::Pending);

    let later = NewJoinRequestRow { request: id(99), nonce: [2; 32], ..request(1, None) };
    let JoinOutcome::Again(again) = join(&store, &later).await else { panic!() };
    assert_eq!((again.request.request, again.request.nonce), (first.request.request, [2; 32]));

    let mut transaction = store.system().begin().await.unwrap();
    let node = fixture::node_added(&mut transaction, 50).await;
    let request_id = first.request.request;
    let approved =
        join_request_approve(&mut transaction, &keys(), request_id, node, b"contract").await.unwrap();
    assert_eq!(approved.unwrap().contract.as_deref(), Some(b"contract".as_slice()));
    assert_eq!(join_request_deny(&mut transaction, &keys(), request_id, "no").await.unwrap(), None);
    assert_eq!(
        join_request_approve(&mut transaction, &keys(), request_id, node, b"other").await.unwrap(),
        None
    );
    transaction.commit().await.unwrap();

    let after = NewJoinRequestRow { nonce: [3; 32], ..request(1, None) };
    let JoinOutcome::Again(decided) = join(&store, &after).await else { panic!() };
    assert_eq!(decided.state, JoinState::Approved);
    assert_eq!((decided.request.nonce, decided.node), ([2; 32], Some(node)));
}

#[tokio::test]
async fn revoked_expired_and_unknown_tokens_admit_nobody_and_say_why() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    cluster_with_token(&store, 5).await;
    let mut transaction = store.system().begin().await.unwrap();
    let expired = NewTokenRow { token: id(3), expires_at: Wall(1_000), ..token(None, 5) };
    token_insert(&mut transaction, &keys(), &expired).await.unwrap();
    let revoked = token_revoke(&mut transaction, &keys(), token_id()).await.unwrap().unwrap();
    let again = token_revoke(&mut transaction, &keys(), token_id()).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, again.revoked_at);
    assert!(token_revoke(&mut transaction, &keys(), id(77)).await.unwrap().is_none());
    transaction.commit().await.unwrap();

    let JoinOutcome::Refused(row) = join(&store, &request(1, None)).await else { panic!() };
    assert!(row.revoked_at.is_some());
    let late = NewJoinRequestRow { token: id(3), ..request(1, None) };
    let JoinOutcome::Refused(row) = join(&store, &late).await else { panic!() };
    assert_eq!((row.token.expires_at, row.uses), (Wall(1_000), 0));
    let unknown = NewJoinRequestRow { token: id(9), ..request(1, None) };
    assert!(matches!(join(&store, &unknown).await, JoinOutcome::Unknown));
    assert_eq!(
        tokens_and_tampered(&mut store.system().begin().await.unwrap(), &keys()).await.unwrap().0.len(),
        2
    );
}

#[tokio::test]
async fn a_request_cannot_be_approved_for_a_node_that_does_not_exist() {
    let database = TestDatabase::migrated().await;
    let store = database.store().await;
    cluster_with_token(&store, 1).await;
    let JoinOutcome::Created(row) = join(&store, &request(1, None)).await else { panic!() };
    let mut transaction = store.system().begin().await.unwrap();
    let nobody = NodeId::from_bytes([60; 16]);
    let error =
        join_request_approve(&mut transaction, &keys(), row.request.request, nobody, b"c").await.unwrap_err();
    assert!(matches!(error, StoreError::Violated { constraint } if constraint == "join_requests_node"));
}
