//! Tokens of a key that waits, and tokens that nobody knows.

use prost::Message as _;
use rap_contract::Signer;
use rap_types::Reason;
use rap_wire::v1;

use crate::host::{Host, nonce};
use crate::world::{World, reason};

#[tokio::test]
async fn a_key_that_waits_spends_no_use_of_a_second_token() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let (first, second) = (world.token("prod", 1, false).await, world.token("prod", 1, false).await);
    let mut host = Host::new(&first, "web");
    let asked = host.join(&world).await.unwrap().0;
    host.token = Host::new(&second, "web").token;
    let again = host.join(&world).await.unwrap().0;
    assert_eq!((&again.request_id, again.state.as_str()), (&asked.request_id, "pending"));
    // The use is there for another host; this one's request is still the first token's.
    Host::new(&second, "db").join(&world).await.unwrap();
    let spent = Host::new(&first, "cache").join(&world).await.unwrap_err();
    assert_eq!(reason(spent), Reason::TokenExhausted);
    let decide = v1::NodeDecideRequest {
        cluster: "prod".into(),
        request_ids: vec![asked.request_id],
        ..Default::default()
    };
    let approved = world.admin().await.node_approve(world.request(decide)).await.unwrap().into_inner();
    assert_eq!(approved.nodes.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_token_of_a_cluster_that_is_not_served_is_refused_like_one_that_is_not_known() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 5, false).await, "web");
    let refused = async |change: &dyn Fn(&mut v1::JoinRequest)| {
        let (mut client, exporter) = world.enrollment().await;
        let mut request = host.join_request(nonce(&mut client).await, &exporter);
        change(&mut request);
        let status = client.join(request).await.unwrap_err();
        (status.code(), status.message().to_owned(), reason(status))
    };
    let envelope = v1::SignedEnvelope::decode(host.token.envelope()).unwrap();
    let mut payload = v1::JoinToken::decode(envelope.payload.as_slice()).unwrap();
    let elsewhere = Signer::generate(&mut rand::rng());
    payload.cluster_authority_key = elsewhere.public().to_vec();
    let foreign = rap_contract::sign(&payload, &[&elsewhere]);
    let foreign = refused(&|request| request.token.clone_from(&foreign)).await;
    let database = world.database.as_ref().unwrap();
    database.tamper_all(&["join_tokens"], "DELETE FROM join_tokens").await;
    let unknown = refused(&|_| {}).await;
    assert_eq!(foreign, unknown);
    assert_eq!(unknown.2, Reason::TokenUnknown);
    world.stop().await;
}
