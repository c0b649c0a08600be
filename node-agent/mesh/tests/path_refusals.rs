//! A member that means harm, over real links: what it asks for is refused with a code, and others go on.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use rap_contract::{PathInstall, PathNext, PublicKey, sign_by_leaf};
use rap_link::path::{request_payload, wireguard_payload};
use rap_link::{FEATURE_FABRIC, FEATURE_LANES, Frame, FrameKind, Input, Lane, Output, SessionState};
use rap_mesh::{
    Carries, Dial, KnownEnd, MeshConfig, MeshEvent, PathEnd, PathEvent, PathPlan, PathSlot, PathTerms, Peer,
    Peers,
};
use rap_runtime::Clock;
use rap_runtime::tls::{CertificateCell, LeafSigner};
use rap_types::{ChannelClass, Mono, NodeId, Reason};
use rap_wire::v1;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;

const A: u8 = 1;
const B: u8 = 2;
const FOE: u8 = 3;
const STRANGER: u8 = 4;
const RELAY: u8 = 101;

/// One relay that knows everybody, and a path from A to B through it.
struct Scene {
    authority: Authority,
    relay: Node,
    a: Node,
    b: Node,
    path: PathEnd,
    arrived: Receiver<PathEvent>,
    _events: Receiver<PathEvent>,
}

impl Scene {
    async fn new() -> Self {
        let authority = Authority::new(HOME);
        let start = |number| Node::start(&authority, config(number));
        let (a, b, relay) = (start(A), start(B), start(RELAY));
        let peer = |endpoint, dial| Peer { endpoints: endpoint, deadline: Mono(u64::MAX), dial };
        let apply = |node: &Node, peers: BTreeMap<NodeId, Peer>| {
            let trust = authority.trust(&[]);
            node.mesh.apply(Peers { peers, trust, newest_head: vec![], probe_interval: None, former: None });
        };
        let accepted = [A, B, FOE, STRANGER].map(|number| (node(number), peer(vec![], Dial::OnDemand)));
        apply(&relay, BTreeMap::from(accepted));
        let dialled = || BTreeMap::from([(relay.id, peer(vec![relay.address()], Dial::AtOnce))]);
        apply(&a, dialled());
        apply(&b, dialled());
        let mut arrived = b.mesh.path_events().unwrap();
        let mut events = a.mesh.path_events().unwrap();
        relay.mesh.set_paths(terms(true), vec![]);
        b.mesh.set_paths(terms(false), vec![]);
        let plan = PathPlan { destination: b.id, primary: vec![relay.id], backup: None };
        eventually("b is linked", || b.is_linked(relay.id)).await;
        a.mesh.set_paths(terms(false), vec![plan]);
        a.mesh.want_path(b.id).unwrap();
        let path = up(&mut events, PathSlot::Primary).await;
        up(&mut arrived, PathSlot::Answering).await;
        Self { authority, relay, a, b, path, arrived, _events: events }
    }

    async fn foe(&self, number: u8) -> Foe {
        let puppet = Puppet::establish(&self.authority, number, &self.relay).await;
        let cell = CertificateCell::new();
        let (chain, key) = self.authority.leaf(node(number), 1, Duration::from_secs(3600));
        cell.set(chain, key).unwrap();
        Foe { id: node(number), puppet, signer: cell.signer().unwrap(), cluster: self.authority.cluster }
    }

    /// A datagram of A reaches B.
    async fn is_whole(&mut self) {
        self.a.mesh.send_on_path(self.path, b"whole").unwrap();
        assert_eq!(datagram(&mut self.arrived).await, b"whole");
    }
}

fn terms(is_relay: bool) -> PathTerms {
    let known = |number| (node(number), KnownEnd { organization: None, deadline: Mono(u64::MAX) });
    PathTerms {
        organization: None,
        carries: is_relay.then_some(Carries { any_organization: true, draining: false }),
        lifetime_s: 600,
        instance: 1,
        deadline: Mono(u64::MAX),
        known: [A, B, FOE, STRANGER, RELAY].map(known).into(),
    }
}

