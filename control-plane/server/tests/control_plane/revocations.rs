//! Revoked nodes are out at every door, and the database cannot bring them back.

use std::time::Duration;

use prost::Message as _;
use rap_contract::{KnownRevocations, RevocationKind, Signer, peer_slot};
use rap_control_plane::acts::remove_node::write_record;
use rap_control_plane::database::change::Acting;
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use v1::control_message::Body;

use crate::host::{Host, NodeStream, hello};
use crate::world::{World, reason};

/// The trust chunk of an update, if it brings one.
fn trust(update: &v1::SnapshotUpdate) -> Option<v1::TrustChunk> {
    update.chunks.iter().find_map(|chunk| match v1::Chunk::decode(chunk.as_slice()).unwrap().body {
        Some(v1::chunk::Body::Trust(trust)) => Some(trust),
        _ => None,
    })
}

/// Waits for an update and acknowledges it with the leaf that the world serves.
async fn follow(world: &World, stream: &mut NodeStream, node: NodeId) -> v1::SnapshotUpdate {
    let update = stream.update().await;
    let leaf =
        world.running.replica.serving.clusters.named("prod").unwrap().feed.newest().unwrap().leaf_hash(node);
    let ack = v1::SnapshotAck { leaf_hash: leaf.unwrap().to_vec(), ..Default::default() };
    stream.say(v1::node_message::Body::Ack(ack)).await;
    update
}

/// The refusal that ends a stream.
pub async fn end_of(stream: &mut NodeStream) -> Reason {
    loop {
        if let Err(status) = stream.next().await {
            return reason(status);
        }
    }
}

