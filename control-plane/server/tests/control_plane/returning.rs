//! Nodes that leave, return, replace their keys, or stay away.

use std::time::Duration;

use rap_contract::{Signer, VerifiedBootstrap};
use rap_runtime::tls::NodeCertificate;
use rap_types::Reason;
use rap_wire::v1;

use crate::host::{Host, hello};
use crate::world::{World, reason};

/// Approves a request, with or without the old id.
async fn approve(world: &World, request_id: &[u8], keep_ids: bool) -> v1::Node {
    let request = v1::NodeDecideRequest {
        cluster: "prod".into(),
        request_ids: vec![request_id.to_vec()],
        keep_ids,
        ..Default::default()
    };
    let answer = world.admin().await.node_approve(world.request(request)).await.unwrap().into_inner();
    answer.nodes.into_iter().next().unwrap()
}

/// Asks again with the same key and a token of its own, which would approve strangers by itself.
async fn ask_again(world: &World, host: &Host) -> (Host, v1::JoinAnswer, Vec<u8>) {
    let token = world.token("prod", 1, true).await;
    let again = Host { key: Signer::from_seed(&host.key.seed()), ..Host::new(&token, &host.name) };
    let (answer, nonce) = again.join(world).await.unwrap();
    (again, answer, nonce)
}

#[tokio::test]
async fn an_evicted_key_waits_for_an_operator_and_may_keep_its_id_under_the_next_generation() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 1, true).await, "one");
    let first = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &first).await.unwrap();
    let address = world.node("one").await.overlay_ipv4;
    world.revoke("one", true).await.unwrap();
    // Its old token is spent on it.
    assert_eq!(reason(host.join(&world).await.unwrap_err()), Reason::EnrollmentDecided);

    let (again, answer, nonce) = ask_again(&world, &host).await;
    assert_eq!(answer.state, "pending", "an operator decides, whatever the token says");
    let node = approve(&world, &answer.request_id, true).await;
    assert_eq!(node.node_id, first.node.to_vec());
    assert_eq!(
        (node.key_generation, node.overlay_ipv4, node.identity_status.as_str()),
        (2, address, "active")
    );
    let bootstrap = again.poll(&world, &answer.request_id).await.unwrap();
    let second = again.open(&bootstrap.contract, &answer.request_id, &nonce);
    let (new_slot, certificate) = again.certificate(&world, &second).await.unwrap();
    assert_eq!(NodeCertificate::from_der(&certificate.leaf).unwrap().identity.key_generation, 2);
    assert!(again.is_refused(&world, &slot).await, "the leaf of the evicted generation");
    again.stream(&world, &new_slot, hello()).await.update().await;
    world.stop().await;
}

#[tokio::test]
async fn a_returning_key_gets_a_new_id_if_the_operator_does_not_say_otherwise() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 1, true).await, "one");
    let first = host.enrol(&world).await;
    host.leave(&world, &first).await.unwrap();
    let (_, answer, _) = ask_again(&world, &host).await;
    let node = approve(&world, &answer.request_id, false).await;
    assert_ne!(node.node_id, first.node.to_vec());
    assert_eq!(node.key_generation, 1);
    world.stop().await;
}

#[tokio::test]
async fn policy_can_let_returning_keys_keep_their_ids() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let change =
        v1::MembershipPolicySetRequest { cluster: "prod".into(), keep_ids: Some(true), ..Default::default() };
    let policy = world.membership().await.policy_set(world.request(change)).await.unwrap().into_inner();
    assert_eq!((policy.keep_ids, policy.ephemeral_after_ms), (true, 600_000));
    let short = v1::MembershipPolicySetRequest {
        cluster: "prod".into(),
        ephemeral_after_ms: Some(10),
        ..Default::default()
    };
    let refused = world.membership().await.policy_set(world.request(short)).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RequestInvalid);
    let host = Host::new(&world.token("prod", 1, true).await, "one");
    let first = host.enrol(&world).await;
    host.leave(&world, &first).await.unwrap();
    let (_, answer, _) = ask_again(&world, &host).await;
    assert_eq!(approve(&world, &answer.request_id, false).await.node_id, first.node.to_vec());
    world.stop().await;
}

