//! Values that no operator means and claims that no honest node makes: refused with a code of the caller's, nothing
//! changes, nobody is alarmed by hearsay.

use std::fmt::Debug;
use std::time::Duration;

use rap_contract::{
    BreakGlassOrder, BreakGlassSigner, BreakGlassText, FEATURE_DEV, Signer, sign_break_glass,
};
use rap_rpc::v1::audit_client::AuditClient;
use rap_rpc::v1::break_glass_client::BreakGlassClient;
use rap_rpc::v1::grants_client::GrantsClient;
use rap_runtime::Clock;
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use tonic::{Response, Status};
use v1::control_message::Body;
use v1::node_message::Body as Say;

use crate::host::{NodeStream, hello, member};
use crate::world::{World, reason};

/// Refused, and by a code that tells the caller that it is the caller's fault.
#[track_caller]
pub fn refused<T: Debug>(what: &str, outcome: Result<Response<T>, Status>) -> Reason {
    let status = outcome.expect_err(what);
    let found = reason(status.clone());
    let ours = [Reason::ServerInternal, Reason::StoreUnavailable, Reason::RowTampered, Reason::StateNoSpace];
    assert!(!ours.contains(&found), "{what}: {found} {}", status.message());
    found
}

/// Refused as above, or answered: either way no fault of ours.
#[track_caller]
fn answered<T: Debug>(what: &str, outcome: Result<Response<T>, Status>) {
    if let Err(status) = outcome {
        refused::<T>(what, Err(status));
    }
}

/// How much was done so far: entries of the audit log. Reads leave none, and a refusal one that says no more than that.
async fn written(world: &World) -> usize {
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let rows =
        rap_store::audit_list(&mut transaction, &rap_store::AuditFilter::default(), 1000).await.unwrap();
    rows.iter().filter(|row| row.entry.action != "act.refuse").count()
}

pub fn alarms(world: &World) -> u64 {
    Reason::ALL.iter().map(|reason| world.running.replica.watch.metrics.alarms(*reason)).sum()
}

#[tokio::test]
async fn texts_that_nobody_means_change_nothing_and_are_no_fault_of_the_server() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let channel = world.line().await.channel;
    let (mut grants, mut audit) = (GrantsClient::new(channel.clone()), AuditClient::new(channel.clone()));
    let mut break_glass = BreakGlassClient::new(channel);
    let (mut authority, mut membership) = (world.authority().await, world.membership().await);
    let before = written(&world).await;
    let key = Signer::generate(&mut rand::rng()).public().to_vec();
    for text in ["\0", "prod\0", "\u{1b}[31m", "", &"x".repeat(60_000), "'; DROP TABLE nodes; --", "01900000"]
    {
        let word = &format!("{:?}", &text[..text.len().min(20)]);
        let cluster = || v1::ClusterRef { cluster: text.into() };
        let next = || v1::AuthorityKeyRequest { cluster: text.into(), ..Default::default() };
        let step = || v1::AuthorityStepRequest { cluster: text.into(), ..Default::default() };
        refused(word, grants.show(world.request(v1::GrantRef { grant: text.into() })).await);
        let revoke = v1::GrantRevokeRequest { grant: text.into(), reason: text.into() };
        refused(word, grants.revoke(world.request(revoke)).await);
        let add = v1::GrantAddRequest {
            name: "ann".into(),
            subject_key: key.clone(),
            platform_role: text.into(),
            ..Default::default()
        };
        refused(word, grants.add(world.request(add)).await);
        refused(word, authority.authority_list(world.request(cluster())).await);
        refused(word, authority.authority_confirmations(world.request(cluster())).await);
        refused(word, authority.authority_prepare(world.request(next())).await);
        refused(word, authority.authority_rotate(world.request(next())).await);
        refused(word, authority.authority_recover(world.request(next())).await);
        refused(word, authority.authority_taint(world.request(step())).await);
        refused(word, authority.authority_revoke(world.request(step())).await);
        refused(word, membership.policy_show(world.request(cluster())).await);
        let policy = v1::MembershipPolicySetRequest { cluster: text.into(), ..Default::default() };
        refused(word, membership.policy_set(world.request(policy)).await);
        let list = v1::RevocationListRequest { cluster: text.into(), after: 0 };
        refused(word, membership.revocation_list(world.request(list)).await);
        let node = v1::NodeRevokeRequest { cluster: "prod".into(), node: text.into(), ..Default::default() };
        refused(word, membership.node_revoke(world.request(node)).await);
        let uses = v1::BreakGlassUsesRequest { cluster: text.into() };
        refused(word, break_glass.uses(world.request(uses)).await);
        for list in [
            v1::AuditListRequest { actor: text.into(), ..Default::default() },
            v1::AuditListRequest { action: text.into(), ..Default::default() },
        ] {
            answered(word, audit.list(world.request(list)).await);
        }
        let tokens = v1::TokenListRequest { cluster: text.into() };
        refused(word, world.admin().await.token_list(world.request(tokens)).await);
        let nodes = v1::NodeRef { cluster: "prod".into(), node: text.into() };
        refused(word, world.admin().await.node_show(world.request(nodes)).await);
    }
    for name in ["\0", "a\0b", " ", "\u{7}", &"x".repeat(257)] {
        let add = v1::GrantAddRequest {
            name: name.into(),
            subject_key: key.clone(),
            platform_role: "platform_admin".into(),
            ..Default::default()
        };
        assert_eq!(refused(name, grants.add(world.request(add)).await), Reason::RequestInvalid);
        let create = v1::ClusterCreateRequest { name: name.into(), ..Default::default() };
        refused(name, world.admin().await.cluster_create(world.request(create)).await);
        let token =
            v1::TokenCreateRequest { cluster: "prod".into(), tags: vec![name.into()], ..Default::default() };
        refused(name, world.admin().await.token_create(world.request(token)).await);
    }
    assert_eq!(written(&world).await, before);
    assert_eq!(alarms(&world), 0);
    world.stop().await;
}

