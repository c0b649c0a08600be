//! What an act would send to whom: shown before the act, and equal to what nodes receive after it.

use std::collections::{BTreeMap, BTreeSet};

use rap_contract::{VerifiedBootstrap, peer_slot};
use rap_store::{Dump, StoreError, config_seq_allocate, node_hold, node_write, outbox_append};
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use tonic::Status;
use v1::control_message::Body;
use v1::plan_diff_request::Act;

use crate::grants::{add, login, signer, with};
use crate::host::{Host, NodeStream, hello};
use crate::publish::settled;
use crate::sync::{Kept, acknowledge};
use crate::world::{World, reason};

/// A node with its stream, and what it holds.
struct Member {
    bootstrap: VerifiedBootstrap,
    stream: NodeStream,
    kept: Kept,
}

impl Member {
    async fn new(world: &World, token: &v1::TokenCreateAnswer, name: &str) -> Self {
        let host = Host::new(token, name);
        let bootstrap = host.enrol(world).await;
        let (slot, _) = host.certificate(world, &bootstrap).await.unwrap();
        let stream = host.stream(world, &slot, hello()).await;
        let kept = Kept::new(&bootstrap);
        Self { bootstrap, stream, kept }
    }

    fn id(&self) -> NodeId {
        self.bootstrap.node
    }

