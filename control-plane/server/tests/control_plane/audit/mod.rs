//! The audit tree over real TLS and a real PostgreSQL: what is written, proved and exported, and how fast.

mod sequencer;
mod tampering;
mod witnesses;

use std::time::Duration;

use rap_contract::{
    AuditEntry, AuditTree, Checkpoint, KeySet, LogKeyChain, audit_leaf_hash, check_audit_consistency,
    check_audit_inclusion, encode_audit_export, open_audit_export,
};
use rap_control_plane::database::change::{Acting, Change};
use rap_control_plane::start::Running;
use rap_rpc::v1::audit_client::AuditClient;
use rap_store::{audit_leaves, audit_tree_read, audit_unsequenced};
use rap_types::{Digest, Reason, Wall};
use rap_wire::v1;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::host::Host;
use crate::world::{World, until};

const LONG: Duration = Duration::from_secs(20);

async fn client(world: &World) -> AuditClient<Channel> {
    AuditClient::new(world.line().await.channel).max_decoding_message_size(64 << 20)
}

/// Waits until the task had `more` whole rounds from now on; each could have signed.
async fn rounds(running: &Running, more: u64) {
    // The one under way may have begun before.
    let wanted = running.replica.audit.rounds() + 1 + more;
    until("the task goes on", async || running.replica.audit.rounds() >= wanted).await;
}

/// Waits until a checkpoint covers every entry that is committed now.
async fn covered(running: &Running) {
    until("a checkpoint covers everything", async || {
        let status = running.replica.audit.status();
        status.state == "ok" && status.checkpoint_size > 0 && status.checkpoint_size == status.size && {
            let mut transaction = running.replica.database.store.system().begin().await.unwrap();
            let waiting = audit_unsequenced(&mut transaction, 1).await.unwrap();
            let tree = audit_tree_read(&mut transaction).await.unwrap();
            waiting.is_empty() && tree.size == status.checkpoint_size
        }
    })
    .await;
}

async fn stopped(running: &Running, reason: Reason) {
    until(reason.code(), async || running.replica.audit.status().state == "stopped").await;
    let status = running.replica.audit.status();
    assert_eq!(status.reason, reason.code(), "{}", status.what);
    assert_eq!(running.replica.watch.metrics.alarms(reason), 1);
}

fn root_keys(world: &World) -> KeySet {
    rap_control_plane::data_dir::root_keys(&std::fs::read(world.data_dir.join("product-root.pub")).unwrap())
        .unwrap()
}

async fn checkpoint(world: &World, from: Option<Checkpoint>) -> v1::AuditCheckpointAnswer {
    let request = v1::AuditCheckpointRequest {
        from_generation: from.map_or(0, |from| from.generation),
        from_size: from.map_or(0, |from| from.size),
    };
    client(world).await.checkpoint(world.request(request)).await.unwrap().into_inner()
}

async fn checkpoint_size(world: &World) -> u64 {
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    rap_store::audit_checkpoint_newest(&mut transaction).await.unwrap().unwrap().size
}

/// The newest checkpoint, verified as an auditor does.
fn opened(world: &World, answer: &v1::AuditCheckpointAnswer) -> (LogKeyChain, Checkpoint) {
    let facts = &world.running.replica.keys.installation.facts;
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
async fn thousands_of_rows_stay_fast() {
    let world = World::dev().await;
    covered(&world.running).await;
    let store = world.running.replica.database.store.clone();
    let acting = Acting::alone("system", world.running.replica.keys.pen.clone(), Wall(0));
    let count = 5_000;
    let mut transaction = store.system().begin().await.unwrap();
    for number in 0..count {
        let change = Change::of("test.entry", format!("entry/{number}"));
        change.record(&mut transaction, &acting).await.unwrap();
    }
    let written = Instant::now();
    transaction.commit().await.unwrap();
    covered(&world.running).await;
    let signed = written.elapsed();
    let started = Instant::now();
    let second = world.replica().await;
    covered(&second).await;
    let verified = started.elapsed();
    let size = world.running.replica.audit.status().size;
    let asked = Instant::now();
    let indexes = (0..1000).map(|index| index * size / 1000).collect();
    let request = v1::AuditInclusionRequest { tree_size: size, indexes };
    let paths = client(&world).await.inclusion(world.request(request)).await.unwrap().into_inner().paths;
    let proved = asked.elapsed();
    let mut transaction = store.system().begin().await.unwrap();
    let rows = audit_leaves(&mut transaction, 0..size).await.unwrap();
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
