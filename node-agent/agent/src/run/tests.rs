//! The driver with a disk that does not answer: what waits for it, and what goes on.

#[path = "../../../trust/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use rap_contract::BreakGlassText;
use rap_node::{ContactFacts, LinkCertificate, Node, NodeSettings};
use rap_rpc::dial::ControlUrl;
use rap_runtime::tls::CertificateCell;
use rap_runtime::{Clock, Fault, TaskGroup, Watchdog};
use rap_state::{Cache, CacheLimits, MembershipDir, MembershipName};
use rap_trust::certificate::CertificateSubject;
use rap_trust::{KeptAudit, StoredBreakGlass};
use rap_types::{HeadOrder, NodeId, Reason, Wall};
use rap_wire::v1;
use support::{Contents, World, peer};
use tokio::sync::{mpsc, oneshot};
use v1::break_glass_grant::Permit;
use v1::{control_message, node_message};
use zeroize::Zeroizing;

use super::channels::Channels;
use super::disk::{Disk, Write, Written};
use super::driver::{Driver, Receivers, Senders};
use super::key_ages::KeyAges;
use crate::control_plane::{CertificateTask, ControlPlane, Stream, TrustedTime, UplinkEvent};
use crate::dataplane::{DataplaneCommand, DataplaneEvent, DataplaneFacts};
use crate::host::{HostClaims, HostHandle};
use crate::requests::Request;
use crate::status::{Contact, StatusFacts};

const DEADLINE: Duration = Duration::from_secs(20);

/// The other ends of a driver's channels. The test is the disk, the data plane and the control plane.
struct Around {
    world: World,
    writes: mpsc::Receiver<Write>,
    written: mpsc::Sender<Written>,
    uplink: mpsc::Sender<UplinkEvent>,
    dataplane: mpsc::Sender<DataplaneEvent>,
    requests: mpsc::Sender<Request>,
    commands: mpsc::Receiver<DataplaneCommand>,
    tables: tokio::sync::watch::Receiver<Option<Arc<rap_node::ForwardingTable>>>,
    heard: Option<mpsc::Receiver<v1::NodeMessage>>,
}

fn now() -> Wall {
    Clock::new().now().wall
}

async fn driver(data: &std::path::Path) -> (Driver, Around) {
    let world = World::default();
    let (clock, tasks) = (Clock::new(), TaskGroup::new());
    let dir = MembershipDir::open(data, &MembershipName::new("m").unwrap()).unwrap();
    let cache = Cache::open(&dir, world.cluster, CacheLimits::default()).await.unwrap();
    let settings = NodeSettings {
        pinned: world.pinned(),
        floors: world.floors(),
        grants: (world.break_glass_pins(), StoredBreakGlass::default()),
        wireguard_private_key: Zeroizing::new([55; 32]),
        contact: ContactFacts::default(),
        audit: KeptAudit::default(),
        remembered: rap_types::Wall(0),
        loopback: rap_types::sense::Loopback::Allowed,
        path_terms: rap_node::PathTerms { lifetime_s: 600, attachments_max: 7, ..Default::default() },
    };
    let leaf = LinkCertificate {
        certificate: b"leaf".to_vec(),
        private_key: Zeroizing::new(b"leaf key".to_vec()),
        not_after: now().plus(Duration::from_secs(3600)),
        authority: Vec::new(),
    };
    let channels = Channels::new(Vec::new(), (Vec::new(), Vec::new()));
    let time = TrustedTime::new(clock, Wall(0));
    let proofs = CertificateTask {
        installation: world.installation,
        subject: CertificateSubject { cluster: world.cluster, node: world.node },
        identity: Arc::new(rap_contract::Signer::from_seed(&world.node_key.seed())),
        control: ControlPlane {
            urls: vec![ControlUrl::parse("https://127.0.0.1:1").unwrap()],
            pin: world.server_pin,
            time: time.clone(),
            timeout: DEADLINE,
        },
    };
    let ages = KeyAges {
        host: HostHandle::new(mpsc::channel(1).0),
        name: "m".into(),
        identity_since: now(),
        wireguard_since: now(),
        unfinished: false,
    };
    let driver = Driver {
        node: Node::start(settings, &[], Some(leaf), clock.now()),
        disk: Disk::new(channels.writes.0),
        cache,
        receivers: Receivers {
            uplink: channels.uplink_events.1,
            dataplane: channels.dataplane_events.1,
            certificates: channels.certificates.1,
            certificate_failure: channels.certificate_failure.1,
            addresses: channels.addresses.1,
            resolved_names: channels.resolved_names.1,
            requests: channels.requests.1,
            ping_ends: channels.ping_ends.1,
            written: channels.written.1,
        },
        senders: Senders {
            tables: channels.tables.0,
            commands: channels.commands.0,
            certificate_ready: channels.certificate_ready.0,
            doubts: channels.doubts.0,
            cluster_ca: channels.cluster_ca.0,
            stale_head: tokio::sync::watch::channel(None).0,
            wanted_names: channels.wanted_names.0,
            pause: channels.pause.0,
            ping_ends: channels.ping_ends.0,
        },
        stream: None,
        certificate: CertificateCell::new(),
        time,
        claim: HostClaims::default().of("m"),
        ages,
        judged: None,
        time_stored: clock.now().mono,
        boot_id: String::new(),
        facts: StatusFacts::default(),
        contact: Contact::default(),
        manifest: Vec::new(),
        proofs,
        tasks,
        beat: Watchdog::default().part("m"),
        clock,
    };
    let around = Around {
        world,
        writes: channels.writes.1,
        written: channels.written.0,
        uplink: channels.uplink_events.0,
        dataplane: channels.dataplane_events.0,
        requests: channels.requests.0,
        commands: channels.commands.1,
        tables: channels.tables.1,
        heard: None,
    };
    (driver, around)
}