    /// Reads on until a message is under this version, and acknowledges. Returns the records that came with it.
    async fn reach(&mut self, version: u64) -> Option<Records> {
        let mut records = None;
        loop {
            match self.stream.next().await.unwrap() {
                Body::Update(update) => {
                    let mut come = Records::default();
                    for slot in &update.slots_set {
                        let known = self.kept.manifest().chunk(&slot.key).is_some();
                        if known { &mut come.change } else { &mut come.appear }.push(slot.key.clone());
                    }
                    come.disappear.extend(update.slots_removed.iter().cloned());
                    let snapshot = self.kept.apply(&update);
                    acknowledge(&self.stream, &snapshot).await;
                    records = Some(come);
                    if snapshot.head().order.version.0 >= version {
                        return records;
                    }
                }
                Body::Head(head) if self.kept.order(&head.head).version.0 >= version => return records,
                _ => {}
            }
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Records {
    appear: Vec<String>,
    change: Vec<String>,
    disappear: Vec<String>,
}

fn update(node: &str, change: impl FnOnce(&mut v1::NodeUpdateRequest)) -> v1::NodeUpdateRequest {
    let mut request =
        v1::NodeUpdateRequest { cluster: "prod".into(), node: node.into(), ..Default::default() };
    change(&mut request);
    request
}

fn policy(change: impl FnOnce(&mut v1::MembershipPolicySetRequest)) -> v1::MembershipPolicySetRequest {
    let mut request = v1::MembershipPolicySetRequest { cluster: "prod".into(), ..Default::default() };
    change(&mut request);
    request
}

fn revoke(node: &str, evict: bool) -> v1::NodeRevokeRequest {
    v1::NodeRevokeRequest { cluster: "prod".into(), node: node.into(), evict, reason: "lost".into() }
}

/// The difference as the owner is shown it.
async fn shown(world: &World, act: Act) -> Result<v1::PlanDiff, Status> {
    let request = world.request(v1::PlanDiffRequest { act: Some(act) });
    Ok(world.membership().await.show_plan_diff(request).await?.into_inner())
}

async fn done(world: &World, act: Act) -> Result<(), Status> {
    match act {
        Act::NodeUpdate(request) => world.admin().await.node_update(world.request(request)).await.map(drop),
        Act::PolicySet(request) => {
            world.membership().await.policy_set(world.request(request)).await.map(drop)
        }
        Act::NodeRevoke(request) => {
            world.membership().await.node_revoke(world.request(request)).await.map(drop)
        }
    }
}

/// What is shown, by node.
fn by_node(diff: &v1::PlanDiff) -> BTreeMap<NodeId, Records> {
    let mut all = BTreeMap::new();
    for one in &diff.deliveries {
        for id in &one.node_ids {
            let (appear, change) = (one.appear.clone(), one.change.clone());
            let records = Records { appear, change, disappear: one.disappear.clone() };
            assert!(all.insert(NodeId::from_slice(id).unwrap(), records).is_none());
        }
    }
    all
}

/// Every row that no task writes by its clock; of the audit log the number of rows, which get their places later.
async fn rows(world: &World) -> BTreeSet<String> {
    const BY_CLOCK: [&str; 7] = [
        "audit_checkpoints",
        "audit_tree",
        "audit_nodes",
        "cluster_heads",
        "node_contacts",
        "node_identities",
        "replica_heartbeats",
    ];
    let mut dump = Dump::begin(world.database.as_ref().unwrap().target()).await.unwrap();
    let mut all = BTreeSet::new();
    for table in dump.tables().into_iter().filter(|table| !BY_CLOCK.contains(&table.as_str())) {
        let mut bytes = Vec::new();
        let sink = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok::<_, StoreError>(())
        };
        dump.table(&table, sink).await.unwrap();
        // A refused act leaves an entry that says so, and nothing else.
        let text = String::from_utf8(bytes).unwrap();
        let kept = text.lines().filter(|line| !line.contains("\tact.refuse\t"));
        let lines: Vec<String> = kept.map(str::to_owned).collect();
        all.insert(format!("{table}: {}", lines.len()));
        all.extend(
            lines.into_iter().filter(|_| !table.starts_with("audit")).map(|line| format!("{table} {line}")),
        );
    }
    all
}

async fn assert_unchanged(world: &World, before: &BTreeSet<String>) {
    let now = rows(world).await;
    let changed: Vec<_> = now.symmetric_difference(before).collect();
    assert!(changed.is_empty(), "{changed:#?}");
}

#[tokio::test]
async fn what_is_shown_is_what_nodes_receive_when_the_act_is_done() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let mut members = Vec::new();
    for name in ["one", "two", "three"] {
        members.push(Member::new(&world, &token, name).await);
    }
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    let newest = || cluster.feed.newest().unwrap();
    let version = settled(&world).await.version.0;
    for member in &mut members {
        member.reach(version).await;
    }
    let [one, two, three] = [0, 1, 2].map(|index: usize| members[index].id());
    let records = |appear: &[&str], change: &[String], disappear: &[String]| Records {
        appear: appear.iter().map(|key| (*key).to_owned()).collect(),
        change: change.to_vec(),
        disappear: disappear.to_vec(),
    };
    let region = update("two", |request| (request.set_region, request.region) = (true, "north".into()));
    let roles = update("two", |request| (request.set_roles, request.roles) = (true, vec!["egress".into()]));
    let tags = update("one", |request| (request.set_tags, request.tags) = (true, vec!["rack-1".into()]));
    let ages = policy(|request| request.wireguard_key_max_age_ms = Some(86_400_000));
    let for_server_only = policy(|request| request.keep_ids = Some(true));
    let assignment = || vec!["assignment".to_owned()];
    let of_two = || records(&[], &[peer_slot(two)], &[]);
    let expected = [
        (
            Act::NodeUpdate(region.clone()),
            vec![(one, of_two()), (two, records(&[], &assignment(), &[])), (three, of_two())],
        ),
        // The same again is a version, and nobody receives a record.
        (Act::NodeUpdate(region), vec![]),
        (
            Act::NodeUpdate(roles),
            vec![(one, of_two()), (two, records(&[], &assignment(), &[])), (three, of_two())],
        ),
        (Act::NodeUpdate(tags), vec![(one, records(&[], &assignment(), &[]))]),
        (
            Act::PolicySet(ages),
            [one, two, three].map(|node| (node, records(&[], &["policy".to_owned()], &[]))).into(),
        ),
        (Act::PolicySet(for_server_only), vec![]),
        (
            Act::NodeRevoke(revoke("three", true)),
            [one, two].map(|node| (node, records(&[], &["trust".to_owned()], &[peer_slot(three)]))).into(),
        ),
    ];
    for (act, expected) in expected {
        let before = rows(&world).await;
        let version = newest().order.version.0;
        let diff = shown(&world, act.clone()).await.unwrap();
        assert_unchanged(&world, &before).await;
        assert_eq!((diff.follows, diff.version), (version, version + 1), "{act:?}");
        assert_eq!(by_node(&diff), expected.into_iter().collect(), "{act:?}");
        let is_revocation = matches!(act, Act::NodeRevoke(_));
        assert_eq!(diff.cut_off, if is_revocation { vec![three.to_vec()] } else { vec![] });

        done(&world, act.clone()).await.unwrap();
        if is_revocation {
            members.pop();
        }
        let mut received = BTreeMap::new();
        for member in &mut members {
            if let Some(records) = member.reach(diff.version).await {
                received.insert(member.id(), records);
            }
        }
        assert_eq!(newest().order.version.0, diff.version, "{act:?}");
        assert_eq!(received, by_node(&diff), "{act:?}");
    }
    let again = shown(&world, Act::NodeRevoke(revoke(&three.to_string(), true))).await.unwrap();
    assert_eq!((again.version, again.deliveries.len(), again.cut_off.len()), (again.follows, 0, 0));
    let banned = shown(&world, Act::NodeRevoke(revoke(&three.to_string(), false))).await.unwrap();
    assert_eq!(banned.version, banned.follows + 1);
    // The chain is as long as the one revocation that was made.
    assert_eq!(cluster.revocations.known().chain.sequence(), 1);
    world.stop().await;
}

#[tokio::test]
async fn changes_of_others_that_are_not_published_yet_are_not_shown() {
    let hour = Some(3_600_000);
    let world = World::dev_with(|raw| (raw.outbox_poll_ms, raw.rows_check_ms) = (hour, hour)).await;
    // Nothing but a wake makes a new version.
    let request = v1::ClusterCreateRequest {
        name: "prod".into(),
        fresh_for_ms: 10_000_000,
        refresh_every_ms: 3_600_000,
        ..Default::default()
    };
    world.admin().await.cluster_create(world.request(request)).await.unwrap();
    let token = world.token("prod", 9, true).await;
    let one = Member::new(&world, &token, "one").await.id();
    let mut two = Member::new(&world, &token, "two").await;
    two.reach(settled(&world).await.version.0).await;
    let replica = &world.running.replica;
    let cluster = replica.serving.clusters.named("prod").unwrap();
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    let mut row = node_hold(&mut transaction, &cluster.rows, one).await.unwrap().unwrap();
    row.node.facts.region = "north".into();
    node_write(&mut transaction, &cluster.rows, row).await.unwrap();
    let follows = config_seq_allocate(&mut transaction, cluster.id).await.unwrap();
    outbox_append(&mut transaction, cluster.id, follows, &[peer_slot(one)], false).await.unwrap();
    transaction.commit().await.unwrap();
    let published = cluster.feed.newest().unwrap().order.version.0;
    assert_eq!(published + 1, follows);

    let tags = update("two", |request| (request.set_tags, request.tags) = (true, vec!["rack-1".into()]));
    let diff = shown(&world, Act::NodeUpdate(tags.clone())).await.unwrap();
    assert_eq!((diff.follows, diff.version), (follows, follows + 1));
    let assignment = Records { change: vec!["assignment".into()], ..Default::default() };
    assert_eq!(by_node(&diff), [(two.id(), assignment)].into());
    let names: Vec<&str> = diff.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["two"]);
    // Without a published plan every row is read.
    cluster.feed.withdraw();
    assert_eq!(shown(&world, Act::NodeUpdate(tags)).await.unwrap(), diff);
    world.stop().await;
}