async fn up(events: &mut Receiver<PathEvent>, wanted: PathSlot) -> PathEnd {
    loop {
        match patiently(events.recv()).await.unwrap() {
            PathEvent::Up { end, slot, .. } if slot == wanted => return end,
            _ => {}
        }
    }
}

async fn datagram(events: &mut Receiver<PathEvent>) -> Vec<u8> {
    loop {
        if let PathEvent::Received { datagram, .. } = patiently(events.recv()).await.unwrap() {
            return datagram.to_vec();
        }
    }
}

/// A member whose session and installs the test makes by hand.
struct Foe {
    id: NodeId,
    puppet: Puppet,
    signer: LeafSigner,
    cluster: rap_types::ClusterId,
}

impl Foe {
    /// Installs of a path over the relay to B; the labels begin with `label`.
    fn installs(&self, generation: u64, label: u64) -> [PathInstall; 2] {
        let relay = PathInstall {
            path_id: [generation as u8; 16],
            lane: v1::LinkLane::C,
            generation,
            source: self.id,
            destination: node(B),
            organization: None,
            position: 1,
            length: 2,
            previous: self.id,
            in_label: label,
            back_out_label: label + 1,
            next: Some(PathNext { node: node(B), out_label: label + 2, back_in_label: label + 3 }),
            rate_kbit: 0,
            lifetime_s: 600,
            issued_at: Clock::new().now().wall,
        };
        let last = PathInstall {
            position: 2,
            previous: node(RELAY),
            in_label: label + 2,
            back_out_label: label + 3,
            next: None,
            ..relay.clone()
        };
        [relay, last]
    }

    fn request(&self, id: u64, installs: &[PathInstall; 2]) -> Frame {
        let key = PublicKey::from_slice(self.signer.key()).unwrap();
        let signed = [node(RELAY), node(B)].into_iter().zip(installs).map(|(hop, install)| {
            let install = install.to_wire(INSTALLATION, self.cluster, hop, &key);
            sign_by_leaf(&install, &key, |message| self.signer.sign(message)).unwrap()
        });
        let payload = request_payload(id, self.signer.leaf(), signed.collect());
        Frame::local(ChannelClass::Control, FrameKind::PathRequest, payload)
    }

    async fn say(&mut self, frame: Frame) {
        self.puppet.link.handle(Input::SendAsked(frame), Clock::new().now()).unwrap();
        self.puppet.write().await;
    }

    /// The next frame of paths from the relay.
    async fn hear(&mut self) -> Frame {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            while let Some(output) = self.puppet.link.poll_output() {
                if let Output::Received(frame) = output {
                    return frame;
                }
            }
            let count = patiently(self.puppet.stream.read(&mut buffer)).await.unwrap();
            assert!(count > 0, "the link ended");
            self.puppet.link.receive(&buffer[..count], Clock::new().now());
            self.puppet.write().await;
        }
    }

    async fn answer(&mut self) -> String {
        let frame = self.hear().await;
        assert_eq!(frame.kind, FrameKind::PathAnswer);
        v1::PathAnswer::decode(&frame.payload[..]).unwrap().reason
    }
}

fn data(label: u64) -> Frame {
    Frame::labelled(ChannelClass::Vpn, label, 2, wireguard_payload(b"by hand").unwrap())
}

