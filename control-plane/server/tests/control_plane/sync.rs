//! The node stream: full snapshot, delta, head, refusal, reconnect, diagnostics.

use rap_contract::{
    ChunksById, Expectation, FEATURE_DEV, HeadFacts, Manifest, SnapshotParts, VerifiedSnapshot, open_export,
};
use rap_types::{HeadOrder, NodeId, Reason};
use rap_wire::v1;
use v1::control_message::Body;
use v1::node_message::Body as Say;

use crate::host::{Host, NodeStream, hello, member};
use crate::world::{World, reason};

/// What an agent keeps: enough to verify an update as rap-trust does.
pub struct Kept {
    node: NodeId,
    keys: rap_contract::KeySet,
    manifest: Manifest,
    chunks: ChunksById,
}

impl Kept {
    pub fn new(bootstrap: &rap_contract::VerifiedBootstrap) -> Self {
        Self {
            node: bootstrap.node,
            keys: bootstrap.chain.keys::<v1::ClusterHead>(),
            manifest: Manifest::new(),
            chunks: ChunksById::default(),
        }
    }

    /// The slots that it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Order of a signed head.
    pub fn order(&self, head: &[u8]) -> HeadOrder {
        self.head(head).1.order
    }

    fn head(&self, bytes: &[u8]) -> (rap_contract::Verified<v1::ClusterHead>, HeadFacts) {
        let expect = Expectation { features: &[FEATURE_DEV], ..Expectation::default() };
        HeadFacts::open(bytes, &self.keys, &expect).unwrap()
    }

    /// Applies an update and verifies the whole snapshot.
    pub fn apply(&mut self, update: &v1::SnapshotUpdate) -> VerifiedSnapshot {
        let base = if update.full { Manifest::new() } else { self.manifest.clone() };
        self.manifest = base.apply(&update.slots_set, &update.slots_removed).unwrap();
        for chunk in &update.chunks {
            self.chunks.insert(chunk.clone().into());
        }
        let parts = SnapshotParts {
            head: self.head(&update.head),
            leaf: update.leaf.clone().unwrap(),
            proof: update.proof.clone().unwrap(),
            manifest: self.manifest.clone(),
            chunks: self.chunks.clone(),
        };
        VerifiedSnapshot::verify(parts, Some(self.node)).unwrap()
    }
}

pub async fn acknowledge(stream: &NodeStream, snapshot: &VerifiedSnapshot) {
    let order = snapshot.head().order;
    let ack = v1::SnapshotAck {
        leaf_hash: snapshot.leaf_hash().to_vec(),
        incarnation: order.incarnation.0,
        version: order.version.0,
        refresh: order.refresh.0,
        applied_at_ms: 1,
    };
    stream.say(Say::Ack(ack)).await;
}

#[tokio::test]
async fn a_node_gets_its_snapshot_then_only_what_changed() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let one = Host::new(&token, "one");
    let bootstrap = one.enrol(&world).await;
    let (slot, _) = one.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = one.stream(&world, &slot, hello()).await;
    assert!(matches!(stream.next().await.unwrap(), Body::Hello(hello) if hello.protocol == 1));
    let mut kept = Kept::new(&bootstrap);
    let update = stream.update().await;
    assert!(update.full);
    let snapshot = kept.apply(&update);
    assert_eq!(snapshot.contents().assignment.name, "one");
    assert!(snapshot.contents().peers.is_empty());
    acknowledge(&stream, &snapshot).await;

    let two = Host::new(&token, "two").enrol(&world).await;
    let update = stream.update().await;
    assert!(!update.full);
    assert_eq!(update.slots_set.len(), 1, "one new peer is one new slot");
    let snapshot = kept.apply(&update);
    assert_eq!(snapshot.contents().peers.keys().copied().collect::<Vec<_>>(), [two.node]);
    acknowledge(&stream, &snapshot).await;

    // What the operator exports is what the node holds, and it verifies against the root alone.
    let request = v1::NodeRef { cluster: "prod".into(), node: "one".into() };
    let export = world.admin().await.node_export(world.request(request)).await.unwrap().into_inner().export;
    let roots = &world.running.replica.keys.installation.roots;
    let verified = open_export(&export, roots, true).unwrap();
    assert_eq!(verified.snapshot.leaf_hash(), snapshot.leaf_hash());
    world.stop().await;
}