#[tokio::test]
async fn what_the_act_refuses_is_refused_with_the_same_code() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    Host::new(&token, "one").enrol(&world).await;
    let senseless = "\u{7}".repeat(3);
    let acts = [
        (Act::NodeUpdate(update("nobody", |_| ())), Reason::NodeUnknown),
        (
            Act::NodeUpdate(v1::NodeUpdateRequest { cluster: "none".into(), ..update("one", |_| ()) }),
            Reason::ResourceNotFound,
        ),
        (
            Act::NodeUpdate(update("one", |request| {
                (request.set_region, request.region) = (true, senseless.clone())
            })),
            Reason::RequestInvalid,
        ),
        (
            Act::NodeUpdate(update("one", |request| {
                (request.set_roles, request.roles) = (true, vec!["king".into()])
            })),
            Reason::RequestInvalid,
        ),
        (Act::PolicySet(policy(|request| request.ephemeral_after_ms = Some(1))), Reason::RequestInvalid),
        (
            Act::PolicySet(policy(|request| {
                request.degraded_ends = Some(v1::Words { words: vec!["sleep".into()] });
            })),
            Reason::RequestInvalid,
        ),
        (Act::NodeRevoke(revoke("nobody", false)), Reason::NodeUnknown),
        (Act::NodeRevoke(revoke(&NodeId::from_bytes([7; 16]).to_string(), false)), Reason::NodeUnknown),
    ];
    settled(&world).await;
    let before = rows(&world).await;
    for (act, expected) in acts {
        let refused = shown(&world, act.clone()).await.unwrap_err();
        assert_eq!(reason(refused), expected, "{act:?}");
        assert_eq!(reason(done(&world, act.clone()).await.unwrap_err()), expected, "{act:?}");
    }
    let nothing = world.request(v1::PlanDiffRequest { act: None });
    let refused = world.membership().await.show_plan_diff(nothing).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RequestInvalid);
    assert_unchanged(&world, &before).await;

    // Who may not do the act is not shown what it would do.
    let safe = signer();
    add(&world, "safe", &safe, "recovery").await.unwrap();
    let session = login(&world, &safe).await.unwrap().session;
    let acts = [
        Act::NodeUpdate(update("one", |_| ())),
        Act::PolicySet(policy(|request| request.keep_ids = Some(true))),
        Act::NodeRevoke(revoke("one", false)),
    ];
    for act in acts {
        let request = v1::PlanDiffRequest { act: Some(act) };
        let refused = world.membership().await.show_plan_diff(with(&session, request.clone())).await;
        assert_eq!(reason(refused.unwrap_err()), Reason::GrantMissing);
        let stranger = world.membership().await.show_plan_diff(request).await;
        assert_eq!(reason(stranger.unwrap_err()), Reason::SessionMissing);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_plan_that_takes_too_long_is_given_up_and_the_cluster_goes_on() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let one = Host::new(&token, "one").enrol(&world).await.node;
    Host::new(&token, "two").enrol(&world).await;
    let replica = &world.running.replica;
    let cluster = replica.serving.clusters.named("prod").unwrap();
    let mut other = replica.database.store.system().begin().await.unwrap();
    node_hold(&mut other, &cluster.rows, one).await.unwrap().unwrap();
    settled(&world).await;
    let before = rows(&world).await;
    let region = |node| {
        Act::NodeUpdate(update(node, |request| (request.set_region, request.region) = (true, "north".into())))
    };
    let refused = shown(&world, region("one")).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RequestTimeout);
    assert_unchanged(&world, &before).await;
    // The row of `one` is still held. The row of the cluster is free.
    done(&world, region("two")).await.unwrap();
    other.rollback().await.unwrap();
    shown(&world, region("one")).await.unwrap();
    world.stop().await;
}
