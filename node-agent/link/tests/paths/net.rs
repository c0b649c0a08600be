//! Cores of paths in one process, with links that carry in order and a clock that a test moves.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use rap_contract::{
    LeafKey, LeafTrust, PathInstall, PathInstallExpectation, PublicKey, Reject, Signer, sign_by_leaf,
};
use rap_link::path::{
    Carries, KnownEnd, OpenedRequest, PathEnd, PathEvent, PathInputs, PathLimits, PathOutput, PathPlan,
    PathSlot, PathTerms, Paths, RequestText, Verdict, request_payload, wireguard_payload,
};
use rap_link::{Frame, FrameKind};
use rap_types::{ChannelClass, ClusterId, InstallationId, Mono, NodeId, Now, OrganizationId, Reason, Wall};

pub const START: Now = Now { mono: Mono(5_000_000_000), wall: Wall(1_800_000_000_000) };
pub const INSTALLATION: InstallationId = InstallationId::from_bytes([0x11; 16]);
pub const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);
pub const LIFETIME: u32 = 40;

pub fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

pub fn key(node: NodeId) -> Signer {
    Signer::from_seed(&[node.as_bytes()[0]; 32])
}

/// Stands for the certificate of a node: its id and key.
pub fn leaf(node: NodeId) -> Vec<u8> {
    [node.as_bytes(), key(node).public().as_bytes().as_slice()].concat()
}

/// Accepts every leaf that is well formed, until `not_after`, and counts.
pub struct Leaves<'a> {
    pub not_after: Wall,
    pub key_generation: u64,
    pub verified: &'a Cell<u64>,
}

impl LeafTrust for Leaves<'_> {
    fn check(&self, leaf: &[u8]) -> Result<LeafKey, Reject> {
        self.verified.set(self.verified.get() + 1);
        let invalid = Reject::new(Reason::CertificateInvalid, "leaf");
        let (node, key) = leaf.split_first_chunk::<16>().ok_or(invalid)?;
        let (node, key) = (NodeId::from_bytes(*node), PublicKey::from_slice(key).map_err(|_| invalid)?);
        Ok(LeafKey { node, key_generation: self.key_generation, key, not_after: self.not_after })
    }
}

pub fn signed(install: &PathInstall, hop: NodeId, signer: &Signer) -> Vec<u8> {
    let install = install.to_wire(INSTALLATION, CLUSTER, hop, &signer.public());
    let Ok(envelope) =
        sign_by_leaf(&install, &signer.public(), |message| Ok::<_, Infallible>(signer.sign(message)));
    envelope
}

/// A labelled frame that is under way.
#[derive(Debug, Clone)]
pub struct Data {
    pub label: u64,
    pub hop_budget: u8,
    pub payload: Bytes,
    /// Nodes that it passed.
    pub passed: usize,
}

impl Data {
    fn frame(&self) -> Frame {
        Frame::labelled(ChannelClass::Vpn, self.label, self.hop_budget, self.payload.clone())
    }
}

enum Carried {
    Message(FrameKind, Vec<u8>),
    Data(Data),
}

pub struct Net {
    pub nodes: BTreeMap<NodeId, Paths>,
    pub events: BTreeMap<NodeId, Vec<PathEvent>>,
    pub now: Now,
    pub links: BTreeSet<(NodeId, NodeId)>,
    /// Every frame and message that arrived, newest last.
    pub passed: Vec<(NodeId, NodeId)>,
    pub requests: Vec<(NodeId, NodeId, Vec<u8>)>,
    pub answers: Vec<(NodeId, Reason)>,
    /// Longest way of a frame so far, in nodes.
    pub longest: usize,
    pub verified: Cell<u64>,
    /// Of every leaf.
    pub key_generation: u64,
    under_way: VecDeque<(NodeId, NodeId, Carried)>,
    random: u64,
}

/// Terms of a node that knows everybody.
pub fn terms(nodes: &[u8], carries: Option<Carries>) -> PathTerms {
    let known = |number: &u8| (node(*number), KnownEnd { organization: None, deadline: Mono(u64::MAX) });
    PathTerms {
        organization: None,
        carries,
        lifetime_s: LIFETIME,
        instance: 1,
        deadline: Mono(u64::MAX),
        known: nodes.iter().map(known).collect(),
    }
}

pub const RELAY: Option<Carries> = Some(Carries { any_organization: true, draining: false });

pub fn organization(number: u8) -> OrganizationId {
    OrganizationId::from_bytes([number; 16])
}