#[tokio::test]
async fn numbers_and_keys_out_of_every_range_are_refused() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let channel = world.line().await.channel;
    let (mut grants, mut audit) = (GrantsClient::new(channel.clone()), AuditClient::new(channel.clone()));
    let mut break_glass = BreakGlassClient::new(channel);
    let (mut authority, mut membership) = (world.authority().await, world.membership().await);
    let max = u64::MAX;
    let list = v1::AuditListRequest::default();
    for list in [
        v1::AuditListRequest { before: max, ..list.clone() },
        v1::AuditListRequest { since_ms: i64::MAX, ..list.clone() },
        v1::AuditListRequest { since_ms: i64::MIN, limit: u32::MAX, ..list.clone() },
    ] {
        answered("list", audit.list(world.request(list)).await);
    }
    for (from_generation, from_size) in [(1, max), (max, max), (0, max), (1, 1 << 40)] {
        let from = v1::AuditCheckpointRequest { from_generation, from_size };
        answered("checkpoint", audit.checkpoint(world.request(from)).await);
    }
    for (tree_size, indexes) in
        [(max, vec![max]), (max, vec![0]), (0, vec![0]), (1, vec![1]), (1, vec![0; 1001])]
    {
        let paths = v1::AuditInclusionRequest { tree_size, indexes };
        refused("inclusion", audit.inclusion(world.request(paths)).await);
    }
    for (from, limit) in [(max, u32::MAX), (1 << 63, 1), (1 << 40, 0)] {
        answered("entries", audit.entries(world.request(v1::AuditEntriesRequest { from, limit })).await);
    }
    let before = written(&world).await;
    for after in [max, 1 << 63] {
        let list = v1::RevocationListRequest { cluster: "prod".into(), after };
        answered("revocations", membership.revocation_list(world.request(list)).await);
    }
    for sequence in [max, 1 << 63, 7] {
        let step = v1::AuthorityStepRequest { cluster: "prod".into(), sequence, ..Default::default() };
        refused("taint", authority.authority_taint(world.request(step.clone())).await);
        refused("revoke", authority.authority_revoke(world.request(step)).await);
    }
    for seed in [vec![1; 31], vec![1; 33], vec![1; 60_000], vec![0; 32]] {
        let next = v1::AuthorityKeyRequest {
            cluster: "prod".into(),
            imported_seed: seed.clone(),
            ..Default::default()
        };
        assert_eq!(
            refused("seed", authority.authority_prepare(world.request(next.clone())).await),
            Reason::KeyInvalid
        );
        assert_eq!(
            refused("seed", authority.authority_rotate(world.request(next.clone())).await),
            Reason::KeyInvalid
        );
        assert_eq!(
            refused("seed", authority.authority_recover(world.request(next)).await),
            Reason::KeyInvalid
        );
    }
    let policy = v1::MembershipPolicySetRequest { cluster: "prod".into(), ..Default::default() };
    for policy in [
        v1::MembershipPolicySetRequest { ephemeral_after_ms: Some(max), ..policy.clone() },
        v1::MembershipPolicySetRequest { ephemeral_after_ms: Some(0), ..policy.clone() },
        v1::MembershipPolicySetRequest { identity_key_max_age_ms: Some(1), ..policy.clone() },
        v1::MembershipPolicySetRequest { wireguard_key_max_age_ms: Some(max), ..policy.clone() },
    ] {
        refused("policy", membership.policy_set(world.request(policy)).await);
    }
    for subject_key in [vec![], vec![0; 32], vec![1; 31], vec![9; 50_000]] {
        let add = v1::GrantAddRequest {
            name: "ann".into(),
            subject_key,
            platform_role: "platform_admin".into(),
            valid_for_ms: 0,
        };
        refused("key", grants.add(world.request(add)).await);
    }
    let key = Signer::generate(&mut rand::rng()).public().to_vec();
    for valid_for_ms in [max, 1] {
        let add = v1::GrantAddRequest {
            name: "ann".into(),
            subject_key: key.clone(),
            platform_role: "platform_admin".into(),
            valid_for_ms,
        };
        refused("life", grants.add(world.request(add)).await);
    }
    for (ttl_ms, until_ms, node_id) in [
        (max, i64::MAX, vec![]),
        (3_600_000, i64::MIN, vec![]),
        (1, 1, vec![]),
        (3_600_000, Clock::new().now().wall.0 + 60_000, vec![0; 16]),
        (3_600_000, Clock::new().now().wall.0 + 60_000, vec![1; 50_000]),
    ] {
        let permit = v1::break_glass_issue_request::Permit::ExtendDegraded(v1::ExtendDegraded { until_ms });
        let issue = v1::BreakGlassIssueRequest {
            cluster: "prod".into(),
            reason: "lost".into(),
            ttl_ms,
            node_id,
            permit: Some(permit),
        };
        refused("issue", break_glass.issue(world.request(issue)).await);
    }
    let peer =
        v1::PeerRecord { node_id: vec![1; 16], roles: vec!["core".into(); 5_000], ..Default::default() };
    let permit = v1::break_glass_issue_request::Permit::PermitPeer(v1::PermitPeer { peer: Some(peer) });
    let issue = v1::BreakGlassIssueRequest {
        cluster: "prod".into(),
        reason: "lost".into(),
        permit: Some(permit),
        ..Default::default()
    };
    refused("peer", break_glass.issue(world.request(issue)).await);
    assert_eq!(written(&world).await, before);
    assert_eq!(alarms(&world), 0);
    world.stop().await;
}

