//! The audit tree over real TLS and a real PostgreSQL, and against somebody who owns the database.

use std::time::Duration;

use rap_contract::{
    AuditEntry, AuditTree, Checkpoint, KeySet, LogKeyChain, audit_leaf_hash, check_audit_consistency,
    check_audit_inclusion, encode_audit_export, open_audit_export,
};
use rap_control_plane::serve::Running;
use rap_store::{
    CheckpointInsert, CheckpointRow, audit_checkpoint_insert, audit_insert, audit_lease_seize, audit_leaves,
    audit_sequence, audit_tree_read, audit_unsequenced,
};
use rap_types::{Digest, Reason};
use rap_wire::v1;
use rap_wire::v1::audit_client::AuditClient;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::host::{Host, hello};
use crate::world::{World, reason};

const LONG: Duration = Duration::from_secs(20);

async fn client(world: &World) -> AuditClient<Channel> {
    AuditClient::new(world.line().await.channel).max_decoding_message_size(64 << 20)
}

/// Waits until `done` says so.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the task had `more` whole rounds from now on; each could have signed.
async fn rounds(running: &Running, more: u64) {
    // The one under way may have begun before.
    let wanted = running.control.audit.rounds() + 1 + more;
    until("the task goes on", async || running.control.audit.rounds() >= wanted).await;
}

/// Waits until a checkpoint covers every entry that is committed now.
async fn covered(running: &Running) {
    until("a checkpoint covers everything", async || {
        let status = running.control.audit.status();
        status.state == "ok" && status.checkpoint_size > 0 && status.checkpoint_size == status.size && {
            let mut transaction = running.control.store.system().begin().await.unwrap();
            let waiting = audit_unsequenced(&mut transaction, 1).await.unwrap();
            let tree = audit_tree_read(&mut transaction).await.unwrap();
            waiting.is_empty() && tree.size == status.checkpoint_size
        }
    })
    .await;
}

async fn stopped(running: &Running, reason: Reason) {
    until(reason.code(), async || running.control.audit.status().state == "stopped").await;
    let status = running.control.audit.status();
    assert_eq!(status.reason, reason.code(), "{}", status.what);
    assert_eq!(running.control.metrics.alarms(reason), 1);
}

fn root_keys(world: &World) -> KeySet {
    rap_control_plane::datadir::root_keys(&std::fs::read(world.data_dir.join("product-root.pub")).unwrap())
        .unwrap()
}

async fn checkpoint(world: &World, from: Option<Checkpoint>) -> v1::AuditCheckpointAnswer {
    let request = v1::AuditCheckpointRequest {
        from_generation: from.map_or(0, |from| from.generation),
        from_size: from.map_or(0, |from| from.size),
    };
    client(world).await.checkpoint(world.request(request)).await.unwrap().into_inner()
}

/// The newest checkpoint, verified as an auditor does.
fn opened(world: &World, answer: &v1::AuditCheckpointAnswer) -> (LogKeyChain, Checkpoint) {
    let facts = &world.running.control.installation.facts;
    let log = LogKeyChain::verify(&answer.log_key_records, &facts.authority, facts.id, &["dev"]).unwrap();
    let checkpoint = Checkpoint::open(&answer.checkpoint, &log).unwrap();
    (log, checkpoint)
}

fn digests(hashes: &[Vec<u8>]) -> Vec<Digest> {
    hashes.iter().map(|hash| Digest::from_slice(hash).unwrap()).collect()
}

