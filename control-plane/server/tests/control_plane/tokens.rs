//! Tokens of a key that waits, and tokens that nobody knows.

use prost::Message as _;
use rap_authority::FloorOf;
use rap_contract::Signer;
use rap_control_plane::replica::Replica;
use rap_types::{Reason, TokenId};
use rap_wire::v1;

use crate::grants::sql;
use crate::host::{Host, nonce};
use crate::rows::until;
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

/// Somebody keeps the rows of tokens, and puts them back later.
const KEEP: &str = "CREATE TABLE kept AS SELECT token_id, revoked_at, row_version, row_mac FROM join_tokens";
const PUT_BACK: &str = "SET session_replication_role = replica; UPDATE join_tokens t SET revoked_at = k.revoked_at, \
    row_version = k.row_version, row_mac = k.row_mac FROM kept k WHERE k.token_id = t.token_id";

fn knows(replica: &Replica, token: TokenId) -> bool {
    replica.database.floors.current().is_some_and(|floors| floors.of(FloorOf::RevokedToken(token)).is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_whose_row_is_put_back_admits_nobody_at_any_replica() {
    let mut world = World::dev_with(|raw| raw.rows_check_ms = Some(200)).await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let id = TokenId::from_slice(&token.token.as_ref().unwrap().token_id).unwrap();
    let second = world.replica().await;
    Host::new(&token, "before").join(&world).await.unwrap();
    sql(&world, KEEP).await;
    let request = v1::TokenRevokeRequest { token_id: id.to_vec(), ..Default::default() };
    world.admin().await.token_revoke(world.request(request.clone())).await.unwrap();
    assert!(knows(&world.running.replica, id), "it counts here when the act is answered");
    let told = async {
        while !knows(&second.replica, id) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), told).await.expect("the other replica is told");
    sql(&world, PUT_BACK).await;
    let first = world.through(second);
    for (name, address) in [("here", first.address), ("there", world.address())] {
        let refused = Host::new(&token, name).join_at(&world, address).await.unwrap_err();
        assert_eq!(reason(refused), Reason::TokenRevoked, "{name}");
    }
    let put_back = |answer: &v1::StatusAnswer| {
        answer
            .alarms
            .iter()
            .any(|alarm| alarm.reason == "floor.rollback" && alarm.what.contains("revoke it again"))
    };
    until(&world, put_back).await;
    let list = v1::TokenListRequest { cluster: "prod".into() };
    let listed = world.admin().await.token_list(world.request(list)).await.unwrap().into_inner();
    assert_eq!(listed.tokens[0].state, "revoked");
    // Once more, and row and floor say the same.
    world.admin().await.token_revoke(world.request(request)).await.unwrap();
    until(&world, |answer| !put_back(answer)).await;
    first.stop().await;
    world.stop().await;
}