#[tokio::test]
async fn a_revoked_node_is_out_at_every_replica_and_every_door() {
    let mut world = World::dev().await;
    let second = world.replica().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let (one, two) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let (lost, kept) = (one.enrol(&world).await, two.enrol(&world).await);
    let (slot, _) = one.certificate(&world, &lost).await.unwrap();
    let (kept_slot, _) = two.certificate(&world, &kept).await.unwrap();
    let mut peer = two.stream(&world, &kept_slot, hello()).await;
    follow(&world, &mut peer, kept.node).await;
    // The lost node is at the other replica, which has to hear of it.
    let first = world.through(second);
    let mut stream = one.stream(&world, &slot, hello()).await;
    stream.update().await;
    let second = world.through(first);

    let answer = world.revoke("one", false).await.unwrap();
    assert!(!answer.already);
    assert_eq!(answer.revocation_sequence, 1);
    let node = answer.node.unwrap();
    assert_eq!((node.identity_status.as_str(), node.revocation.as_str()), ("revoked", "banned"));
    let update = peer.update().await;
    assert_eq!(update.slots_removed, [peer_slot(lost.node)]);
    let told = trust(&update).unwrap();
    assert_eq!(told.revocation_sequence, 1);
    let revoked: Vec<_> = told.revoked.iter().map(|one| (one.node_id.clone(), one.key_generation)).collect();
    assert_eq!(revoked, [(lost.node.to_vec(), 1)]);
    assert_eq!(end_of(&mut stream).await, Reason::NodeRevoked);

    // No certificate, no connection, no request, at once and everywhere.
    assert_eq!(reason(one.certificate(&world, &lost).await.unwrap_err()), Reason::NodeRevoked);
    assert!(one.is_refused(&world, &slot).await);
    assert_eq!(reason(one.join(&world).await.unwrap_err()), Reason::NodeRevoked);
    let another = world.token("prod", 1, true).await;
    let returning = Host { token: Host::new(&another, "x").token, ..one };
    assert_eq!(reason(returning.join(&world).await.unwrap_err()), Reason::NodeRevoked);
    let first = world.through(second);
    assert!(returning.is_refused(&world, &slot).await);
    assert_eq!(reason(returning.certificate(&world, &lost).await.unwrap_err()), Reason::NodeRevoked);

    // Again is the same answer, by id, and says nothing new.
    let again = world.revoke(&lost.node.to_string(), true).await.unwrap();
    assert!(again.already);
    assert_eq!((again.revocation_sequence, again.node.unwrap().revocation), (1, "banned".to_owned()));
    first.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn unknown_nodes_and_other_clusters_are_named_precisely() {
    let world = World::dev().await;
    world.cluster("prod").await;
    world.cluster("test").await;
    let host = Host::new(&world.token("test", 1, true).await, "one").enrol(&world).await;
    for (node, text) in [
        ("nobody".to_owned(), "no present node has this name; gone ones go by id"),
        (host.node.to_string(), "no node of this cluster has this id"),
        (NodeId::from_bytes([9; 16]).to_string(), "no node of this cluster has this id"),
    ] {
        let refusal = rap_rpc::Refusal::from(&world.revoke(&node, false).await.unwrap_err());
        assert_eq!(
            (refusal.reason, refusal.message.clone()),
            (Reason::NodeUnknown, format!("`{node}`: {text}"))
        );
    }
    world.stop().await;
}

/// Waits until the newest version of the rows is published.
async fn settled(world: &World) {
    let request = v1::ClusterRef { cluster: "prod".into() };
    let version =
        world.admin().await.cluster_show(world.request(request)).await.unwrap().into_inner().version;
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    let mut versions = cluster.feed.follow();
    let is_out =
        versions.wait_for(|newest| newest.as_ref().is_some_and(|newest| newest.order.version.0 >= version));
    tokio::time::timeout(Duration::from_secs(10), is_out).await.unwrap().unwrap();
}

/// Alarms of this reason within ten seconds, or none.
async fn alarmed(world: &World, reason: Reason) -> bool {
    let seen = async {
        while world.running.replica.watch.metrics.alarms(reason) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.is_ok()
}

#[tokio::test]
async fn a_row_made_a_member_again_in_sql_alarms_and_nothing_new_is_signed() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let (one, two) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let (lost, kept) = (one.enrol(&world).await, two.enrol(&world).await);
    world.revoke("one", true).await.unwrap();
    settled(&world).await;
    let (slot, _) = two.certificate(&world, &kept).await.unwrap();
    let mut stream = two.stream(&world, &slot, hello()).await;
    follow(&world, &mut stream, kept.node).await;
    let served = world.running.replica.serving.clusters.named("prod").unwrap();
    let before = served.feed.newest().unwrap();

    // Also with the generation that would follow.
    let text = "UPDATE nodes SET identity_status = 'active', key_generation = key_generation + 1 \
                WHERE identity_status = 'revoked'; UPDATE clusters SET config_seq = config_seq + 1";
    world.database.as_ref().unwrap().tamper_all(&["nodes", "clusters"], text).await;
    assert_eq!(reason(one.certificate(&world, &lost).await.unwrap_err()), Reason::RowTampered);
    assert!(alarmed(&world, Reason::RowTampered).await);
    // Nodes get the last good version, signed again, and never the one that the rows ask for.
    let mut refreshed = 0;
    while refreshed < 2 {
        match stream.next().await.unwrap() {
            Body::Head(_) => refreshed += 1,
            Body::Update(_) => panic!("a version was made of tampered rows"),
            _ => {}
        }
    }
    let after = served.feed.newest().unwrap();
    assert_eq!(after.order.durable(), before.order.durable());
    assert!(after.order.refresh > before.order.refresh);
    world.stop().await;
}

#[tokio::test]
async fn a_chain_shorter_than_this_replica_has_seen_stops_new_versions_also_after_a_restart() {
    let mut world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    for name in ["one", "two", "three"] {
        Host::new(&token, name).enrol(&world).await;
    }
    world.revoke("one", false).await.unwrap();
    world.revoke("two", true).await.unwrap();
    settled(&world).await;
    let before = world.running.replica.serving.clusters.named("prod").unwrap().feed.newest().unwrap();
    let database = world.database.as_ref().unwrap();
    database.as_superuser(crate::grants::RESTORED).await;
    database.tamper("node_revocations", "DELETE FROM node_revocations WHERE sequence = 2").await;
    assert_eq!(reason(world.revoke("three", false).await.unwrap_err()), Reason::FloorRollback);
    database.tamper("clusters", "UPDATE clusters SET config_seq = config_seq + 1").await;
    assert!(alarmed(&world, Reason::FloorRollback).await);
    let refreshed = async {
        let served = world.running.replica.serving.clusters.named("prod").unwrap();
        let mut versions = served.feed.follow();
        let newer = versions.wait_for(|newest| newest.as_ref().is_some_and(|one| one.order > before.order));
        newer.await.unwrap().clone().unwrap().order.durable()
    };
    let order = tokio::time::timeout(Duration::from_secs(15), refreshed).await.unwrap();
    assert_eq!(order, before.order.durable(), "the last good head is signed again, and nothing else");

    let restarted = world.replica().await;
    world.through(restarted).stop().await;
    assert!(alarmed(&world, Reason::FloorRollback).await);
    let host = Host::new(&token, "four");
    assert_eq!(reason(host.join(&world).await.unwrap_err()), Reason::FloorRollback);
    world.stop().await;
}

#[tokio::test]
async fn a_forged_or_altered_record_is_refused() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    Host::new(&token, "one").enrol(&world).await;
    Host::new(&token, "two").enrol(&world).await;
    world.revoke("one", true).await.unwrap();
    let text = "UPDATE node_revocations SET record = set_byte(record, 90, 255 - get_byte(record, 90))";
    world.database.as_ref().unwrap().tamper("node_revocations", text).await;
    assert_eq!(reason(world.revoke("two", false).await.unwrap_err()), Reason::FloorEquivocation);
    let mut world = world;
    let restarted = world.replica().await;
    world.through(restarted).stop().await;
    assert_eq!(reason(world.revoke("two", false).await.unwrap_err()), Reason::SignatureInvalid);
    world.stop().await;
}