#[tokio::test]
async fn a_node_leaves_by_its_key_alone_and_only_once() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let (host, other) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let (member, twin) = (host.enrol(&world).await, other.enrol(&world).await);
    // Another node's key does not take it out.
    let impostor = Host { key: Signer::from_seed(&other.key.seed()), ..Host::new(&token, "x") };
    assert_eq!(reason(impostor.leave(&world, &member).await.unwrap_err()), Reason::EnrollmentRefused);
    assert_eq!(world.node("one").await.identity_status, "active");

    assert_eq!(host.leave(&world, &member).await.unwrap().revocation_sequence, 1);
    assert_eq!(host.leave(&world, &member).await.unwrap().revocation_sequence, 1, "again");
    let node = world.node(&member.node.to_string()).await;
    assert_eq!((node.identity_status.as_str(), node.revocation.as_str()), ("left", "left"));
    assert_eq!(reason(host.certificate(&world, &member).await.unwrap_err()), Reason::NodeUnknown);
    // A ban can be added to a node that is gone.
    world.revoke(&member.node.to_string(), false).await.unwrap();
    assert_eq!(world.node(&member.node.to_string()).await.revocation, "banned");
    assert_eq!(host.leave(&world, &member).await.unwrap().revocation_sequence, 2);
    assert_eq!(world.node(&twin.node.to_string()).await.identity_status, "active");
    world.stop().await;
}

#[tokio::test]
async fn a_rotated_identity_ends_the_old_generation_and_the_answer_can_be_asked_for_again() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let host = Host::new(&token, "one");
    let member = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &member).await.unwrap();
    let mut stream = host.stream(&world, &slot, hello()).await;
    stream.update().await;
    let next = Signer::generate(&mut rand::rng());
    let rotate = || host.rotate(&world, &member, Some(&next), None);
    assert_eq!(rotate().await.unwrap().key_generation, 2);
    assert_eq!(rotate().await.unwrap().key_generation, 2, "again: nothing rotates twice");
    let ended = async {
        loop {
            if let Err(status) = stream.next().await {
                return reason(status);
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap(), Reason::NodeRevoked);
    assert!(host.is_refused(&world, &slot).await);
    assert_eq!(reason(host.certificate(&world, &member).await.unwrap_err()), Reason::EnrollmentRefused);

    let now = Host { key: Signer::from_seed(&next.seed()), ..Host::new(&token, "one") };
    let (new_slot, certificate) = now.certificate(&world, &member).await.unwrap();
    assert_eq!(NodeCertificate::from_der(&certificate.leaf).unwrap().identity.key_generation, 2);
    now.stream(&world, &new_slot, hello()).await.update().await;
    let node = world.node("one").await;
    assert_eq!((node.node_id, node.node_public_key), (member.node.to_vec(), next.public().to_vec()));
    // The old key is nobody's any more.
    let fresh = world.token("prod", 1, true).await;
    let old = Host { key: Signer::from_seed(&host.key.seed()), ..Host::new(&fresh, "old") };
    assert_eq!(reason(old.join(&world).await.unwrap_err()), Reason::NodeRevoked);
    world.stop().await;
}

#[tokio::test]
async fn a_rotation_needs_both_keys_and_takes_nobody_elses() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let (host, other) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let (member, twin) = (host.enrol(&world).await, other.enrol(&world).await);
    let refused = |outcome: Result<v1::RotateKeyAnswer, tonic::Status>| reason(outcome.unwrap_err());
    assert_eq!(refused(host.rotate(&world, &member, None, None).await), Reason::EnrollmentRefused);
    assert_eq!(refused(host.rotate(&world, &member, Some(&host.key), None).await), Reason::EnrollmentRefused);
    assert_eq!(refused(other.rotate(&world, &member, None, Some([9; 32])).await), Reason::EnrollmentRefused);
    assert_eq!(
        refused(host.rotate(&world, &member, Some(&other.key), None).await),
        Reason::EnrollmentKeyInUse
    );
    assert_eq!(
        refused(host.rotate(&world, &member, None, Some(other.wireguard)).await),
        Reason::EnrollmentKeyInUse
    );
    let before = wireguard_of(&world, &twin, &member).await;
    assert_eq!(before, host.wireguard);
    assert_eq!(host.rotate(&world, &member, None, Some([9; 32])).await.unwrap().key_generation, 1);
    assert_eq!(wireguard_of(&world, &twin, &member).await, [9; 32]);
    world.stop().await;
}

