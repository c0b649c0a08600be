//! Break-glass grants: issued by an owner, used by a node that was away, in the audit log exactly once.

use rap_contract::{
    BreakGlassExpectation, BreakGlassOrder, BreakGlassSigner, BreakGlassText, FEATURE_DEV, KeyFile, Signer,
    sign_break_glass,
};
use rap_rpc::v1::break_glass_client::BreakGlassClient;
use rap_runtime::Clock;
use rap_store::{AuditFilter, audit_list};
use rap_types::{Reason, Wall};
use rap_wire::v1;
use v1::control_message::Body;
use v1::node_message::Body as Say;

use crate::host::{NodeStream, hello, member};
use crate::world::{World, reason};

fn asked(reason: &str, until: Wall) -> v1::BreakGlassIssueRequest {
    let extend = v1::ExtendDegraded { until_ms: until.0 };
    v1::BreakGlassIssueRequest {
        cluster: "prod".into(),
        reason: reason.into(),
        ttl_ms: 3_600_000,
        permit: Some(v1::break_glass_issue_request::Permit::ExtendDegraded(extend)),
        ..Default::default()
    }
}

/// How often this was written into the audit log.
async fn audited(world: &World, action: &str) -> Vec<String> {
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
    let rows = audit_list(&mut transaction, &filter, 100).await.unwrap();
    rows.into_iter().map(|row| row.entry.reason).collect()
}

async fn told(stream: &mut NodeStream, file: &BreakGlassText) -> v1::BreakGlassAck {
    let applied_at_ms = Clock::new().now().wall.0;
    stream.say(Say::BreakGlass(v1::BreakGlassUse { file: file.encode(), applied_at_ms })).await;
    loop {
        if let Body::BreakGlassAck(ack) = stream.next().await.unwrap() {
            return ack;
        }
    }
}

#[tokio::test]
async fn a_grant_is_issued_used_and_burned_into_the_audit_log_exactly_once() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let mut operator = BreakGlassClient::new(world.line().await.channel);
    let now = Clock::new().now().wall;
    let until = now.plus(std::time::Duration::from_secs(1800));

    // Without a session, without a reason, for too long: nothing is signed.
    let open = tonic::Request::new(asked("lost", until));
    assert_eq!(reason(operator.issue(open).await.unwrap_err()), Reason::SessionMissing);
    for bad in [
        asked("", until),
        asked("lost", now.plus(std::time::Duration::from_secs(7200))),
        v1::BreakGlassIssueRequest { ttl_ms: 25 * 3_600_000, ..asked("lost", until) },
        v1::BreakGlassIssueRequest { permit: None, ..asked("lost", until) },
    ] {
        let refused = operator.issue(world.request(bad)).await.unwrap_err();
        assert_eq!(reason(refused), Reason::RequestInvalid);
    }
    assert_eq!(audited(&world, "break_glass.issue").await, [] as [&str; 0]);

    let answer = operator.issue(world.request(asked("rack lost", until))).await.unwrap().into_inner();
    assert_eq!(audited(&world, "break_glass.issue").await, ["rack lost"]);
    let file = BreakGlassText::parse(&answer.text).unwrap();
    let contract = &bootstrap.contract;
    let known = BreakGlassExpectation {
        installation: contract.header().installation,
        cluster: contract.header().cluster,
        node: Some(bootstrap.node),
        authority: bootstrap.chain.active(),
        activation_manifest: &contract.activation_manifest,
        now: Some(Clock::new().now().wall),
        features: &[FEATURE_DEV],
    };
    assert_eq!(file.open(&known).unwrap().digest().to_vec(), answer.digest, "a node verifies it alone");

    // Told twice on one stream and again on the next: confirmed each time, written once.
    for _ in 0..2 {
        let mut stream = host.stream(&world, &slot, hello()).await;
        for _ in 0..2 {
            let ack = told(&mut stream, &file).await;
            assert_eq!((ack.digest, ack.reason.as_str()), (answer.digest.clone(), ""));
        }
    }
    assert_eq!(audited(&world, "break_glass.use").await, ["rack lost"]);

    // One of the Product Root, that this control plane never saw before.
    let root = std::fs::read_to_string(world.data_dir.join("dev-root.key")).unwrap();
    let root = KeyFile::parse(&root).unwrap().unprotected().unwrap().unwrap();
    let order = BreakGlassOrder {
        installation: contract.header().installation,
        cluster: contract.header().cluster,
        node: Some(bootstrap.node),
        reason: "authority lost".into(),
        ttl: std::time::Duration::from_secs(3600),
        permit: v1::break_glass_grant::Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: until.0 }),
        nonce: [7; 32],
        critical: vec![FEATURE_DEV.into()],
    };
    let (of_root, _) = sign_break_glass(&order, &[&root], BreakGlassSigner::ProductRoot, now).unwrap();
    let mut stream = host.stream(&world, &slot, hello()).await;
    assert_eq!(told(&mut stream, &of_root).await.reason, "");
    // And one that nobody here signed: refused by name, not written, told no more.
    let eve = Signer::from_seed(&[66; 32]);
    let (forged, _) = sign_break_glass(&order, &[&eve], BreakGlassSigner::ProductRoot, now).unwrap();
    let ack = told(&mut stream, &forged).await;
    assert_eq!((ack.digest, ack.reason.as_str()), (forged.digest().unwrap().to_vec(), "key.unknown"));
    assert_eq!(audited(&world, "break_glass.use").await, ["authority lost", "rack lost"]);

    let request = v1::BreakGlassUsesRequest { cluster: "prod".into() };
    let uses = operator.uses(world.request(request)).await.unwrap().into_inner().uses;
    let signers: Vec<&str> = uses.iter().map(|row| row.signer.as_str()).collect();
    assert_eq!(signers, ["product-root", "cluster-authority"]);
    assert!(uses.iter().all(|row| row.node_id == bootstrap.node.to_vec()));
    world.stop().await;
}