#[tokio::test]
async fn a_token_goes_with_every_node_it_admitted_and_every_request_that_waits() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let (token, other) = (world.token("prod", 9, true).await, world.token("prod", 9, true).await);
    let manual = world.token("prod", 9, false).await;
    Host::new(&token, "one").enrol(&world).await;
    Host::new(&token, "two").enrol(&world).await;
    Host::new(&other, "three").enrol(&world).await;
    let waiting = Host::new(&manual, "four");
    let (asked, _) = waiting.join(&world).await.unwrap();
    let revoke = |token: &v1::TokenCreateAnswer| v1::TokenRevokeRequest {
        token_id: token.token.clone().unwrap().token_id,
        with_nodes: true,
        reason: "leaked".into(),
    };
    let answer = world.admin().await.token_revoke(world.request(revoke(&token))).await.unwrap().into_inner();
    assert_eq!((answer.nodes_revoked.len(), answer.state.as_str()), (2, "revoked"));
    let list = v1::NodeListRequest { cluster: "prod".into(), pending: false };
    let nodes = world.admin().await.node_list(world.request(list)).await.unwrap().into_inner().nodes;
    let mut states: Vec<_> =
        nodes.iter().map(|node| (node.name.as_str(), node.revocation.as_str())).collect();
    states.sort_unstable();
    assert_eq!(states, [("one", "evicted"), ("three", ""), ("two", "evicted")]);
    let late = Host::new(&token, "late");
    assert_eq!(reason(late.join(&world).await.unwrap_err()), Reason::TokenRevoked);

    world.admin().await.token_revoke(world.request(revoke(&manual))).await.unwrap();
    assert_eq!(waiting.poll(&world, &asked.request_id).await.unwrap().state, "denied");
    world.stop().await;
}

#[tokio::test]
async fn the_chain_that_operators_get_verifies_from_the_installation_on() {
    use rap_contract::AuthorityChain;
    use rap_contract::FEATURE_DEV;
    use rap_contract::RevocationChain;
    use rap_contract::RevocationKind;
    let world = World::dev().await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 1, true).await, "one").enrol(&world).await;
    world.revoke("one", true).await.unwrap();
    let request = v1::RevocationListRequest { cluster: "prod".into(), after: 0 };
    let answer = world.membership().await.revocation_list(world.request(request)).await.unwrap().into_inner();
    let facts = &world.running.replica.keys.installation.facts;
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap().id;
    let features = [FEATURE_DEV];
    let authority =
        AuthorityChain::verify(&answer.authority_records, &facts.authority, facts.id, cluster, &features);
    let chain = RevocationChain::verify(&answer.records, &authority.unwrap(), &features).unwrap();
    assert_eq!(chain.gone(host.node), Some(RevocationKind::Evicted));
    assert_eq!((answer.sequence, answer.digest), (1, chain.digest().unwrap().to_vec()));
    world.stop().await;
}