#[tokio::test]
async fn what_operators_do_is_provably_in_the_tree_and_an_export_verifies_offline() {
    let world = World::dev().await;
    covered(&world.running).await;
    let (_, before) = opened(&world, &checkpoint(&world, None).await);
    world.cluster("prod").await;
    let token = world.token("prod", 2, true).await;
    let host = Host::new(&token, "one");
    let bootstrap = host.enrol(&world).await;
    host.certificate(&world, &bootstrap).await.unwrap();
    covered(&world.running).await;

    let mut audit = client(&world).await;
    let list = v1::AuditListRequest { cluster: "prod".into(), ..Default::default() };
    let listed = audit.list(world.request(list)).await.unwrap().into_inner();
    let entries: Vec<AuditEntry> =
        listed.entries.iter().map(|listed| AuditEntry::decode(&listed.entry).unwrap()).collect();
    let actions: Vec<&str> = entries.iter().rev().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["cluster.create", "token.create", "node.join", "node.approve", "certificate.issue"]);
    let owner = entries.last().unwrap();
    assert!(owner.device.contains(&world.owner.public().id().to_string()), "{}", owner.device);

    let answer = checkpoint(&world, Some(before)).await;
    let (log, now) = opened(&world, &answer);
    let proof = digests(&answer.consistency);
    check_audit_consistency((before.size, before.root), (now.size, now.root), &proof).unwrap();
    let request = v1::AuditInclusionRequest {
        tree_size: now.size,
        indexes: listed.entries.iter().map(|listed| listed.index).collect(),
    };
    let paths = audit.inclusion(world.request(request)).await.unwrap().into_inner().paths;
    for (listed, path) in listed.entries.iter().zip(&paths) {
        assert!(listed.sequenced);
        let leaf = audit_leaf_hash(&listed.entry);
        check_audit_inclusion(leaf, listed.index, now.size, &digests(&path.hashes), &now.root).unwrap();
    }

    let page = v1::AuditEntriesRequest { from: 0, limit: 1000 };
    let mut all = audit.entries(world.request(page)).await.unwrap().into_inner().entries;
    all.truncate(now.size as usize);
    let export = encode_audit_export(&answer.activation_manifest, &log, &answer.checkpoints, all);
    let verified = open_audit_export(&export, &root_keys(&world), true).unwrap();
    assert_eq!(verified.checkpoints.last(), Some(&now));
    assert_eq!(verified.entries[0].action, "installation.activate");
    let strict = open_audit_export(&export, &root_keys(&world), false).unwrap_err();
    assert_eq!(strict.reason, Reason::AuthorityDevRefused);
    world.stop().await;
}

#[tokio::test]
async fn every_mutation_writes_exactly_one_entry() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, false).await;
    let host = Host::new(&token, "one");
    host.join_at(&world, world.address()).await.unwrap();
    let mut admin = world.admin().await;
    let pending = v1::NodeListRequest { cluster: "prod".into(), pending: true };
    let pending = admin.node_list(world.request(pending)).await.unwrap().into_inner().pending;
    let decide = |id: &v1::PendingNode| v1::NodeDecideRequest {
        cluster: "prod".into(),
        request_ids: vec![id.request_id.clone()],
        reason: "known".into(),
        ..Default::default()
    };
    admin.node_approve(world.request(decide(&pending[0]))).await.unwrap();
    let update = v1::NodeUpdateRequest {
        cluster: "prod".into(),
        node: "one".into(),
        region: "eu".into(),
        set_region: true,
        ..Default::default()
    };
    admin.node_update(world.request(update)).await.unwrap();
    Host::new(&token, "two").join_at(&world, world.address()).await.unwrap();
    let waiting = v1::NodeListRequest { cluster: "prod".into(), pending: true };
    let waiting = admin.node_list(world.request(waiting)).await.unwrap().into_inner().pending;
    admin.node_deny(world.request(decide(&waiting[0]))).await.unwrap();
    let token_id = token.token.unwrap().token_id;
    admin
        .token_revoke(world.request(v1::TokenRevokeRequest { token_id, ..Default::default() }))
        .await
        .unwrap();
    let node = v1::NodeRef { cluster: "prod".into(), node: "one".into() };
    until("the node is published", async || admin.node_export(world.request(node.clone())).await.is_ok())
        .await;
    let list = world.request(v1::AuditListRequest { limit: 1000, ..Default::default() });
    let list = client(&world).await.list(list).await.unwrap().into_inner();
    let mut actions: Vec<String> =
        list.entries.iter().map(|listed| AuditEntry::decode(&listed.entry).unwrap().action).collect();
    actions.reverse();
    let expected = [
        "installation.activate",
        "session.begin",
        "cluster.create",
        "token.create",
        "node.join",
        "node.approve",
        "node.update",
        "node.join",
        "node.deny",
        "token.revoke",
        "node.export",
    ];
    assert_eq!(actions, expected);
    world.stop().await;
}