impl Around {
    async fn open_stream(&mut self) {
        let (queue, heard) = mpsc::channel(64);
        let end = tokio_util::sync::CancellationToken::new().drop_guard();
        self.heard = Some(heard);
        self.uplink.send(UplinkEvent::Opened("url".into(), Stream::new(queue, end))).await.ok().unwrap();
    }

    async fn say(&self, body: control_message::Body) {
        let message = Box::new(v1::ControlMessage { body: Some(body) });
        self.uplink.send(UplinkEvent::Message(message)).await.ok().unwrap();
    }

    async fn publish(&self, version: u64, contents: &Contents) {
        let issued = now();
        let fresh =
            |head: &mut v1::ClusterHead| head.fresh_until_ms = issued.plus(Duration::from_secs(300)).0;
        let published = self.world.publish_as(HeadOrder::new(1, version, 0), contents, issued, fresh);
        self.say(control_message::Body::Update(published.full())).await;
    }

    async fn heard<T>(&mut self, fits: impl Fn(node_message::Body) -> Option<T>) -> T {
        let heard = self.heard.as_mut().unwrap();
        loop {
            if let Some(found) = fits(heard.recv().await.expect("a stream").body.unwrap()) {
                return found;
            }
        }
    }

    /// Takes the next write; the disk blocks until it is answered.
    async fn taken(&mut self) -> Write {
        self.writes.recv().await.expect("a driver")
    }

    async fn answer(&self, write: Write, outcome: Result<(), Fault>) {
        self.written.send(Written(write, outcome)).await.ok().unwrap();
    }

    /// The peers of the next table.
    async fn table(&mut self) -> v1::ForwardingTable {
        self.tables.changed().await.unwrap();
        self.tables.borrow_and_update().as_ref().unwrap().message().clone()
    }

    /// Version 1 with two peers is in use. The disk has taken the write after it and does not answer.
    async fn running(&mut self) -> Write {
        let hello = v1::DataplaneHelloAnswer::default();
        self.dataplane
            .send(DataplaneEvent::Up(DataplaneFacts { hello, adopted: true, path_instance: 1 }))
            .await
            .ok()
            .unwrap();
        self.open_stream().await;
        self.publish(1, &self.world.contents(2)).await;
        let write = self.taken().await;
        assert!(matches!(write, Write::Record(..)));
        self.answer(write, Ok(())).await;
        assert_eq!(self.table().await.peers.len(), 2);
        let under_way = self.taken().await;
        assert!(matches!(under_way, Write::KeepOnly(_)));
        under_way
    }
}

/// Runs the driver beside what the test does.
async fn beside(driver: Driver, test: impl Future<Output = ()>) {
    let end = tokio_util::sync::CancellationToken::new();
    tokio::select! {
        ended = driver.run(None, end.clone()) => panic!("the driver ended: {ended:?}"),
        done = tokio::time::timeout(DEADLINE, test) => done.expect("in time"),
    }
}