#[tokio::test]
async fn a_node_that_holds_the_leaf_gets_a_head_and_no_chunk() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let mut stream = host.stream(&world, &slot, hello()).await;
    let mut kept = Kept::new(&bootstrap);
    let snapshot = kept.apply(&stream.update().await);
    acknowledge(&stream, &snapshot).await;
    drop(stream);

    let leaf_hash = snapshot.leaf_hash().to_vec();
    let mut stream = host.stream(&world, &slot, v1::NodeHello { leaf_hash, ..hello() }).await;
    assert!(matches!(stream.next().await.unwrap(), Body::Hello(_)));
    let Body::Head(head) = stream.next().await.unwrap() else { panic!("a head is enough") };
    let under = snapshot.under_head(kept.head(&head.head), head.proof.unwrap()).unwrap();
    // While nothing changes the head is signed again: same version and root, later time.
    let first = under.head().order;
    let Body::Head(head) = stream.next().await.unwrap() else { panic!("a refreshed head") };
    let (_, facts) = kept.head(&head.head);
    assert_eq!(facts.order.durable(), first.durable());
    assert!(facts.order.refresh > first.refresh);
    assert_eq!((facts.root, facts.previous), (under.head().root, under.head().previous));
    assert!(facts.fresh_until > under.head().fresh_until);
    world.stop().await;
}

#[tokio::test]
async fn a_refused_leaf_is_not_sent_again_until_it_changes() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let host = Host::new(&token, "one");
    let bootstrap = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = host.stream(&world, &slot, hello()).await;
    let first = stream.update().await;
    let nack = |need_full| v1::SnapshotNack {
        reason: Reason::SnapshotChunkMissing.code().into(),
        need_full,
        ..Default::default()
    };
    // It was full already: asking for it in full changes nothing.
    stream.say(Say::Nack(nack(true))).await;
    let other = Host::new(&token, "two").enrol(&world).await;
    let second = stream.update().await;
    assert_ne!(second.leaf, first.leaf, "the refused leaf was not sent again");
    let mut kept = Kept::new(&bootstrap);
    let snapshot = kept.apply(&second);
    assert!(snapshot.contents().peers.contains_key(&other.node));
    acknowledge(&stream, &snapshot).await;

    // A delta that the node cannot apply is followed by everything.
    Host::new(&token, "three").enrol(&world).await;
    assert!(!stream.update().await.full);
    stream.say(Say::Nack(nack(true))).await;
    let full = stream.update().await;
    assert!(full.full);
    acknowledge(&stream, &kept.apply(&full)).await;
    world.stop().await;
}