/// The code by which the control plane ends the stream.
async fn ends(stream: &mut NodeStream) -> Reason {
    loop {
        if let Err(status) = stream.next().await {
            return reason(status);
        }
    }
}

#[tokio::test]
async fn what_a_node_says_raises_no_alarm_that_is_not_its_own() {
    let world = World::dev().await;
    let (host, _, slot) = member(&world).await;

    // Codes of the control plane's own, in a node's mouth.
    for code in ["row.tampered", "state.no_space", "secret.unseal", "server.internal", "no.such.code"] {
        let mut stream = host.stream(&world, &slot, hello()).await;
        let confirm = v1::AuthorityConfirm { reason: code.into(), ..Default::default() };
        stream.say(Say::Authority(confirm)).await;
        ends(&mut stream).await;
        let mut stream = host.stream(&world, &slot, hello()).await;
        let nack = v1::SnapshotNack { reason: code.into(), evidence: vec![7; 3000], ..Default::default() };
        stream.say(Say::Nack(nack)).await;
        stream.update().await;
    }
    // Proofs of a past that never was.
    for hello in [
        v1::NodeHello { newest_head: vec![7; 100_000], ..hello() },
        v1::NodeHello { newest_checkpoint: vec![7; 100_000], ..hello() },
        v1::NodeHello { newest_checkpoint: b"rap\n18446744073709551615\nAAAA\n".to_vec(), ..hello() },
        v1::NodeHello { authority_sequence: u64::MAX, boot_id: "\u{1b}".repeat(1000), ..hello() },
        v1::NodeHello { capabilities: vec!["x".repeat(1000); 50], ..hello() },
        v1::NodeHello { link_hints: vec!["999.1.1.1:99999".into(); 5000], ..hello() },
    ] {
        let mut stream = host.stream(&world, &slot, hello).await;
        stream.update().await;
    }
    for hello in [
        v1::NodeHello { leaf_hash: vec![1; 31], ..hello() },
        v1::NodeHello { agent_version: "\0".into(), ..hello() },
        v1::NodeHello { protocol_min: u32::MAX, protocol_max: 0, ..hello() },
    ] {
        let mut stream = host.stream(&world, &slot, hello).await;
        assert_eq!(ends(&mut stream).await, Reason::RequestInvalid);
    }
    assert_eq!(alarms(&world), 0);
    world.stop().await;
}

