//! The life of a cluster's authority, with nodes that judge by the acceptor of the agent.

use std::sync::Arc;

use rap_contract::{Signer, VerifiedBootstrap, open_export};
use rap_runtime::Clock;
use rap_runtime::tls::CertificateCell;
use rap_trust::{Acceptor, Floors, Input, Output, Pinned};
use rap_types::{Incarnation, Now, Reason};
use rap_wire::v1;
use v1::control_message::Body;
use v1::node_message::Body as Say;

use crate::floors::within;
use crate::host::{Host, NodeStream, hello};
use crate::world::{World, reason};

/// A node: the acceptor of the agent, and a stream that feeds it.
pub struct Node {
    pub host: Host,
    pub slot: CertificateCell,
    pub acceptor: Acceptor,
    pub stream: Option<NodeStream>,
    /// What came on the stream, in order.
    heard: Vec<&'static str>,
}

fn now() -> Now {
    Clock::new().now()
}

impl Node {
    async fn enrolled(world: &World, token: &v1::TokenCreateAnswer, name: &str) -> Self {
        let host = Host::new(token, name);
        let bootstrap = host.enrol(world).await;
        Self::of(world, host, &bootstrap).await
    }

    pub async fn of(world: &World, host: Host, bootstrap: &VerifiedBootstrap) -> Self {
        let (slot, _) = host.certificate(world, bootstrap).await.unwrap();
        let acceptor = Acceptor::start(
            pinned(&host, bootstrap),
            Floors::initial(Incarnation(bootstrap.chain.incarnation())),
            &[],
            now(),
        );
        Self { host, slot, acceptor, stream: None, heard: Vec::new() }
    }

    pub async fn wake(&mut self, world: &World) {
        let newest = self.acceptor.newest();
        let hello = v1::NodeHello {
            authority_sequence: self.acceptor.authority().0,
            newest_head: newest.map(|newest| newest.head_document().envelope().to_vec()).unwrap_or_default(),
            leaf_hash: newest.map(|newest| newest.leaf_hash().to_vec()).unwrap_or_default(),
            ..hello()
        };
        let stream = self.host.stream(world, &self.slot, hello).await;
        stream.say(Say::Authority(self.acceptor.confirmation())).await;
        self.stream = Some(stream);
        self.heard.clear();
    }

    fn sleep(&mut self) {
        self.stream = None;
    }

    /// Hears until `done`, and does what the acceptor says.
    pub async fn until(&mut self, done: impl Fn(&Acceptor) -> bool) {
        while !done(&self.acceptor) {
            let stream = self.stream.as_mut().unwrap();
            let input = match stream.next().await.unwrap() {
                Body::Update(update) => {
                    self.heard.push("update");
                    Input::Updated(update)
                }
                Body::Head(head) => {
                    self.heard.push("head");
                    Input::HeadArrived(head)
                }
                Body::Authority(records) => {
                    self.heard.push("records");
                    Input::RecordsArrived(records)
                }
                _ => continue,
            };
            self.take(input).await;
        }
    }

    /// Does what the acceptor says to one message.
    async fn take(&mut self, input: Input) {
        let stream = self.stream.as_ref().unwrap();
        self.acceptor.handle(input, now());
        while let Some(output) = self.acceptor.poll_output() {
            match output {
                Output::Persist(id, _) => self.acceptor.handle(Input::Persisted(id), now()),
                Output::Acknowledge(ack) => stream.say(Say::Ack(ack)).await,
                Output::Confirm(confirm) => stream.say(Say::Authority(confirm)).await,
                Output::Refuse(nack) => panic!("refused: {}", nack.reason),
                Output::Restrict(_) | Output::Activate(_) | Output::Alarm(_) => {}
            }
        }
    }

    async fn until_active_under(&mut self, sequence: u64) {
        self.until(|acceptor| {
            let chain = &acceptor.pinned().chain;
            chain.sequence() == sequence
                && acceptor
                    .active()
                    .is_some_and(|active| active.head_document().signers() == [chain.active().id()])
        })
        .await;
    }
}