#[tokio::test]
async fn foreign_labels_replayed_installs_and_loops_are_refused_over_real_links() {
    let mut scene = Scene::new().await;
    let (mut foe, mut stranger) = (scene.foe(FOE).await, scene.foe(STRANGER).await);
    let installs = foe.installs(1 << 32, 700);
    let request = foe.request(1, &installs);
    foe.say(request.clone()).await;
    assert_eq!(foe.answer().await, "", "a member may install a path of its own");
    foe.say(data(700)).await;
    assert_eq!(datagram(&mut scene.arrived).await, b"by hand");

    stranger.say(data(700)).await;
    let fault = stranger.hear().await;
    assert_eq!(fault.kind, FrameKind::PathFault);
    let fault = v1::PathFault::decode(&fault.payload[..]).unwrap();
    assert_eq!((fault.label, fault.reason.as_str()), (700, Reason::PathLabelUnknown.code()));

    foe.say(request.clone()).await;
    assert_eq!(foe.answer().await, Reason::PathGenerationStale.code());
    stranger.say(request).await;
    assert_eq!(
        stranger.answer().await,
        Reason::PathPreviousMismatch.code(),
        "signed by another, for another link"
    );

    for next in [FOE, RELAY] {
        let mut looped = foe.installs(2 << 32, 800);
        looped[0].next.as_mut().unwrap().node = node(next);
        let looped = foe.request(2, &looped);
        foe.say(looped).await;
        assert_eq!(foe.answer().await, Reason::PathLoop.code(), "{next}");
    }
    let mut stolen = foe.installs(3 << 32, 900);
    (stolen[0].source, stolen[0].previous) = (node(A), node(A));
    let stolen = foe.request(3, &stolen);
    foe.say(stolen).await;
    assert_eq!(foe.answer().await, Reason::PathSignature.code());
    scene.is_whole().await;
    assert_eq!(scene.relay.state(foe.id), Some(SessionState::Established), "a refusal ends no link");
}

#[tokio::test]
async fn a_hundred_thousand_requests_of_one_peer_are_refused_while_others_send() {
    let mut scene = Scene::new().await;
    let foe = scene.foe(FOE).await;
    let (mut read, mut write) = tokio::io::split(foe.puppet.stream);
    // It takes what it is told: a peer that does not is closed for that.
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    let batch = |from: u64| {
        let mut bytes = Vec::new();
        for id in from..from + 1000 {
            let payload = request_payload(id, b"no leaf", vec![vec![0; 60]; 2]);
            Frame::local(ChannelClass::Control, FrameKind::PathRequest, payload).encode(&mut bytes).unwrap();
        }
        bytes
    };
    let flooding = async {
        for round in 0..100 {
            patiently(write.write_all(&batch(round * 1000))).await.unwrap();
            write.flush().await.unwrap();
            if round % 10 == 0 {
                scene.is_whole().await;
            }
        }
    };
    tokio::select! {
        () = reading => panic!("the link ended"),
        () = flooding => {}
    }
    let refused = |reason| scene.relay.refused(reason);
    eventually("every request was refused", || {
        refused(Reason::PathRate) + refused(Reason::PathSignature) >= 100_000
    })
    .await;
    assert!(
        refused(Reason::PathRate) > 80_000,
        "{} signatures were verified",
        refused(Reason::PathSignature)
    );
    scene.is_whole().await;
    assert!(scene.b.is_linked(scene.relay.id));
}

/// A path of a real node over a real relay to a member that the test drives.
struct ToPuppet {
    authority: Authority,
    relay: Node,
    a: Node,
    silent: Foe,
    path: PathEnd,
    events: Receiver<PathEvent>,
}