impl Net {
    /// Every two of the nodes are linked; those from 100 on are relays.
    pub fn new(nodes: &[u8]) -> Self {
        Self::with_limits(nodes, PathLimits::default())
    }

    pub fn with_limits(nodes: &[u8], limits: PathLimits) -> Self {
        let mut net = Self {
            nodes: BTreeMap::new(),
            events: BTreeMap::new(),
            now: START,
            links: BTreeSet::new(),
            passed: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            longest: 0,
            verified: Cell::new(0),
            key_generation: 1,
            under_way: VecDeque::new(),
            random: 0x9e37_79b9_7f4a_7c15,
        };
        for number in nodes {
            let mut core = Paths::new(node(*number), limits, START.mono);
            core.set_terms(terms(nodes, if *number >= 100 { RELAY } else { None }), START.mono);
            net.nodes.insert(node(*number), core);
            net.links.extend(nodes.iter().map(|other| (node(*number), node(*other))));
        }
        net
    }

    /// One input of a core; what it asks for is under way afterwards.
    pub fn at<T>(&mut self, at: NodeId, input: impl FnOnce(&mut Paths, &mut PathInputs<'_>) -> T) -> T {
        let mut state = self.random;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let core = self.nodes.get_mut(&at).unwrap();
        let done = input(core, &mut PathInputs { now: self.now, random: &mut random });
        self.random = state;
        self.outputs(at);
        done
    }

    fn outputs(&mut self, at: NodeId) {
        while let Some(output) = self.nodes.get_mut(&at).unwrap().poll_output() {
            match output {
                PathOutput::Send { to, kind, payload } => {
                    if kind == FrameKind::PathAnswer
                        && let Some(reason) = answer_reason(&payload)
                    {
                        self.answers.push((at, reason));
                    }
                    self.put(at, to, Carried::Message(kind, payload));
                }
                PathOutput::Pass { to, request, payload } => self.pass(at, to, request, payload),
                PathOutput::Ask { hops, request, installs } => {
                    let signer = key(at);
                    let installs =
                        hops.iter().zip(&installs).map(|(hop, one)| signed(one, *hop, &signer)).collect();
                    self.pass(at, hops[0], request, request_payload(request, &leaf(at), installs));
                }
                PathOutput::Tell(event) => self.events.entry(at).or_default().push(event),
            }
        }
    }

    fn pass(&mut self, at: NodeId, to: NodeId, request: u64, payload: Vec<u8>) {
        if self.links.contains(&(at, to)) {
            self.requests.push((at, to, payload.clone()));
            self.put(at, to, Carried::Message(FrameKind::PathRequest, payload));
        } else {
            self.at(at, |core, inputs| core.not_passed(to, request, inputs));
        }
    }

    fn put(&mut self, from: NodeId, to: NodeId, carried: Carried) {
        if self.links.contains(&(from, to)) {
            self.under_way.push_back((from, to, carried));
        }
    }

    /// Hands a request to a node as if `from` had sent it.
    pub fn request(&mut self, from: NodeId, to: NodeId, payload: &[u8]) {
        self.take_request(from, to, payload);
        self.run();
    }

    fn take_request(&mut self, from: NodeId, to: NodeId, payload: &[u8]) {
        let text = RequestText::read(payload).unwrap();
        if !self.at(to, |core, inputs| core.may_verify(from, inputs.now.mono)) {
            return self.at(to, |core, _| core.refuse(from, &text, Reason::PathRate));
        }
        match self.opened(text, to) {
            Ok(request) => self.at(to, |core, inputs| core.request(from, request, inputs.now)),
            Err((text, reason)) => self.at(to, |core, _| core.refuse(from, &text, reason)),
        }
    }

    fn opened(&self, text: RequestText, hop: NodeId) -> Result<OpenedRequest, (RequestText, Reason)> {
        let not_after = self.now.wall.plus(Duration::from_secs(86_400));
        let trust = Leaves { not_after, key_generation: self.key_generation, verified: &self.verified };
        let expect =
            PathInstallExpectation { installation: INSTALLATION, cluster: CLUSTER, hop, features: &[] };
        text.open(&trust, &expect, self.now)
    }

    /// Delivers everything that is under way.
    pub fn run(&mut self) {
        while let Some((from, to, carried)) = self.under_way.pop_front() {
            if !self.links.contains(&(from, to)) || !self.nodes.contains_key(&to) {
                continue;
            }
            self.passed.push((from, to));
            match carried {
                Carried::Message(FrameKind::PathRequest, payload) => self.take_request(from, to, &payload),
                Carried::Message(kind, payload) => self
                    .at(to, |core, inputs| match kind {
                        FrameKind::PathAnswer => core.answer(from, &payload, (900, 10), inputs),
                        FrameKind::PathWithdraw => core.withdraw(from, &payload, inputs.now.mono),
                        FrameKind::PathFault => core.fault(from, &payload, inputs),
                        other => panic!("{other:?}"),
                    })
                    .unwrap(),
                Carried::Data(data) => {
                    self.arrive(from, to, data);
                }
            }
        }
    }

    /// A frame arrives. Returns what becomes of it at this node; what goes on is under way.
    pub fn arrive(&mut self, from: NodeId, to: NodeId, data: Data) -> Verdict {
        let passed = data.passed + 1;
        self.longest = self.longest.max(passed);
        let verdict =
            self.at(to, |core, inputs| core.frame(from, data.label, &data.frame(), inputs.now.mono));
        match verdict {
            Verdict::Forward { to: next, label, hop_budget } => {
                let data = Data { label, hop_budget, passed, ..data };
                self.put(to, next, Carried::Data(data));
            }
            Verdict::Deliver { end, peer } => self.at(to, |core, _| core.deliver(end, peer, &data.payload)),
            Verdict::Refused(_) => {}
        }
        verdict
    }

    /// Sends a datagram from an end and delivers everything.
    pub fn send(&mut self, at: NodeId, end: PathEnd, datagram: &[u8]) -> Result<(), Reason> {
        let (to, label, hop_budget) = self.at(at, |core, inputs| core.send_on(end, inputs.now.mono))?;
        let data = Data { label, hop_budget, payload: wireguard_payload(datagram)?, passed: 0 };
        self.put(at, to, Carried::Data(data));
        self.run();
        Ok(())
    }

    pub fn plan(&mut self, at: NodeId, destination: NodeId, primary: &[u8], backup: Option<&[u8]>) {
        let relays = |relays: &[u8]| relays.iter().copied().map(node).collect::<Vec<_>>();
        let plan = PathPlan { destination, primary: relays(primary), backup: backup.map(relays) };
        let senseless = self.at(at, |core, inputs| core.set_plans([plan], inputs));
        assert_eq!(senseless, 0);
        self.run();
    }

    pub fn want(&mut self, at: NodeId, destination: NodeId) {
        self.at(at, |core, inputs| core.want(destination, inputs)).unwrap();
        self.run();
    }

    /// Moves the clock, firing every timer of every node when it is due.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now.plus(time);
        for _ in 0..100_000 {
            let due = self.nodes.values().filter_map(Paths::due).min();
            let Some(due) = due.filter(|due| *due <= end.mono) else {
                self.now = end;
                return;
            };
            if due > self.now.mono {
                self.now = self.now.plus(due.since(self.now.mono));
            }
            for at in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.nodes[&at].due().is_some_and(|due| due <= self.now.mono) {
                    self.at(at, |core, inputs| core.handle_timeout(inputs));
                }
            }
            self.run();
        }
        panic!("a timer that is due stays due");
    }

    /// Ends the link between two nodes, and both notice.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.links.remove(&(a, b));
        self.links.remove(&(b, a));
        self.at(a, |core, inputs| core.link_lost(b, inputs));
        self.at(b, |core, inputs| core.link_lost(a, inputs));
        self.run();
    }

    /// A node is gone, and all neighbours notice.
    pub fn kill(&mut self, gone: NodeId) {
        self.links.retain(|(a, b)| *a != gone && *b != gone);
        self.nodes.remove(&gone);
        for at in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.at(at, |core, inputs| core.link_lost(gone, inputs));
        }
        self.run();
    }

    pub fn events(&mut self, at: NodeId) -> Vec<PathEvent> {
        self.events.remove(&at).unwrap_or_default()
    }

    /// The newest path of a slot that the events say is up.
    pub fn up(&self, at: NodeId, wanted: PathSlot) -> Option<PathEnd> {
        let mut up = None;
        for event in self.events.get(&at)? {
            match event {
                PathEvent::Up { end, slot, .. } if *slot == wanted => up = Some(*end),
                PathEvent::Down { end, .. } if up == Some(*end) => up = None,
                _ => {}
            }
        }
        up
    }
}

fn answer_reason(payload: &[u8]) -> Option<Reason> {
    let answer = <rap_wire::v1::PathAnswer as prost::Message>::decode(payload).unwrap();
    Reason::from_code(&answer.reason)
}