fn pinned(host: &Host, bootstrap: &VerifiedBootstrap) -> Pinned {
    Pinned {
        installation: bootstrap.contract.header().installation,
        cluster: bootstrap.contract.header().cluster,
        node: bootstrap.node,
        node_key: host.key.id(),
        wireguard_key: host.wireguard,
        installation_authority: bootstrap.installation_authority,
        chain: Arc::new(bootstrap.chain.clone()),
        former: None,
        addresses: None,
        accept_dev: true,
    }
}

pub fn key_request(seed: &[u8]) -> v1::AuthorityKeyRequest {
    v1::AuthorityKeyRequest { cluster: "prod".into(), imported_seed: seed.to_vec(), reason: "test".into() }
}

pub fn step(sequence: u64, force: bool) -> v1::AuthorityStepRequest {
    v1::AuthorityStepRequest { cluster: "prod".into(), sequence, force, reason: String::new() }
}

async fn rotate(world: &World) -> v1::AuthorityListAnswer {
    let request = world.request(key_request(&[]));
    world.authority().await.authority_rotate(request).await.unwrap().into_inner()
}

fn states(answer: &v1::AuthorityListAnswer) -> Vec<&str> {
    answer.keys.iter().map(|key| key.state.as_str()).collect()
}

async fn awaited(world: &World) -> usize {
    let request = world.request(v1::ClusterRef { cluster: "prod".into() });
    let answer = world.authority().await.authority_confirmations(request).await.unwrap().into_inner();
    answer.nodes.iter().filter(|node| node.awaited).count()
}

/// Waits until every node that counts has confirmed.
async fn all_confirmed(world: &World) {
    until_awaited(world, 0).await;
}

/// Waits until the newest record is awaited of so many nodes: contacts are written a moment after they happen.
async fn until_awaited(world: &World, nodes: usize) {
    within(20, "contacts are written", async || (awaited(world).await == nodes).then_some(())).await;
}

#[tokio::test]
async fn a_rotation_reaches_a_connected_node_records_first_and_a_sleeper_walks_two_of_them() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let mut awake = Node::enrolled(&world, &token, "awake").await;
    let mut sleeper = Node::enrolled(&world, &token, "sleeper").await;
    for node in [&mut awake, &mut sleeper] {
        node.wake(&world).await;
        node.until_active_under(1).await;
    }
    sleeper.sleep();
    awake.heard.clear();

    let first = rotate(&world).await;
    assert_eq!(states(&first), ["active", "active"], "the key before is in overlap");
    assert!(first.keys[1].signs && !first.keys[0].signs);
    awake.until_active_under(2).await;
    // A version from before the rotation may still have been under way; a head by a key that is not pinned yet would be refused.
    assert!(awake.heard.contains(&"records"), "{:?}", awake.heard);
    assert_eq!(awake.acceptor.rejects().last(), None, "{:?}", awake.heard);
    rotate(&world).await;
    awake.until_active_under(3).await;

    // The sleeper still holds a snapshot by the first key.
    assert_eq!(sleeper.acceptor.authority().0, 1);
    until_awaited(&world, 1).await;
    let taint = world.authority().await.authority_taint(world.request(step(1, false))).await;
    assert_eq!(reason(taint.unwrap_err()), Reason::AuthorityUnconfirmed);
    sleeper.wake(&world).await;
    sleeper.until_active_under(3).await;
    assert_eq!(sleeper.heard[0], "records");
    all_confirmed(&world).await;
    let tainted = world.authority().await.authority_taint(world.request(step(0, false))).await.unwrap();
    assert_eq!(states(tainted.get_ref()), ["tainted", "active", "active"]);

    // A node that joins now gets the whole chain with its contract, and an export walks it.
    let token = world.token("prod", 1, true).await;
    let mut late = Node::enrolled(&world, &token, "late").await;
    assert_eq!(late.acceptor.authority().0, 3);
    late.wake(&world).await;
    late.until_active_under(3).await;
    let request = v1::NodeRef { cluster: "prod".into(), node: "late".into() };
    let export = world.admin().await.node_export(world.request(request)).await.unwrap().into_inner().export;
    let verified = open_export(&export, &world.running.replica.keys.installation.roots, true).unwrap();
    assert_eq!(verified.chain.sequence(), 3);
    world.stop().await;
}