#[tokio::test]
async fn an_altered_row_stops_signing_with_an_alarm() {
    for statement in [
        "UPDATE audit_log SET actor = 'operator:mallory' WHERE sequence = 1",
        "DELETE FROM audit_log WHERE sequence = 1",
        "ALTER TABLE audit_log DROP CONSTRAINT audit_log_sequence;
         UPDATE audit_log SET sequence = 1 - sequence WHERE sequence IN (0, 1)",
        "UPDATE audit_log SET recorded_at = recorded_at - interval '1 microsecond' WHERE sequence = 0",
        "UPDATE audit_tree SET frontier = decode(repeat('00', octet_length(frontier)), 'hex')",
    ] {
        let world = World::dev().await;
        world.cluster("prod").await;
        covered(&world.running).await;
        let signed = world.running.control.audit.status().checkpoint_size;
        world.database.as_ref().unwrap().as_superuser(statement).await;
        stopped(&world.running, Reason::AuditTampered).await;
        // Later entries get no checkpoint: the last one stands.
        world.token("prod", 1, false).await;
        rounds(&world.running, 3).await;
        assert_eq!(checkpoint_size(&world).await, signed, "{statement}");
        let status = world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap();
        assert_eq!(status.into_inner().audit.unwrap().reason, "audit.tampered");
        // A replica that starts now finds it before it signs anything.
        let second = world.replica().await;
        stopped(&second, Reason::AuditTampered).await;
        second.stop().await;
        world.stop().await;
    }
}

async fn checkpoint_size(world: &World) -> u64 {
    let mut transaction = world.running.control.store.system().begin().await.unwrap();
    rap_store::audit_checkpoint_newest(&mut transaction).await.unwrap().unwrap().size
}

#[tokio::test]
async fn a_row_without_its_mac_gets_no_place() {
    for statement in [
        "INSERT INTO audit_log (actor, action, object, request_id) \
         VALUES ('operator:ann', 'node.approve', 'node/1', gen_random_uuid())",
        "INSERT INTO audit_log (actor, action, object, request_id, row_mac) \
         SELECT actor, action, object, request_id, row_mac FROM audit_log WHERE sequence = 0",
    ] {
        let world = World::dev().await;
        covered(&world.running).await;
        let signed = world.running.control.audit.status().size;
        world.database.as_ref().unwrap().as_superuser(statement).await;
        stopped(&world.running, Reason::AuditTampered).await;
        assert_eq!(checkpoint_size(&world).await, signed);
        world.stop().await;
    }
}

const PUT_BACK: &str = "DELETE FROM audit_checkpoints WHERE size > 2;
    DELETE FROM audit_log WHERE sequence >= 2 OR sequence IS NULL;
    UPDATE audit_tree SET size = 2, frontier = (SELECT substr(frontier, 1, 32) FROM attic.kept)";

