//! Enrollment over the wire: the good path, and every attack that must not work.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;
use rap_contract::Signer;
use rap_types::Reason;
use rap_wire::v1;

use crate::host::{Host, nonce};
use crate::world::{World, reason};

#[tokio::test]
async fn a_manual_join_waits_and_an_approval_makes_a_node() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 1, false).await, "web");
    let (answer, join_nonce) = host.join(&world).await.unwrap();
    assert_eq!(answer.state, "pending");
    assert_eq!(host.poll(&world, &answer.request_id).await.unwrap().state, "pending");

    let request = v1::NodeDecideRequest {
        cluster: "prod".into(),
        request_ids: vec![answer.request_id.clone()],
        ..Default::default()
    };
    let decided =
        world.admin().await.node_approve(world.request(request.clone())).await.unwrap().into_inner();
    assert_eq!(decided.nodes.len(), 1);
    assert_eq!(
        (decided.nodes[0].name.as_str(), decided.nodes[0].overlay_ipv4.as_str()),
        ("web", "100.96.0.1")
    );
    let again = world.admin().await.node_approve(world.request(request)).await.unwrap_err();
    assert_eq!(reason(again), Reason::EnrollmentDecided);

    let bootstrap = host.poll(&world, &answer.request_id).await.unwrap();
    assert_eq!(bootstrap.state, "approved");
    let contract = host.open(&bootstrap.contract, &answer.request_id, &join_nonce);
    assert_eq!(contract.node.to_vec(), decided.nodes[0].node_id);
    assert_eq!(contract.contract.overlay_ipv4, "100.96.0.1/16");
    let (_, certificate) = host.certificate(&world, &contract).await.unwrap();
    let leaf = rap_runtime::tls::NodeCertificate::from_der(&certificate.leaf).unwrap();
    assert_eq!(leaf.identity.node, contract.node);
    world.stop().await;
}

#[tokio::test]
async fn a_denied_host_is_told_why_and_nobody_else_is() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, false).await;
    let host = Host::new(&token, "web");
    let (answer, _) = host.join(&world).await.unwrap();
    let request = v1::NodeDecideRequest {
        cluster: "prod".into(),
        request_ids: vec![answer.request_id.clone()],
        reason: "not ours".into(),
        ..Default::default()
    };
    world.admin().await.node_deny(world.request(request)).await.unwrap();
    let told = host.poll(&world, &answer.request_id).await.unwrap();
    assert_eq!((told.state.as_str(), told.message.as_str()), ("denied", "not ours"));

    // Another key asking about a denied, a pending and an unknown request gets one and the same answer.
    let pending = Host::new(&token, "other").join(&world).await.unwrap().0.request_id;
    let stranger = Host::new(&token, "stranger");
    let mut answers = BTreeSet::new();
    for request in [answer.request_id.as_slice(), &pending, &[7; 16], &[7; 15]] {
        let status = stranger.poll(&world, request).await.unwrap_err();
        assert_eq!(reason(status.clone()), Reason::EnrollmentRefused);
        answers.insert((status.code() as i32, status.message().to_owned(), status.details().len()));
    }
    // So does one who names the right key without having it.
    let mut claimed = Host::new(&token, "claims");
    claimed.wireguard = host.wireguard;
    let (mut client, exporter) = world.enrollment().await;
    let fresh = nonce(&mut client).await;
    let mut request = claimed.poll_request(&answer.request_id, fresh, &exporter);
    request.node_public_key = host.key.public().to_vec();
    let status = client.bootstrap(request).await.unwrap_err();
    answers.insert((status.code() as i32, status.message().to_owned(), status.details().len()));
    assert_eq!(answers.len(), 1, "{answers:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_hosts_race_for_one_use_and_one_wins() {
    let world = Arc::new(World::dev().await);
    world.cluster("prod").await;
    let token = world.token("prod", 1, false).await;
    let mut hosts = tokio::task::JoinSet::new();
    for number in 0..200 {
        let (world, host) = (world.clone(), Host::new(&token, &format!("host-{number}")));
        hosts.spawn(async move { host.join(&world).await.map(|_| ()).map_err(reason) });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = hosts.join_next().await {
        outcomes.push(outcome.unwrap());
    }
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let losers = outcomes.iter().filter(|outcome| **outcome == Err(Reason::TokenExhausted)).count();
    assert_eq!(losers, 199, "{outcomes:?}");
    let list = v1::NodeListRequest { cluster: "prod".into(), pending: true };
    let list = world.admin().await.node_list(world.request(list)).await.unwrap().into_inner();
    assert_eq!(list.pending.len(), 1);
}

#[tokio::test]
async fn the_same_key_gets_the_same_request_and_burns_nothing() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 1, false).await;
    let host = Host::new(&token, "web");
    let first = host.join(&world).await.unwrap().0;
    let second = host.join(&world).await.unwrap().0;
    assert_eq!(first.request_id, second.request_id);
    let other = Host::new(&token, "db").join(&world).await.unwrap_err();
    assert_eq!(reason(other), Reason::TokenExhausted);
    world.stop().await;
}