#[tokio::test]
async fn a_replica_that_missed_a_rotation_looks_again_before_it_alarms() {
    let world = World::dev().await;
    let cluster_id = world.cluster("prod").await.cluster_id;
    let token = world.token("prod", 9, true).await;
    for name in ["one", "two", "three"] {
        Host::new(&token, name).enrol(&world).await;
    }
    let second = world.replica().await;
    let id = rap_types::ClusterId::from_slice(&cluster_id).unwrap();
    // What a handler of the other replica holds that began just before.
    let stale = second.replica.serving.clusters.by_id(id).unwrap();
    world.revoke("one", false).await.unwrap();
    let rotate = v1::AuthorityKeyRequest { cluster: "prod".into(), ..v1::AuthorityKeyRequest::default() };
    world.authority().await.authority_rotate(world.request(rotate)).await.unwrap();
    world.revoke("two", false).await.unwrap();

    let replica = &second.replica;
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    let known = KnownRevocations::default();
    let seen = replica.serving.revocations(&mut transaction, &stale, &known).await.unwrap();
    assert_eq!(seen.chain.sequence(), 2);
    assert_eq!(replica.watch.metrics.alarms(Reason::KeyUnknown), 0);
    // It does not sign with the key before, either: nobody would believe that record.
    let three = rap_store::node_by_name(&mut transaction, &stale.rows, "three").await.unwrap().unwrap();
    let acting = Acting::alone("system", replica.keys.pen.clone(), rap_types::Wall(0));
    let kind = RevocationKind::Banned;
    let write = write_record(&replica.watch, &mut transaction, &acting, &stale, seen, &three, kind);
    assert_eq!(write.await.unwrap_err().reason, Reason::RequestConflict);
    drop(transaction);
    let caught_up = async {
        while replica.serving.clusters.by_id(id).unwrap().chain.sequence() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), caught_up).await.expect("the other replica takes it over");

    // A record by nobody's key is an alarm at once, whoever holds what.
    let stranger = Signer::generate(&mut rand::rng());
    let fresh = replica.serving.clusters.by_id(id).unwrap();
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    let known =
        replica.serving.revocations(&mut transaction, &fresh, &KnownRevocations::default()).await.unwrap();
    let revocation = rap_contract::Revocation {
        kind: RevocationKind::Banned,
        node: three.node.node,
        key: rap_types::KeyId::of(&three.node.node_public_key),
        generation: 1,
        reason: String::new(),
    };
    let critical = rap_authority::critical(true);
    let now = replica.watch.clock.now().wall;
    let forged = known.chain.sign_next(&revocation, &fresh.chain, &stranger, &critical, now).unwrap();
    rap_store::revocation_insert(&mut transaction, id, 3, &forged).await.unwrap();
    for cluster in [&stale, &fresh] {
        let before = replica.watch.metrics.alarms(Reason::KeyUnknown);
        let refused = replica
            .serving
            .revocations(&mut transaction, cluster, &KnownRevocations::default())
            .await
            .unwrap_err();
        assert_eq!(refused.reason, Reason::KeyUnknown);
        assert_eq!(replica.watch.metrics.alarms(Reason::KeyUnknown), before + 1);
    }
    drop(transaction);
    second.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn whom_a_token_admitted_is_what_verified_requests_say() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let (token, other) = (world.token("prod", 9, true).await, world.token("prod", 9, true).await);
    Host::new(&token, "thief").enrol(&world).await;
    Host::new(&other, "victim").enrol(&world).await;
    let revoke = |with_nodes| v1::TokenRevokeRequest {
        token_id: token.token.clone().unwrap().token_id,
        with_nodes,
        reason: "leaked".into(),
    };
    let states = || async {
        let list = v1::NodeListRequest { cluster: "prod".into(), pending: false };
        let nodes = world.admin().await.node_list(world.request(list)).await.unwrap().into_inner().nodes;
        let mut states: Vec<_> = nodes.into_iter().map(|node| (node.name, node.revocation)).collect();
        states.sort_unstable();
        states
    };
    let state =
        |thief: &str| vec![("thief".to_owned(), thief.to_owned()), ("victim".to_owned(), String::new())];
    let database = world.database.as_ref().unwrap();
    let planted = "CREATE TABLE kept AS SELECT * FROM join_requests WHERE name = 'thief'; \
        CREATE TABLE planted AS SELECT * FROM kept; \
        UPDATE planted SET row_mac = NULL, request_id = '0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c', \
            node_public_key = decode(repeat('0c', 32), 'hex'), node_id = (SELECT node_id FROM nodes WHERE name = 'victim'); \
        INSERT INTO join_requests SELECT * FROM planted";
    let altered = "DELETE FROM join_requests WHERE request_id = '0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c'; \
        UPDATE join_requests SET node_id = (SELECT node_id FROM nodes WHERE name = 'victim') WHERE name = 'thief'";
    let removed = "DELETE FROM join_requests WHERE name = 'thief'";
    for tampering in [planted, altered, removed] {
        database.tamper_all(&["join_requests", "nodes"], tampering).await;
        let alarms = world.running.replica.watch.metrics.alarms(Reason::RowTampered);
        let refused = world.admin().await.token_revoke(world.request(revoke(true))).await.unwrap_err();
        assert_eq!(reason(refused), Reason::RowTampered, "{tampering}");
        assert!(world.running.replica.watch.metrics.alarms(Reason::RowTampered) > alarms, "{tampering}");
        assert_eq!(states().await, state(""), "{tampering}");
        // Nothing of it was done, the token's end neither: it is the first call that ends it.
        let list = v1::TokenListRequest { cluster: "prod".into() };
        let tokens = world.admin().await.token_list(world.request(list)).await.unwrap().into_inner().tokens;
        assert!(tokens.iter().all(|token| token.state == "live"), "{tampering}");
    }
    // The token alone can be ended all the same, and with its nodes when the rows are as they were.
    let answer = world.admin().await.token_revoke(world.request(revoke(false))).await.unwrap().into_inner();
    assert_eq!((answer.nodes_revoked.len(), answer.state.as_str()), (0, "revoked"));
    database.tamper("join_requests", "INSERT INTO join_requests SELECT * FROM kept").await;
    let answer = world.admin().await.token_revoke(world.request(revoke(true))).await.unwrap().into_inner();
    assert_eq!(answer.nodes_revoked.len(), 1);
    assert_eq!(states().await, state("evicted"));
    world.stop().await;
}