#[tokio::test]
async fn acknowledgements_that_nobody_awaits_count_for_nothing_and_contacts_go_on() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let mut stream = host.stream(&world, &slot, hello()).await;
    stream.update().await;
    let served = world.running.replica.serving.clusters.named("prod").unwrap();
    let leaf = served.feed.newest().unwrap().leaf_hash(bootstrap.node).unwrap().to_vec();
    let (version, before) = (served.feed.newest().unwrap().order.version.0, Clock::new().now().wall.0);
    for leaf_hash in [vec![7; 32], vec![7; 31], leaf.clone(), leaf, vec![]] {
        let max = u64::MAX;
        let ack =
            v1::SnapshotAck { leaf_hash, incarnation: max, version: max, refresh: max, applied_at_ms: -1 };
        stream.say(Say::Ack(ack)).await;
    }
    let recorded = async {
        loop {
            let node = world.node(&bootstrap.node.to_string()).await;
            if node.acked_version != 0 && node.last_seen_at_ms >= before {
                break node.acked_version;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), recorded).await.unwrap(), version);
    drop(stream);
    // Not what the stream knows, what was written.
    let stored = async {
        loop {
            let node = world.node(&bootstrap.node.to_string()).await;
            if !node.connected && node.acked_version != 0 {
                break node.acked_version;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), stored).await.unwrap(), version);
    assert_eq!(alarms(&world), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_node_with_many_forged_uses_raises_few_alarms_and_loses_its_stream() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let now = Clock::new().now().wall;
    let until_ms = now.plus(Duration::from_secs(60)).0;
    let order = BreakGlassOrder {
        installation: bootstrap.contract.header().installation,
        cluster: bootstrap.contract.header().cluster,
        node: Some(bootstrap.node),
        reason: "forged".into(),
        ttl: Duration::from_secs(3600),
        permit: v1::break_glass_grant::Permit::ExtendDegraded(v1::ExtendDegraded { until_ms }),
        nonce: [7; 32],
        critical: vec![FEATURE_DEV.into()],
    };
    let eve = Signer::from_seed(&[66; 32]);
    let forge = |order: &BreakGlassOrder| {
        sign_break_glass(order, &[&eve], BreakGlassSigner::ClusterAuthority, now).unwrap().0
    };
    let other = forge(&BreakGlassOrder { node: Some(NodeId::from_bytes([9; 16])), ..order.clone() });
    let mut stream = host.stream(&world, &slot, hello()).await;
    // What does not even read is not answered, and is no alarm.
    for file in [vec![], vec![0xff; 70_000], BreakGlassText::new(vec![1; 500], Vec::new()).encode()] {
        stream.say(Say::BreakGlass(v1::BreakGlassUse { file, applied_at_ms: i64::MIN })).await;
    }
    for file in [forge(&order), other].iter().cycle().take(100) {
        let told = v1::BreakGlassUse { file: file.encode(), applied_at_ms: i64::MAX };
        let said = v1::NodeMessage { body: Some(Say::BreakGlass(told)) };
        if stream.send.send(said).await.is_err() {
            break;
        }
    }
    let mut refusals = 0;
    let end = loop {
        match stream.next().await {
            Ok(Body::BreakGlassAck(ack)) => {
                assert!(!ack.reason.is_empty());
                refusals += 1;
            }
            Ok(_) => {}
            Err(status) => break reason(status),
        }
    };
    assert_eq!(end, Reason::RateLimited);
    assert!(refusals < 8, "{refusals}");
    assert!((1..=8).contains(&alarms(&world)), "{}", alarms(&world));
    // The next stream is served: the node may be honest again.
    host.stream(&world, &slot, hello()).await.update().await;
    world.stop().await;
}
