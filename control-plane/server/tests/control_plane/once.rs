//! A call that is sent twice with one key is done once and answered alike, if what it did is still there.

use rap_rpc::RequestKey;
use rap_rpc::v1::grants_client::GrantsClient;
use rap_types::{ClusterId, Reason};
use rap_wire::v1;
use tonic::{Request, Response, Status};

use crate::authority::key_request;
use crate::grants::{self, add, audited, signer, sql};
use crate::world::{World, reason};

fn keyed<T>(world: &World, key: u8, message: T) -> Request<T> {
    let mut request = world.request(message);
    RequestKey([key; 16]).attach(&mut request);
    request
}

async fn rotate(world: &World, key: u8, words: &str) -> Result<v1::AuthorityListAnswer, Reason> {
    let request = v1::AuthorityKeyRequest { reason: words.into(), ..key_request(&[]) };
    let answer = world.authority().await.authority_rotate(keyed(world, key, request)).await;
    answer.map(Response::into_inner).map_err(reason)
}

async fn token(world: &World, key: u8) -> Result<Response<v1::TokenCreateAnswer>, Status> {
    let request = v1::TokenCreateRequest { cluster: "prod".into(), ..Default::default() };
    world.admin().await.token_create(keyed(world, key, request)).await
}

#[tokio::test]
async fn a_call_with_the_key_of_one_that_was_done_is_answered_like_it_and_does_nothing() {
    let world = World::dev().await;
    let id = ClusterId::from_slice(&world.cluster("prod").await.cluster_id).unwrap();
    let first = rotate(&world, 1, "one").await.unwrap();
    for _ in 0..3 {
        assert_eq!(rotate(&world, 1, "one").await.unwrap(), first);
    }
    let records = || world.running.replica.serving.clusters.by_id(id).unwrap().chain.sequence();
    assert_eq!((records(), audited(&world, "authority.rotate").await.len()), (2, 1));
    assert_eq!(rotate(&world, 1, "two").await.unwrap_err(), Reason::RequestKeyReused);
    assert_eq!(records(), 2);
    // The same key of another operator is another key.
    let other = signer();
    let order = v1::GrantAddRequest {
        name: "other".into(),
        subject_key: other.public().to_vec(),
        platform_role: "platform_owner".into(),
        valid_for_ms: 0,
    };
    let mut client = GrantsClient::new(world.line().await.channel);
    let granted = client.add(keyed(&world, 2, order.clone())).await.unwrap().into_inner();
    assert_eq!(client.add(keyed(&world, 2, order)).await.unwrap().into_inner(), granted);
    let session = grants::login(&world, &other).await.unwrap().session;
    let request = v1::AuthorityKeyRequest { reason: "one".into(), ..key_request(&[]) };
    let mut request = grants::with(&session, request);
    RequestKey([1; 16]).attach(&mut request);
    world.authority().await.authority_rotate(request).await.unwrap();
    assert_eq!(records(), 3);
    world.stop().await;
}

#[tokio::test]
async fn of_five_calls_at_once_with_one_key_one_is_done() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let call = || rotate(&world, 1, "one");
    let answers: [_; 5] = tokio::join!(call(), call(), call(), call(), call()).into();
    assert!(answers.iter().any(Result::is_ok));
    for answer in answers {
        // Who came while the first one was under way asks again.
        assert!(matches!(answer, Ok(_) | Err(Reason::RequestConflict)), "{answer:?}");
    }
    assert_eq!(audited(&world, "authority.rotate").await.len(), 1);
    assert_eq!(rotate(&world, 1, "one").await.unwrap().keys.len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn a_secret_is_given_once_and_not_kept() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let first = token(&world, 1).await.unwrap().into_inner();
    let refusal = token(&world, 1).await.unwrap_err();
    let id = rap_types::TokenId::from_slice(&first.token.unwrap().token_id).unwrap();
    assert!(refusal.message().contains(&id.to_string()), "{}", refusal.message());
    assert_eq!(reason(refusal), Reason::RequestReplayed);
    assert_eq!(audited(&world, "token.create").await.len(), 1);
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let (rows, actor) = (&world.running.replica.keys.rows, world.owner.public().id().to_string());
    let key = RequestKey([1; 16]).to_string();
    let row = rap_store::idempotency_read(&mut transaction, rows, &actor, &key).await.unwrap().unwrap();
    assert_eq!(row.answer, None);
    drop(transaction);
    world.stop().await;
}

#[tokio::test]
async fn what_was_undone_is_not_answered_as_done() {
    let world = World::dev().await;
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    let revoke = async || {
        let request = v1::GrantRevokeRequest { grant: "ann".into(), reason: "left".into() };
        let mut client = GrantsClient::new(world.line().await.channel);
        client.revoke(keyed(&world, 1, request)).await.map(Response::into_inner).map_err(reason)
    };
    let first = revoke().await.unwrap();
    assert_eq!(revoke().await, Ok(first));
    // Somebody takes the operator's row back; the row of the key stays.
    sql(&world, "UPDATE operators SET disabled_at = NULL, row_version = row_version - 1 WHERE name = 'ann'")
        .await;
    assert_eq!(revoke().await, Err(Reason::RowTampered));
    world.stop().await;
}

#[tokio::test]
async fn a_header_that_is_no_key_is_refused() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let mut request = world.request(key_request(&[]));
    request.metadata_mut().insert("rap-request-key", "xyz".parse().unwrap());
    let refusal = world.authority().await.authority_rotate(request).await.unwrap_err();
    assert_eq!(reason(refusal), Reason::RequestInvalid);
    assert_eq!(audited(&world, "authority.rotate").await.len(), 0);
    world.stop().await;
}