/// The WireGuard key that peers are told, once the newest version is out.
async fn wireguard_of(world: &World, of: &VerifiedBootstrap, peer: &VerifiedBootstrap) -> [u8; 32] {
    let snapshot = world.snapshot(of).await;
    snapshot.contents().peers.get(&peer.node).unwrap().wireguard_public_key.as_slice().try_into().unwrap()
}

#[tokio::test]
async fn an_ephemeral_node_goes_after_its_absence_and_never_while_connected() {
    let world = World::dev_with(|raw| raw.report_interval_ms = Some(1_000)).await;
    world.cluster("prod").await;
    let change = v1::MembershipPolicySetRequest {
        cluster: "prod".into(),
        ephemeral_after_ms: Some(5_000),
        ..Default::default()
    };
    world.membership().await.policy_set(world.request(change)).await.unwrap();
    let request = v1::TokenCreateRequest {
        cluster: "prod".into(),
        uses: 3,
        auto_approve: true,
        ttl_ms: 3_600_000,
        ephemeral: true,
        ..Default::default()
    };
    let token = world.admin().await.token_create(world.request(request)).await.unwrap().into_inner();
    let (gone, here) = (Host::new(&token, "gone"), Host::new(&token, "here"));
    // Whether another replica has it cannot be known here so soon.
    let unseen = Host::new(&token, "unseen").enrol(&world).await;
    let lasting = Host::new(&world.token("prod", 1, true).await, "lasting").enrol(&world).await;
    let absent = gone.enrol(&world).await;
    let present = here.enrol(&world).await;
    let (slot, _) = here.certificate(&world, &present).await.unwrap();
    let mut stream = here.stream(&world, &slot, hello()).await;
    stream.update().await;
    let (slot, _) = gone.certificate(&world, &absent).await.unwrap();
    gone.stream(&world, &slot, hello()).await.update().await;
    let removed = async {
        while world.node(&absent.node.to_string()).await.revocation != "absent" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), removed).await.unwrap();
    assert_eq!(reason(gone.certificate(&world, &absent).await.unwrap_err()), Reason::NodeRevoked);
    for node in [present.node, lasting.node, unseen.node] {
        assert_eq!(world.node(&node.to_string()).await.identity_status, "active");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_node_that_only_the_database_calls_ephemeral_is_not_removed() {
    let world = World::dev_with(|raw| raw.report_interval_ms = Some(1_000)).await;
    world.cluster("prod").await;
    let change = v1::MembershipPolicySetRequest {
        cluster: "prod".into(),
        ephemeral_after_ms: Some(5_000),
        ..Default::default()
    };
    world.membership().await.policy_set(world.request(change)).await.unwrap();
    let lasting = Host::new(&world.token("prod", 1, true).await, "lasting").enrol(&world).await;
    // It lies where silence is counted, and says the truth where a row with its MAC is read.
    let lie = "ALTER TABLE nodes NO FORCE ROW LEVEL SECURITY; ALTER TABLE nodes RENAME TO nodes_kept; \
        DO $$ BEGIN EXECUTE (SELECT 'CREATE VIEW nodes AS SELECT ' || string_agg(CASE attname::text \
            WHEN 'ephemeral' THEN 'ephemeral OR current_query() LIKE ''%greatest(n.status_at%'' AS ephemeral' \
            ELSE attname::text END, ', ' ORDER BY attnum) || ' FROM nodes_kept' FROM pg_attribute \
            WHERE attrelid = 'nodes_kept'::regclass AND attnum > 0 AND NOT attisdropped); END $$; \
        GRANT ALL ON nodes TO PUBLIC";
    world.database.as_ref().unwrap().tamper_all(&[], lie).await;
    let alarmed = async {
        while world.running.replica.watch.metrics.alarms(Reason::RowTampered) == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // It had no stream here: half a minute of silence.
    tokio::time::timeout(Duration::from_secs(75), alarmed).await.expect("it was to be removed");
    assert_eq!(world.node(&lasting.node.to_string()).await.identity_status, "active");
    world.stop().await;
}