#[tokio::test]
async fn a_disk_that_blocks_delays_no_revocation_no_diagnostic_and_no_hello() {
    let data = tempfile::tempdir().unwrap();
    let (driver, mut around) = driver(data.path()).await;
    beside(driver, async move {
        let under_way = around.running().await;
        let mut contents = around.world.contents(3);
        contents.revoke(&around.world.cluster_ca, &[1]);
        around.publish(2, &contents).await;
        let table = around.table().await;
        let ids: Vec<&Vec<u8>> = table.peers.iter().map(|peer| &peer.node_id).collect();
        assert_eq!((ids, table.revoked.len()), (vec![&peer(2).node_id], 1), "nothing but the revocation");
        // A diagnostic goes to the data plane and its result to the control plane.
        let ping = v1::PingRequest { node_id: peer(2).node_id, count: 1, interval_ms: 1 };
        let body = Some(v1::diagnostic_request::Body::Ping(ping));
        let asked = v1::DiagnosticRequest { diagnostic_id: vec![9; 16], body };
        around.say(control_message::Body::Diagnostic(asked)).await;
        let Some(DataplaneCommand::Ping { node, reply, .. }) = around.commands.recv().await else { panic!() };
        assert_eq!(node, NodeId::from_slice(&peer(2).node_id).unwrap());
        reply.send(Ok(v1::PingOutcome::default())).ok().unwrap();
        let result = |body| match body {
            node_message::Body::Diagnostic(result) => Some(result.reason),
            node_message::Body::Ack(ack) if ack.version == 2 => panic!("acknowledged before the disk"),
            _ => None,
        };
        assert_eq!(around.heard(result).await, "");
        // Another stream is greeted, and status answers.
        around.open_stream().await;
        let hello = |body| matches!(body, node_message::Body::Hello(_)).then_some(());
        around.heard(hello).await;
        let (reply, status) = oneshot::channel();
        around.requests.send(Request::Status(reply)).await.ok().unwrap();
        assert_eq!(status.await.unwrap().document["active"]["sequence"], 1);
        // The disk answers: the version is written, and only then in use.
        around.answer(under_way, Ok(())).await;
        let write = around.taken().await;
        assert!(matches!(write, Write::Record(..)));
        around.answer(write, Ok(())).await;
        assert_eq!(around.table().await.peers.len(), 2);
        let acknowledged = |body| match body {
            node_message::Body::Ack(ack) => Some(ack.version),
            _ => None,
        };
        assert_eq!(around.heard(acknowledged).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_refuses_the_version_and_keeps_its_revocation_in_force() {
    let data = tempfile::tempdir().unwrap();
    let (driver, mut around) = driver(data.path()).await;
    beside(driver, async move {
        let under_way = around.running().await;
        around.answer(under_way, Ok(())).await;
        let mut contents = around.world.contents(2);
        contents.revoke(&around.world.cluster_ca, &[1]);
        around.publish(2, &contents).await;
        assert_eq!(around.table().await.peers.len(), 1);
        let write = around.taken().await;
        around.answer(write, Err(Fault::new(Reason::StateNoSpace, "full"))).await;
        let refused = |body| match body {
            node_message::Body::Nack(nack) => Some(nack.reason),
            _ => None,
        };
        assert_eq!(around.heard(refused).await, "state.no_space");
        // The next data plane gets the revocation, too.
        let hello = v1::DataplaneHelloAnswer { table_version: 70, ..Default::default() };
        let up = DataplaneEvent::Up(DataplaneFacts { hello, adopted: true, path_instance: 1 });
        around.dataplane.send(up).await.ok().unwrap();
        let table = around.table().await;
        assert_eq!((table.version, table.peers.len(), table.revoked.len()), (71, 1, 1));
    })
    .await;
}

#[tokio::test]
async fn break_glass_files_wait_for_the_disk_and_count_once() {
    let data = tempfile::tempdir().unwrap();
    let (driver, mut around) = driver(data.path()).await;
    beside(driver, async move {
        let under_way = around.running().await;
        let world = &around.world;
        let until = now().plus(Duration::from_secs(600)).0;
        let permit = Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: until });
        let grant = world.grant(1, now(), &world.authority, permit);
        let text = BreakGlassText::new(rap_contract::sign(&grant, &[&world.authority]), Vec::new()).text();
        let mut answers = Vec::new();
        for _ in 0..2 {
            let (reply, answer) = oneshot::channel();
            let asked = Request::BreakGlass { text: text.clone(), reply };
            around.requests.send(asked).await.ok().unwrap();
            answers.push(answer);
        }
        around.answer(under_way, Ok(())).await;
        let write = around.taken().await;
        assert!(matches!(write, Write::ApplyBreakGlass(..)));
        around.answer(write, Ok(())).await;
        let replayed = answers.pop().unwrap().await.unwrap().unwrap_err();
        assert_eq!(replayed.reason, Reason::BreakGlassReplayed, "judged again at its turn");
        assert_eq!(answers.pop().unwrap().await.unwrap().unwrap()["state"], "active");
    })
    .await;
}