#[tokio::test]
async fn services_are_offered_on_their_own_kind_of_connection_only() {
    let world = World::dev().await;
    let (host, _, slot) = member(&world).await;
    let node = host.node_channel(&world, &slot).await;
    let mut enrollment = rap_rpc::v1::enrollment_client::EnrollmentClient::new(node.clone());
    let status = enrollment.challenge(v1::EnrollmentChallengeRequest {}).await.unwrap_err();
    assert_eq!(reason(status), Reason::ChannelWrong);
    let mut admin = rap_rpc::v1::admin_client::AdminClient::new(node);
    let status = admin.status(world.request(v1::StatusRequest {})).await.unwrap_err();
    assert_eq!(reason(status), Reason::ChannelWrong, "a session does not help on a node connection");

    let operator = world.line().await.channel;
    let mut sync = rap_rpc::v1::node_sync_client::NodeSyncClient::new(operator);
    let status = sync.sync(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(reason(status), Reason::ChannelWrong);
    world.stop().await;
}

#[tokio::test]
async fn an_agent_outside_dev_mode_is_not_served_by_a_dev_installation() {
    let world = World::dev().await;
    let (host, _, slot) = member(&world).await;
    let mut stream = host.stream(&world, &slot, v1::NodeHello { features: Vec::new(), ..hello() }).await;
    assert_eq!(reason(stream.next().await.unwrap_err()), Reason::AuthorityDevRefused);
    world.stop().await;
}

#[tokio::test]
async fn messages_that_are_none_or_too_large_end_the_stream_with_a_code() {
    let world = World::dev().await;
    let (host, _, slot) = member(&world).await;
    let report = Say::Report(v1::NodeReport { contact: "x".repeat(5 << 20), ..Default::default() });
    let cases = [
        (hello(), report, Reason::RequestTooLarge),
        (hello(), Say::Hello(hello()), Reason::RequestInvalid),
        (
            v1::NodeHello { agent_version: "\u{1b}[31m".into(), ..hello() },
            Say::Hello(hello()),
            Reason::RequestInvalid,
        ),
        (
            v1::NodeHello { protocol_min: 9, protocol_max: 9, ..hello() },
            Say::Hello(hello()),
            Reason::RequestInvalid,
        ),
    ];
    for (first, second, expected) in cases {
        let mut stream = host.stream(&world, &slot, first).await;
        // After a refused hello there may be no stream left to say it on.
        let _gone = stream.send.send(v1::NodeMessage { body: Some(second) }).await;
        let refused = loop {
            match stream.next().await {
                Ok(_) => {}
                Err(status) => break reason(status),
            }
        };
        assert_eq!(refused, expected);
    }
    // Bytes that are no message: sent past the client's own encoder.
    let node = host.node_channel(&world, &slot).await;
    let mut raw = tonic::client::Grpc::new(node);
    raw.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/rap.fabric.v1.NodeSync/Sync");
    let codec = tonic_prost::ProstCodec::<v1::DirectoryUpdate, v1::ControlMessage>::default();
    // Field 1 of a DirectoryUpdate is a message, too, but not a hello.
    let entry = v1::DirectoryEntry { link_hints: vec!["\u{1}".repeat(9)], ..Default::default() };
    let wrong = tokio_stream::once(v1::DirectoryUpdate { entries: vec![entry] });
    let mut answers = raw.streaming(tonic::Request::new(wrong), path, codec).await.unwrap().into_inner();
    let refused = tokio::time::timeout(std::time::Duration::from_secs(10), answers.message()).await.unwrap();
    assert_eq!(reason(refused.unwrap_err()), Reason::RequestInvalid);
    world.stop().await;
}

#[tokio::test]
async fn a_ping_goes_to_the_node_and_its_answer_to_the_operator() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let (one, two) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let bootstrap = one.enrol(&world).await;
    let other = two.enrol(&world).await;
    let ping = |to: &str| {
        world.request(v1::AdminPingRequest {
            cluster: "prod".into(),
            from: "one".into(),
            to: to.into(),
            count: 1,
            interval_ms: 10,
        })
    };
    let offline = world.admin().await.ping(ping("two")).await.unwrap_err();
    assert_eq!(reason(offline), Reason::NodeOffline);

    let (slot, _) = one.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = one.stream(&world, &slot, hello()).await;
    let mut kept = Kept::new(&bootstrap);
    loop {
        // The other node's version may come second.
        let update = stream.update().await;
        let snapshot = kept.apply(&update);
        acknowledge(&stream, &snapshot).await;
        if snapshot.contents().peers.contains_key(&other.node) {
            break;
        }
    }
    let answer_pings = async {
        loop {
            if let Body::Diagnostic(request) = stream.next().await.unwrap() {
                let Some(v1::diagnostic_request::Body::Ping(ping)) = request.body else {
                    panic!("only ping")
                };
                assert_eq!(ping.node_id, other.node.to_vec());
                let sample = v1::PingSample { sequence: 1, rtt_ns: 42 };
                let result = v1::DiagnosticResult {
                    diagnostic_id: request.diagnostic_id,
                    ping: Some(v1::PingResult { overlay: vec![sample], ..Default::default() }),
                    ..Default::default()
                };
                stream.say(Say::Diagnostic(result)).await;
                return;
            }
        }
    };
    let mut admin = world.admin().await;
    let (answer, ()) = tokio::join!(admin.ping(ping("two")), answer_pings);
    assert_eq!(answer.unwrap().into_inner().overlay[0].rtt_ns, 42);
    let explain = |class: &str, down: usize| {
        world.request(v1::AdminPathExplainRequest {
            cluster: "prod".into(),
            from: "one".into(),
            to: "two".into(),
            class: class.into(),
            down: vec!["r1".into(); down],
        })
    };
    for refused in [explain("bulk", 0), explain("input", 65)] {
        assert_eq!(reason(admin.path_explain(refused).await.unwrap_err()), Reason::RequestInvalid);
    }
    let answer_path = async {
        loop {
            if let Body::Diagnostic(request) = stream.next().await.unwrap() {
                let Some(v1::diagnostic_request::Body::PathExplain(asked)) = request.body else {
                    panic!("only a path")
                };
                assert_eq!((asked.node_id, asked.class.as_str()), (other.node.to_vec(), "input"));
                assert_eq!(asked.down, ["r1"]);
                let (diagnostic_id, path_explain) = (request.diagnostic_id, "{}".to_owned());
                let result = v1::DiagnosticResult { diagnostic_id, path_explain, ..Default::default() };
                stream.say(Say::Diagnostic(result)).await;
                return;
            }
        }
    };
    let (answer, ()) = tokio::join!(admin.path_explain(explain("input", 1)), answer_path);
    assert_eq!(answer.unwrap().into_inner().json, "{}");
    let itself = admin.ping(ping("one")).await.unwrap_err();
    assert_eq!(reason(itself), Reason::LinkPeerUnknown, "not in its own snapshot");
    let status = world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap().into_inner();
    assert_eq!((status.clusters[0].nodes_active, status.clusters[0].nodes_connected), (2, 1));
    world.stop().await;
}