#[tokio::test]
async fn no_head_comes_before_the_records_that_it_needs_are_on_the_nodes_disk() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let mut node = Node::enrolled(&world, &token, "slow-disk").await;
    node.wake(&world).await;
    node.until_active_under(1).await;
    node.sleep();
    rotate(&world).await;
    node.wake(&world).await;
    // The disk takes its time: what is sent at once would be here long since.
    let (stream, slow) = (node.stream.as_mut().unwrap(), std::time::Duration::from_millis(500));
    let (mut records, mut patience) = (None, std::time::Duration::from_secs(60));
    while let Ok(body) = tokio::time::timeout(patience, stream.next()).await {
        match body.unwrap() {
            Body::Authority(sent) => (records, patience) = (Some(sent), slow),
            body => assert!(!matches!(body, Body::Update(_) | Body::Head(_)), "unconfirmed: {body:?}"),
        }
    }
    node.take(Input::RecordsArrived(records.unwrap())).await;
    node.until_active_under(2).await;
    world.stop().await;
}

#[tokio::test]
async fn tokens_of_a_replaced_key_count_until_it_is_revoked() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let old = world.token("prod", 9, true).await;
    rotate(&world).await;
    // During overlap and taint the token works, and its contract leads to the new key.
    let first = Host::new(&old, "one").enrol(&world).await;
    assert_eq!(first.chain.sequence(), 2);
    let mut authority = world.authority().await;
    let early = authority.authority_revoke(world.request(step(1, false))).await;
    assert_eq!(reason(early.unwrap_err()), Reason::AuthorityState, "first tainted, then revoked");
    authority.authority_taint(world.request(step(1, true))).await.unwrap();
    let second = Host::new(&old, "two");
    let (answer, nonce) = second.join(&world).await.unwrap();

    let revoked = authority.authority_revoke(world.request(step(0, false))).await.unwrap().into_inner();
    assert_eq!(states(&revoked), ["revoked", "active"]);
    let refused = Host::new(&old, "three").join(&world).await.map(drop).unwrap_err();
    assert_eq!(reason(refused), Reason::TokenAuthorityRevoked);
    let request = v1::TokenListRequest { cluster: "prod".into() };
    let listed = world.admin().await.token_list(world.request(request)).await.unwrap().into_inner().tokens;
    assert_eq!((listed.len(), listed[0].state.as_str()), (1, "revoked"));
    // Its answer can no longer be signed by the key that its holder knows.
    let poll = second.poll(&world, &answer.request_id).await.unwrap_err();
    assert_eq!((reason(poll), nonce.len()), (Reason::TokenAuthorityRevoked, 32));
    // The private half is gone from the database.
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let id = world.running.replica.serving.clusters.named("prod").unwrap().id;
    let rows = rap_store::authorities_list(
        &mut transaction,
        &world.running.replica.serving.clusters.by_id(id).unwrap().rows,
    )
    .await
    .unwrap();
    assert!(rows[0].sealed_private_key.is_none() && rows[1].sealed_private_key.is_some());
    drop(transaction);
    let token = world.token("prod", 1, true).await;
    Host::new(&token, "four").enrol(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn prepared_and_imported_keys_are_used_once_and_steps_out_of_order_refused() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let mut authority = world.authority().await;
    let seed = [0x61; 32];
    let imported = Signer::from_seed(&seed);
    let prepared = authority.authority_prepare(world.request(key_request(&seed))).await.unwrap().into_inner();
    assert_eq!(states(&prepared), ["active", "prepared"]);
    assert_eq!(prepared.keys[1].public_key, imported.public().to_vec());
    let again = authority.authority_prepare(world.request(key_request(&[]))).await.unwrap_err();
    assert_eq!(reason(again), Reason::AuthorityState);
    let other = authority.authority_rotate(world.request(key_request(&[0x62; 32]))).await.unwrap_err();
    assert_eq!(reason(other), Reason::AuthorityState, "the prepared key is the next one");
    let rotated = rotate(&world).await;
    assert_eq!(rotated.keys[1].public_key, imported.public().to_vec());
    for (request, expected) in
        [(key_request(&seed), Reason::ChainBroken), (key_request(&[1; 31]), Reason::KeyInvalid)]
    {
        let refused = authority.authority_rotate(world.request(request)).await.unwrap_err();
        assert_eq!(reason(refused), expected);
    }
    let newest = authority.authority_taint(world.request(step(2, true))).await.unwrap_err();
    assert_eq!(reason(newest), Reason::AuthorityState, "the key that signs is never tainted");
    // One key speaks for one cluster.
    world.cluster("other").await;
    let shared = v1::AuthorityKeyRequest { cluster: "other".into(), ..key_request(&seed) };
    let shared = authority.authority_rotate(world.request(shared)).await.unwrap_err();
    assert_eq!(reason(shared), Reason::ResourceExists);
    world.stop().await;
}