impl ToPuppet {
    async fn new(write_stall: Duration, features: &[&str]) -> Self {
        let authority = Authority::new(HOME);
        let config_of_relay = MeshConfig { write_stall, ..config(RELAY) };
        let (relay, a) = (Node::start(&authority, config_of_relay), Node::start(&authority, config(A)));
        let apply = |node: &Node, peers: BTreeMap<NodeId, Peer>| {
            let trust = authority.trust(&[]);
            node.mesh.apply(Peers { peers, trust, newest_head: vec![], probe_interval: None, former: None });
        };
        let peer = |endpoints, dial| Peer { endpoints, deadline: Mono(u64::MAX), dial };
        apply(&relay, [A, FOE].map(|number| (node(number), peer(vec![], Dial::OnDemand))).into());
        apply(&a, BTreeMap::from([(relay.id, peer(vec![relay.address()], Dial::AtOnce))]));
        relay.mesh.set_paths(terms(true), vec![]);
        let (leaf, key) = authority.leaf(node(FOE), 1, Duration::from_secs(3600));
        let cell = CertificateCell::new();
        cell.set(leaf, key).unwrap();
        let puppet = established(&authority, &relay, Lane::A, features).await;
        let mut silent =
            Foe { id: node(FOE), puppet, signer: cell.signer().unwrap(), cluster: authority.cluster };

        let mut events = a.mesh.path_events().unwrap();
        let plan = PathPlan { destination: silent.id, primary: vec![relay.id], backup: None };
        a.mesh.set_paths(terms(false), vec![plan]);
        a.mesh.want_path(silent.id).unwrap();
        let asked = v1::PathRequest::decode(&silent.hear().await.payload[..]).unwrap();
        let answer = v1::PathAnswer { request_id: asked.request_id, ..v1::PathAnswer::default() };
        silent.say(Frame::local(ChannelClass::Control, FrameKind::PathAnswer, answer.encode_to_vec())).await;
        let path = up(&mut events, PathSlot::Primary).await;
        Self { authority, relay, a, silent, path, events }
    }
}

async fn established(authority: &Authority, target: &Node, lane: Lane, features: &[&str]) -> Puppet {
    let tcp = TcpStream::connect(target.address()).await.unwrap();
    let mut puppet = Puppet::connect_with(authority, FOE, target, tcp, lane, features).await;
    puppet.say_hello().await;
    puppet
}

#[tokio::test]
async fn a_destination_that_reads_nothing_holds_up_nobody_and_loses_its_link() {
    // It answers no probe. That its socket takes nothing would be found much later.
    let ToPuppet { authority: _authority, relay, a, silent, path, mut events } =
        ToPuppet::new(Duration::from_secs(60), &[FEATURE_FABRIC]).await;
    let dropped = || {
        relay.status(silent.id).is_some_and(|link| link.counters.dropped.contains_key(&Reason::LinkQueueFull))
    };
    patiently(async {
        while !dropped() {
            let _full = a.mesh.send_on_path(path, &[0; 1300]);
            tokio::task::yield_now().await;
        }
    })
    .await;
    let echo = patiently(a.mesh.echo(relay.id, ChannelClass::Control, vec![1]));
    assert!(echo.await.is_ok(), "the relay reads on and answers");
    let ended = async {
        loop {
            if let PathEvent::Down { reason, .. } = events.recv().await.unwrap() {
                return reason;
            }
        }
    };
    assert_eq!(patiently(ended).await, Reason::PathNextUnreachable);
    assert_eq!(relay.reason(silent.id), Some(Reason::LinkSilent));
}

#[tokio::test]
async fn a_destination_that_answers_and_takes_no_bulk_loses_that_lane_alone() {
    let features = [FEATURE_FABRIC, FEATURE_LANES];
    let ToPuppet { authority, relay, a, mut silent, path, events: _events } =
        ToPuppet::new(Duration::from_secs(1), &features).await;
    let _never_read = established(&authority, &relay, Lane::C, &features).await;
    let mut told = relay.mesh.events();
    // Lane A is served: probes are answered, requests for lanes are not.
    let served = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = silent.puppet.stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the link ended");
            silent.puppet.link.receive(&buffer[..count], Clock::new().now());
            silent.puppet.write().await;
        }
    };
    let ended = async {
        loop {
            let _full = a.mesh.send_on_path(path, &[0; 1300]);
            tokio::task::yield_now().await;
            let Ok(MeshEvent::Observed { lane, state, reason, .. }) = told.try_recv() else { continue };
            if (lane, state) == (Lane::C, SessionState::Closed) {
                return reason;
            }
        }
    };
    let reason = patiently(async {
        tokio::select! {
            () = served => None,
            reason = ended => reason,
        }
    });
    assert_eq!(reason.await, Some(Reason::LinkStalled));
    assert!(relay.is_linked(node(FOE)), "lane A stays");
    assert!(patiently(a.mesh.echo(relay.id, ChannelClass::Control, vec![1])).await.is_ok());
}