#[tokio::test]
async fn a_peer_that_no_node_could_use_is_not_admitted_by_any_grant() {
    let world = World::dev().await;
    let (_, bootstrap, _) = member(&world).await;
    let mut operator = BreakGlassClient::new(world.line().await.channel);
    let contract = &bootstrap.contract;
    let bare = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
    let (ipv4, ipv6) = (bare(&contract.overlay_ipv4), bare(&contract.overlay_ipv6));
    let (network, _) = ipv4.rsplit_once('.').unwrap();
    let sound = v1::PeerRecord {
        node_id: vec![77; 16],
        name: "rescue".into(),
        node_key_sha256: vec![77; 32],
        wireguard_public_key: vec![78; 32],
        overlay_ipv4: format!("{network}.77"),
        overlay_ipv6: format!("{}77", &ipv6[..ipv6.len() - 1]),
        key_generation: 1,
        ..Default::default()
    };
    let permit = |peer: v1::PeerRecord| v1::BreakGlassIssueRequest {
        permit: Some(v1::break_glass_issue_request::Permit::PermitPeer(v1::PermitPeer { peer: Some(peer) })),
        ..asked("lost", Wall(0))
    };
    let senseless = [
        ("an all-zero key", v1::PeerRecord { wireguard_public_key: vec![0; 32], ..sound.clone() }),
        (
            "a key of small order",
            v1::PeerRecord { wireguard_public_key: [&[1][..], &[0; 31]].concat(), ..sound.clone() },
        ),
        ("the network's address", v1::PeerRecord { overlay_ipv4: "100.96.0.0".into(), ..sound.clone() }),
        ("an address of others", v1::PeerRecord { overlay_ipv4: "8.8.8.8".into(), ..sound.clone() }),
        (
            "a metadata service",
            v1::PeerRecord { link_endpoints: vec!["169.254.169.254:80".into()], ..sound.clone() },
        ),
        ("a path as name", v1::PeerRecord { name: "../../x".into(), ..sound.clone() }),
        ("another node's name", v1::PeerRecord { name: contract.node_name.clone(), ..sound.clone() }),
        ("generation 0", v1::PeerRecord { key_generation: 0, ..sound.clone() }),
    ];
    for (what, peer) in senseless {
        let refused = operator.issue(world.request(permit(peer))).await;
        assert!(refused.is_err(), "{what}");
    }
    assert_eq!(audited(&world, "break_glass.issue").await.len(), 0, "nothing was signed");
    operator.issue(world.request(permit(sound))).await.unwrap();
}