#[tokio::test]
async fn hints_reach_peers_with_the_observed_address_in_place_of_a_wildcard() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 5, true).await;
    let (one, two) = (Host::new(&token, "one"), Host::new(&token, "two"));
    let (first, second) = (one.enrol(&world).await, two.enrol(&world).await);
    let (slot, _) = one.certificate(&world, &first).await.unwrap();
    let mut stream = one.stream(&world, &slot, hello()).await;
    let mut kept = Kept::new(&first);
    let update = stream.update().await;
    acknowledge(&stream, &kept.apply(&update)).await;

    let (other_slot, _) = two.certificate(&world, &second).await.unwrap();
    let hints = v1::NodeHello { link_hints: vec!["0.0.0.0:7443".into()], ..hello() };
    let _other = two.stream(&world, &other_slot, hints).await;
    let entry = loop {
        match stream.next().await.unwrap() {
            Body::Directory(update) => break update.entries.into_iter().next().unwrap(),
            Body::Update(update) => acknowledge(&stream, &kept.apply(&update)).await,
            _ => {}
        }
    };
    assert_eq!(entry.node_id, second.node.to_vec());
    assert!(entry.link_hints[0].starts_with("127.1.") && entry.link_hints[0].ends_with(":7443"), "{entry:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_head_above_the_database_starts_a_new_incarnation() {
    let world = World::dev().await;
    let cluster = world.cluster("prod").await;
    let host = Host::new(&world.token("prod", 1, true).await, "one");
    let bootstrap = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    // A head that this authority signed in a future that the database does not know.
    let served = world.running.replica.serving.clusters.named("prod").unwrap();
    let published = loop {
        if let Some(published) = served.feed.newest().filter(|published| published.order.version.0 >= 2) {
            break published;
        }
        served.feed.follow().changed().await.unwrap();
    };
    let mut plan = (*published.plan).clone();
    plan.version = rap_types::Version(1_000);
    let terms = rap_planner::HeadTerms {
        issuer: served.authority.id(),
        refresh: rap_types::Refresh(0),
        previous: None,
        issued_at: published.issued_at,
        fresh_for: served.timing.fresh_for,
        reconnect_window: std::time::Duration::ZERO,
        dev: true,
    };
    let newest_head = rap_contract::sign(&plan.head(&terms), &[&served.authority]);
    let mut stream = host.stream(&world, &slot, v1::NodeHello { newest_head, ..hello() }).await;
    let mut kept = Kept::new(&bootstrap);
    let snapshot = kept.apply(&stream.update().await);
    assert!(snapshot.head().order.incarnation.0 > cluster.incarnation);
    world.stop().await;
}