#[tokio::test]
async fn a_lost_key_is_recovered_and_no_other_cluster_suffers() {
    let mut world = World::dev().await;
    world.cluster("prod").await;
    world.cluster("other").await;
    let old = world.token("prod", 9, true).await;
    let mut node = Node::enrolled(&world, &old, "one").await;
    node.wake(&world).await;
    node.until_active_under(1).await;
    node.sleep();

    let database = world.database.as_ref().unwrap();
    database
        .tamper_all(
            &["cluster_authorities", "clusters"],
            "UPDATE cluster_authorities a SET sealed_private_key = '\\x01' FROM clusters c \
             WHERE c.cluster_id = a.cluster_id AND c.name = 'prod'",
        )
        .await;
    let restarted = world.replica().await;
    world.through(restarted).stop().await;
    let show = v1::ClusterRef { cluster: "prod".into() };
    let broken = world.admin().await.cluster_show(world.request(show)).await.unwrap_err();
    assert_eq!(reason(broken), Reason::SecretUnseal);
    assert!(world.running.replica.watch.metrics.alarms(Reason::SecretUnseal) > 0);
    world.token("other", 1, true).await;

    let recovered = world.authority().await.authority_recover(world.request(key_request(&[]))).await.unwrap();
    assert_eq!(states(recovered.get_ref()), ["revoked", "active"]);
    assert_eq!(recovered.get_ref().keys[1].kind, "recovery");
    node.wake(&world).await;
    node.until_active_under(2).await;
    let refused = Host::new(&old, "two").join(&world).await.map(drop).unwrap_err();
    assert_eq!(reason(refused), Reason::TokenAuthorityRevoked);
    world.stop().await;
}

#[tokio::test]
async fn another_replica_follows_a_rotation_and_signs_nothing_with_the_old_key() {
    let mut world = World::dev().await;
    let second = world.replica().await;
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let mut node = Node::enrolled(&world, &token, "one").await;
    let first = world.through(second);
    node.wake(&world).await;
    node.until_active_under(1).await;
    let second = world.through(first);
    rotate(&world).await;
    rotate(&world).await;
    // The node's stream is at the other replica.
    node.until_active_under(3).await;
    let prod = world.running.replica.serving.clusters.named("prod").unwrap();
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let head = rap_store::head_newest(&mut transaction, prod.id).await.unwrap().unwrap();
    drop(transaction);
    let expect = rap_contract::Expectation { features: &["dev"], ..Default::default() };
    let keys = prod.chain.keys::<v1::ClusterHead>();
    assert!(rap_contract::HeadFacts::open(&head.head.envelope, &keys, &expect).is_ok());
    second.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_node_with_a_record_of_nobody_raises_an_alarm() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let token = world.token("prod", 1, true).await;
    let host = Host::new(&token, "one");
    let bootstrap = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    let said = v1::NodeHello { authority_sequence: 9, ..hello() };
    let mut stream = host.stream(&world, &slot, said).await;
    let foreign = v1::AuthorityConfirm { sequence: 9, digest: vec![7; 32], reason: String::new() };
    stream.say(Say::Authority(foreign)).await;
    let refused = loop {
        match stream.next().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(reason(refused), Reason::AuthorityMismatch);
    assert_eq!(world.running.replica.watch.metrics.alarms(Reason::AuthorityMismatch), 1);
    world.stop().await;
}