#[tokio::test]
async fn a_database_put_back_below_a_signed_checkpoint_is_found_at_start_and_begun_anew_by_an_owner() {
    let mut world = World::dev().await;
    // Two entries, one checkpoint; then the state that the database is put back to is kept.
    until("two entries", async || world.running.control.audit.status().checkpoint_size == 2).await;
    let database = world.database.as_ref().unwrap();
    database
        .as_superuser("CREATE SCHEMA attic; CREATE TABLE attic.kept AS SELECT frontier FROM audit_tree")
        .await;
    world.cluster("prod").await;
    world.token("prod", 1, false).await;
    covered(&world.running).await;
    let lost = opened(&world, &checkpoint(&world, None).await).1;
    assert_eq!(lost.size, 4);
    world.database.as_ref().unwrap().as_superuser(PUT_BACK).await;
    stopped(&world.running, Reason::AuditRollback).await;
    let restarted = world.replica().await;
    std::mem::replace(&mut world.running, restarted).stop().await;
    stopped(&world.running, Reason::AuditRollback).await;

    // Nothing is signed until an owner says so, with a reason that stays readable.
    let mut audit = client(&world).await;
    let refused = audit.restart(world.request(v1::AuditRestartRequest::default())).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RequestInvalid);
    let request = v1::AuditRestartRequest { reason: "restored from the backup of Monday".into() };
    let begun = audit.restart(world.request(request)).await.unwrap().into_inner();
    assert_eq!((begun.generation, begun.first_size), (2, 2));
    covered(&world.running).await;
    let (log, now) = opened(&world, &checkpoint(&world, None).await);
    assert_eq!((now.generation, log.newest().first_size), (2, 2));
    assert_eq!(log.newest().reason, "restored from the backup of Monday");
    let second = world.replica().await;
    covered(&second).await;
    second.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_sequencer_killed_between_placing_and_signing_is_continued() {
    let world = World::dev().await;
    world.cluster("prod").await;
    covered(&world.running).await;
    let signed = checkpoint_size(&world).await;
    // As a replica does that dies after its rows are placed: fence, place, and no signature.
    let store = world.running.control.store.clone();
    let fence = {
        let mut transaction = store.system().begin().await.unwrap();
        let fence = audit_lease_seize(&mut transaction, [9; 16], Duration::from_secs(2)).await.unwrap();
        transaction.commit().await.unwrap();
        fence
    };
    let mut transaction = store.system().begin().await.unwrap();
    let mut entry = rap_control_plane::grpc::audit(
        "system",
        "test.entry",
        "one".into(),
        None,
        None,
        "",
        rap_types::RequestId::from_bytes([7; 16]),
    );
    for number in 0..3 {
        entry.object = format!("entry/{number}");
        audit_insert(&mut transaction, &world.running.control.pen, &entry).await.unwrap();
    }
    let tree = audit_tree_read(&mut transaction).await.unwrap();
    let rows = audit_unsequenced(&mut transaction, 10).await.unwrap();
    let mut frontier = rap_contract::AuditFrontier::from_parts(tree.size, tree.frontier).unwrap();
    rows.iter().for_each(|row| frontier.push(audit_leaf_hash(&row.entry.encode())));
    let numbers: Vec<u64> = rows.iter().map(|row| row.entry.entry).collect();
    assert!(audit_sequence(&mut transaction, fence, tree.size, &numbers, frontier.hashes()).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(checkpoint_size(&world).await, signed, "the lease is another's");
    until("the next holder signs", async || checkpoint_size(&world).await == signed + 3).await;
    // The dead one wakes up: its fence is stale and its checkpoint is not taken.
    let mut transaction = store.system().begin().await.unwrap();
    let note = CheckpointRow { generation: 1, size: signed + 1, root: Digest::of(&[]), note: vec![1] };
    let late = audit_checkpoint_insert(&mut transaction, fence, &note).await.unwrap();
    assert_eq!(late, CheckpointInsert::Fenced);
    drop(transaction);
    covered(&world.running).await;
    world.stop().await;
}

#[tokio::test]
async fn two_replicas_keep_one_sequencer_and_the_other_takes_over() {
    let mut world = World::dev().await;
    let second = world.replica().await;
    world.cluster("prod").await;
    covered(&world.running).await;
    covered(&second).await;
    let both = [&world.running, &second].map(|running| running.control.audit.status().sequencer);
    assert_eq!(both.iter().filter(|sequencer| **sequencer).count(), 1, "{both:?}");
    let first = world.through(second);
    first.stop().await;
    let token = world.token("prod", 1, false).await;
    drop(token);
    until("the other one takes over", async || world.running.control.audit.status().sequencer).await;
    covered(&world.running).await;
    world.stop().await;
}

/// The next checkpoint that a node is shown.
async fn shown(stream: &mut crate::host::NodeStream) -> v1::AuditWitness {
    loop {
        if let v1::control_message::Body::Checkpoint(shown) = stream.any().await.unwrap() {
            return shown;
        }
    }
}

#[tokio::test]
async fn nodes_are_witnesses_and_a_checkpoint_above_the_database_is_an_alarm() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 1, true).await, "one");
    let bootstrap = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = host.stream(&world, &slot, hello()).await;
    let first = shown(&mut stream).await;
    let facts = &world.running.control.installation.facts;
    let installation_authority = bootstrap.installation_authority;
    assert_eq!(installation_authority, facts.authority, "pinned by the contract");
    let log =
        LogKeyChain::verify(&first.log_key_records, &installation_authority, facts.id, &["dev"]).unwrap();
    let held = Checkpoint::open(&first.checkpoint, &log).unwrap();
    // More happens; the next one continues the first.
    world.token("prod", 1, false).await;
    covered(&world.running).await;
    let second = shown(&mut stream).await;
    let next = Checkpoint::open(&second.checkpoint, &log).unwrap();
    let proof = digests(&second.consistency);
    check_audit_consistency((held.size, held.root), (next.size, next.root), &proof).unwrap();
    drop(stream);

    // It comes back and is shown what continues the one it holds.
    let again = v1::NodeHello { newest_checkpoint: second.checkpoint, ..hello() };
    let mut stream = host.stream(&world, &slot, again).await;
    world.token("prod", 1, false).await;
    covered(&world.running).await;
    let third = shown(&mut stream).await;
    let proof = digests(&third.consistency);
    let newest = Checkpoint::open(&third.checkpoint, &log).unwrap();
    check_audit_consistency((next.size, next.root), (newest.size, newest.root), &proof).unwrap();
    drop(stream);
    let key = world.running.control.kek.clone();
    let mut transaction = world.running.control.store.system().begin().await.unwrap();
    let row = rap_store::log_keys(&mut transaction).await.unwrap().remove(0);
    drop(transaction);
    let seed = rap_control_plane::custody::Sealed::LogKey(1)
        .open32(&key, facts.id, &row.sealed_private_key)
        .unwrap();
    let stolen = rap_contract::Signer::from_seed(&seed);
    let above = Checkpoint { generation: 1, size: newest.size + 50, root: Digest::of(&[b"later"]) };
    let above = v1::NodeHello { newest_checkpoint: above.sign(facts.id, &stolen), ..hello() };
    let stream = host.stream(&world, &slot, above).await;
    stopped(&world.running, Reason::AuditRollback).await;
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn a_checkpoint_of_another_history_that_a_node_holds_is_an_alarm() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 1, true).await, "one");
    let bootstrap = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    covered(&world.running).await;
    let facts = &world.running.control.installation.facts;
    let mut transaction = world.running.control.store.system().begin().await.unwrap();
    let row = rap_store::log_keys(&mut transaction).await.unwrap().remove(0);
    drop(transaction);
    let seed = rap_control_plane::custody::Sealed::LogKey(1)
        .open32(&world.running.control.kek, facts.id, &row.sealed_private_key)
        .unwrap();
    let key = rap_contract::Signer::from_seed(&seed);
    // Nobody's signature: looked at and passed over.
    let strange = Checkpoint { generation: 1, size: 2, root: Digest::of(&[b"other"]) };
    let note = strange.sign(facts.id, &rap_contract::Signer::from_seed(&[9; 32]));
    let mut stream = host.stream(&world, &slot, v1::NodeHello { newest_checkpoint: note, ..hello() }).await;
    // The control plane greets after it has judged what the node shows.
    assert!(matches!(stream.next().await.unwrap(), v1::control_message::Body::Hello(_)));
    assert_eq!(world.running.control.audit.status().state, "ok");
    drop(stream);
    let note = strange.sign(facts.id, &key);
    let stream = host.stream(&world, &slot, v1::NodeHello { newest_checkpoint: note, ..hello() }).await;
    stopped(&world.running, Reason::AuditInconsistent).await;
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn thousands_of_rows_stay_fast() {
    let world = World::dev().await;
    covered(&world.running).await;
    let store = world.running.control.store.clone();
    let pen = world.running.control.pen.clone();
    let count = 5_000;
    let mut transaction = store.system().begin().await.unwrap();
    for number in 0..count {
        let entry = rap_control_plane::grpc::audit(
            "system",
            "test.entry",
            format!("entry/{number}"),
            None,
            None,
            "",
            rap_types::RequestId::from_bytes([7; 16]),
        );
        audit_insert(&mut transaction, &pen, &entry).await.unwrap();
    }
    let written = Instant::now();
    transaction.commit().await.unwrap();
    covered(&world.running).await;
    let signed = written.elapsed();
    let started = Instant::now();
    let second = world.replica().await;
    covered(&second).await;
    let verified = started.elapsed();
    let size = world.running.control.audit.status().size;
    let asked = Instant::now();
    let indexes = (0..1000).map(|index| index * size / 1000).collect();
    let request = v1::AuditInclusionRequest { tree_size: size, indexes };
    let paths = client(&world).await.inclusion(world.request(request)).await.unwrap().into_inner().paths;
    let proved = asked.elapsed();
    let mut transaction = store.system().begin().await.unwrap();
    let rows = audit_leaves(&mut transaction, 0, size).await.unwrap();
    drop(transaction);
    let tree = AuditTree::of(rows.iter().map(|row| audit_leaf_hash(&row.entry.encode())));
    for (number, path) in (0..1000).zip(&paths) {
        let index = number * size / 1000;
        let root = tree.root(size).unwrap();
        check_audit_inclusion(tree.leaf(index).unwrap(), index, size, &digests(&path.hashes), &root).unwrap();
    }
    eprintln!(
        "{count} rows signed for in {signed:?}, verified at a start in {verified:?}, 1000 proofs in {proved:?}"
    );
    assert!(signed < LONG && verified < LONG && proved < Duration::from_secs(5));
    second.stop().await;
    world.stop().await;
}