#[tokio::test]
async fn proofs_hold_once_for_one_connection_and_one_key() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, false).await;
    let host = Host::new(&token, "web");
    let (mut client, exporter) = world.enrollment().await;

    let used = nonce(&mut client).await;
    client.join(host.join_request(used.clone(), &exporter)).await.unwrap();
    let replayed = client.join(host.join_request(used, &exporter)).await.unwrap_err();
    assert_eq!(reason(replayed), Reason::EnrollmentNonce);

    let (mut other, other_exporter) = world.enrollment().await;
    let elsewhere = nonce(&mut other).await;
    let status = client.join(host.join_request(elsewhere, &exporter)).await.unwrap_err();
    assert_eq!(reason(status), Reason::EnrollmentNonce, "a nonce of another connection");

    let fresh = nonce(&mut client).await;
    let status = client.join(host.join_request(fresh, &other_exporter)).await.unwrap_err();
    assert_eq!(reason(status), Reason::EnrollmentProof, "a proof for another connection");

    let fresh = nonce(&mut client).await;
    let mut request = host.join_request(fresh, &exporter);
    request.node_public_key = Signer::generate(&mut rand::rng()).public().to_vec();
    assert_eq!(reason(client.join(request).await.unwrap_err()), Reason::EnrollmentProof, "another's key");

    let fresh = nonce(&mut client).await;
    let request = v1::JoinRequest { signature: Vec::new(), ..host.join_request(fresh, &exporter) };
    assert_eq!(reason(client.join(request).await.unwrap_err()), Reason::EnrollmentProof, "no proof");
    world.stop().await;
}

#[tokio::test]
async fn weak_short_long_and_non_canonical_keys_are_refused() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 5, false).await, "web");
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut non_canonical = [0xff; 32];
    (non_canonical[0], non_canonical[31]) = (0xee, 0x7f);
    let key = host.key.public().to_vec();
    let bad: [&[u8]; 6] =
        [&[], &[0; 32], &identity, &non_canonical, &key[..31], &[key.clone(), vec![0]].concat()];
    for bytes in bad {
        let (mut client, exporter) = world.enrollment().await;
        let fresh = nonce(&mut client).await;
        let request =
            v1::JoinRequest { node_public_key: bytes.to_vec(), ..host.join_request(fresh, &exporter) };
        assert_eq!(reason(client.join(request).await.unwrap_err()), Reason::KeyInvalid, "{bytes:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn tokens_that_are_revoked_expired_widened_foreign_or_guessed_are_refused() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, false).await;
    let host = Host::new(&token, "web");

    // A scope widened without the authority's key.
    let mut envelope = v1::SignedEnvelope::decode(host.token.envelope()).unwrap();
    let mut payload = v1::JoinToken::decode(envelope.payload.as_slice()).unwrap();
    payload.roles.push("relay-node".into());
    envelope.payload = payload.encode_to_vec();
    let refusal = |change: Box<dyn FnOnce(&mut v1::JoinRequest)>| {
        let (world, host) = (&world, &host);
        async move {
            let (mut client, exporter) = world.enrollment().await;
            let fresh = nonce(&mut client).await;
            let mut request = host.join_request(fresh, &exporter);
            change(&mut request);
            reason(client.join(request).await.unwrap_err())
        }
    };
    let widened = envelope.encode_to_vec();
    assert_eq!(refusal(Box::new(|request| request.token = widened)).await, Reason::SignatureInvalid);
    // The same, signed by a key of the attacker's.
    let attacker = Signer::generate(&mut rand::rng());
    payload.cluster_authority_key = attacker.public().to_vec();
    let forged = rap_contract::sign(&payload, &[&attacker]);
    assert_eq!(refusal(Box::new(|request| request.token = forged)).await, Reason::TokenUnknown);
    assert_eq!(refusal(Box::new(|request| request.secret = vec![0; 32])).await, Reason::TokenSecret);
    assert_eq!(refusal(Box::new(|request| request.token = vec![1, 2, 3])).await, Reason::EnvelopeMalformed);

    let revoke = v1::TokenRevokeRequest { token_id: token.token.unwrap().token_id, ..Default::default() };
    let revoked = world.admin().await.token_revoke(world.request(revoke)).await.unwrap().into_inner();
    assert_eq!(revoked.state, "revoked");
    assert_eq!(reason(host.join(&world).await.unwrap_err()), Reason::TokenRevoked);

    let short = v1::TokenCreateRequest { cluster: "prod".into(), ttl_ms: 1_000, ..Default::default() };
    let short = world.admin().await.token_create(world.request(short)).await.unwrap().into_inner();
    let late = Host::new(&short, "late");
    let expired = async {
        loop {
            match late.join(&world).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(status) => return reason(status),
            }
        }
    };
    let expired = tokio::time::timeout(std::time::Duration::from_secs(20), expired).await.unwrap();
    assert_eq!(expired, Reason::TokenExpired);
    world.stop().await;
}

#[tokio::test]
async fn a_row_edited_in_the_database_does_not_widen_a_token() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 1, false).await;
    let host = Host::new(&token, "web");
    let other = world.token("prod", 1, false).await;
    let id = rap_types::TokenId::from_slice(&token.token.as_ref().unwrap().token_id).unwrap();
    let stored = world.database.as_ref().unwrap().store().await;
    let mut transaction = stored.system().begin().await.unwrap();
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    let mut row = rap_store::token_read(&mut transaction, &cluster.rows, id).await.unwrap().unwrap().token;
    drop(transaction);
    // A row of another id that claims a hundred uses for the same envelope.
    let other = rap_types::TokenId::from_slice(&other.token.unwrap().token_id).unwrap();
    row.token = rap_types::TokenId::from_bytes([9; 16]);
    row.max_uses = 100;
    let mut transaction = stored.system().begin().await.unwrap();
    rap_store::token_insert(&mut transaction, &cluster.rows, &row).await.unwrap();
    transaction.commit().await.unwrap();
    assert_ne!(other, id);
    host.join(&world).await.unwrap();
    let second = Host { key: Signer::generate(&mut rand::rng()), ..Host::new(&token, "db") };
    assert_eq!(reason(second.join(&world).await.unwrap_err()), Reason::TokenExhausted);
    world.stop().await;
}
