//! The paths of a mesh: what arrives for the core of paths, and what it asks for.
//!
//! Owns the queue of events, verification and signing. The core decides; see `rap_link::path`. The lock of the core is
//! taken before that of the registry, never after it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rap_contract::{
    LeafKey, LeafTrust, PathInstall, PathInstallExpectation, PublicKey, Reject, sign_by_leaf,
};
use rap_link::path::{
    DIAL_TIME, PathEnd, PathEvent, PathInputs, PathLimits, PathOutput, PathPlan, PathTerms, PathView, Paths,
    RequestText, Verdict, request_payload, wireguard_group,
};
use rap_link::{Frame, FrameId, FrameKind, Origin};
use rap_types::{ChannelClass, InstallationId, Mono, NodeId, Reason};
use rustls_pki_types::CertificateDer;
use tokio::sync::{Notify, mpsc};

use crate::registry::{Demand, Route};
use crate::shared::{Shared, until};
use crate::status::MeshEvent;

/// The core of paths with its queue of events and its timer.
#[derive(Debug)]
pub(crate) struct Fabric {
    core: Mutex<Paths>,
    events: mpsc::Sender<PathEvent>,
    reader: Mutex<Option<mpsc::Receiver<PathEvent>>>,
    /// Instant at which the timer looks next.
    armed: AtomicU64,
    rearm: Notify,
}

impl Fabric {
    pub(crate) fn new(me: NodeId, queue: usize, now: Mono) -> Self {
        let (events, reader) = mpsc::channel(queue.max(2));
        let core = Mutex::new(Paths::new(me, PathLimits::default(), now));
        let (armed, rearm) = (AtomicU64::new(u64::MAX), Notify::new());
        Self { core, events, reader: Mutex::new(Some(reader)), armed, rearm }
    }

    /// The queue of events; `None` if it was taken before.
    pub(crate) fn events(&self) -> Option<mpsc::Receiver<PathEvent>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Refused installs and frames, by reason.
    pub(crate) fn refused(&self) -> BTreeMap<Reason, u64> {
        self.core().refused().clone()
    }

    /// The ends of this node that are up.
    pub(crate) fn ends(&self) -> Vec<PathView> {
        self.core().ends()
    }

    /// Whether a signature may be verified for this neighbour now.
    pub(crate) fn may_verify(&self, neighbour: NodeId, now: Mono) -> bool {
        self.core().may_verify(neighbour, now)
    }

    fn core(&self) -> MutexGuard<'_, Paths> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Replaces the rules and the plans of paths. Plans that make no sense are left out.
    pub(crate) fn set_paths(self: &Arc<Self>, terms: PathTerms, plans: Vec<PathPlan>) {
        self.with_paths(|core, inputs| {
            core.set_terms(terms, inputs.now.mono);
            let senseless = core.set_plans(plans, inputs);
            if senseless > 0 {
                tracing::warn!(senseless, "plans of paths with a node twice are left out");
            }
        });
    }

    /// Ends the paths of revoked key generations.
    pub(crate) fn revoke_paths(self: &Arc<Self>, revoked: &BTreeMap<NodeId, u64>) {
        self.with_paths(|core, inputs| core.revoke(revoked, inputs.now.mono));
    }

    pub(crate) fn want_path(self: &Arc<Self>, destination: NodeId) -> Result<(), Reason> {
        self.with_paths(|core, inputs| core.want(destination, inputs))
    }

    pub(crate) fn link_up(self: &Arc<Self>, peer: NodeId) {
        self.with_paths(|core, inputs| core.link_up(peer, inputs));
    }

    pub(crate) fn link_lost(self: &Arc<Self>, peer: NodeId) {
        self.with_paths(|core, inputs| core.link_lost(peer, inputs));
    }

    /// Sends WireGuard datagrams in one frame. Never waits.
    pub(crate) fn send_on_path(self: &Arc<Self>, end: PathEnd, datagrams: &[&[u8]]) -> Result<(), Reason> {
        let payload = wireguard_group(datagrams)?;
        let (to, label, hop_budget) = self.fabric.core().send_on(end, self.now().mono)?;
        self.send_data(to, Frame::labelled(ChannelClass::Vpn, label, hop_budget, payload), &self.own)
    }

    /// Takes a path message or labelled data from a neighbour. `link`: round trip (us) and loss (ppm) of the link.
    /// `origin`: what waits of its frames.
    pub(crate) fn path_frame(
        self: &Arc<Self>,
        from: NodeId,
        frame: Frame,
        link: (u32, u32),
        origin: &Origin,
    ) {
        let taken = match (frame.kind, frame.id) {
            (FrameKind::Data, FrameId::Label(label)) => self.carry(from, label, frame, origin),
            (FrameKind::RelayRow, _) => self.relay_row(from, &frame.payload),
            (FrameKind::PathRequest, _) => self.path_request(from, &frame.payload),
            (FrameKind::PathAnswer, _) => {
                self.with_paths(|core, inputs| core.answer(from, &frame.payload, link, inputs))
            }
            (FrameKind::PathWithdraw, _) => {
                self.with_paths(|core, inputs| core.withdraw(from, &frame.payload, inputs.now.mono))
            }
            (FrameKind::PathFault, _) => {
                self.with_paths(|core, inputs| core.fault(from, &frame.payload, inputs))
            }
            _ => Ok(()),
        };
        if let Err(reason) = taken {
            self.registry.reject(reason, 1);
        }
    }

    fn carry(
        self: &Arc<Self>,
        from: NodeId,
        label: u64,
        frame: Frame,
        origin: &Origin,
    ) -> Result<(), Reason> {
        let now = self.now().mono;
        let mut core = self.fabric.core();
        match core.frame(from, label, &frame, now) {
            Verdict::Forward { to, label, hop_budget } => {
                drop(core);
                let onward = Frame { id: FrameId::Label(label), hop_budget, ..frame };
                return self.send_data(to, onward, origin);
            }
            Verdict::Deliver { end, peer } => core.deliver(end, peer, &frame.payload),
            // Counted by the core.
            Verdict::Refused(_) => {}
        }
        self.carry_out(&mut core);
        Ok(())
    }

    fn path_request(self: &Arc<Self>, from: NodeId, payload: &[u8]) -> Result<(), Reason> {
        let text = RequestText::read(payload)?;
        let may = self.with_paths(|core, inputs| {
            let may = core.may_verify(from, inputs.now.mono);
            if !may {
                core.refuse(from, &text, Reason::PathRate);
            }
            may
        });
        if !may {
            return Ok(());
        }
        let cluster = self.config.cluster;
        let installation =
            self.trust.cluster(cluster).map_or(InstallationId::ZERO, |trust| trust.installation);
        let expect = PathInstallExpectation { installation, cluster, hop: self.config.node, features: &[] };
        // Outside of the lock: this takes longer than all that the core does.
        let opened = text.open(&Leaves(self), &expect, self.now());
        self.with_paths(|core, inputs| match opened {
            Ok(request) => core.request(from, request, inputs.now),
            Err((text, reason)) => core.refuse(from, &text, reason),
        });
        Ok(())
    }

    /// Runs one input of the core and carries out what it asks for.
    fn with_paths<T>(self: &Arc<Self>, input: impl FnOnce(&mut Paths, &mut PathInputs<'_>) -> T) -> T {
        let mut core = self.fabric.core();
        let done = input(&mut core, &mut PathInputs { now: self.now(), random: &mut rand::random });
        self.carry_out(&mut core);
        done
    }

    /// Under the lock of the core, so that messages leave in the order in which they were decided.
    fn carry_out(self: &Arc<Self>, core: &mut Paths) {
        while let Some(output) = core.poll_output() {
            match output {
                PathOutput::Send { to, kind, payload } => self.say(to, kind, payload),
                PathOutput::Pass { to, request, payload } => self.pass(core, to, request, payload),
                PathOutput::Ask { hops, request, installs } => {
                    let label = installs.first().map_or(0, |first| first.in_label);
                    tracing::debug!(first = %hops[0], label, "path asked for");
                    match self.signed(&hops, request, &installs) {
                        Some(payload) => self.pass(core, hops[0], request, payload),
                        None => self.not_passed(core, hops[0], request),
                    }
                }
                PathOutput::Tell(event) => self.tell(event),
            }
        }
        if core.due().is_some_and(|due| due.0 < self.fabric.armed.load(Ordering::Acquire)) {
            self.fabric.rearm.notify_one();
        }
    }

    /// Sends a message if there is a link; if not, its receiver has lost the path too.
    fn say(&self, to: NodeId, kind: FrameKind, payload: Vec<u8>) {
        if let Route::Linked(inbox) = self.registry.route(to)
            && inbox.push(Frame::local(ChannelClass::Control, kind, payload)).is_err()
        {
            self.registry.reject(Reason::LinkQueueFull, 1);
        }
    }

    fn pass(self: &Arc<Self>, core: &mut Paths, to: NodeId, request: u64, payload: Vec<u8>) {
        let frame = Frame::local(ChannelClass::Control, FrameKind::PathRequest, payload);
        match self.registry.route(to) {
            Route::Linked(inbox) => {
                if inbox.push(frame).is_err() {
                    self.not_passed(core, to, request);
                }
            }
            Route::Vacant => {
                let waiting = pass_when_linked(self.clone(), to, request, frame);
                self.tasks.spawn("path-dial", waiting);
            }
            Route::None => self.not_passed(core, to, request),
        }
    }

    fn not_passed(self: &Arc<Self>, core: &mut Paths, to: NodeId, request: u64) {
        core.not_passed(to, request, &mut PathInputs { now: self.now(), random: &mut rand::random });
    }

    /// The request of this node; `None` if it has no leaf to sign with.
    fn signed(&self, hops: &[NodeId], request: u64, installs: &[PathInstall]) -> Option<Vec<u8>> {
        let signer = self.certificate.signer()?;
        let key = PublicKey::from_slice(signer.key()).ok()?;
        let cluster = self.config.cluster;
        let installation = self.trust.cluster(cluster)?.installation;
        let sign = |(hop, install): (&NodeId, &PathInstall)| {
            let install = install.to_wire(installation, cluster, *hop, &key);
            sign_by_leaf(&install, &key, |message| signer.sign(message)).ok()
        };
        let installs = hops.iter().zip(installs).map(sign).collect::<Option<Vec<_>>>()?;
        Some(request_payload(request, signer.leaf(), installs))
    }

    /// State is kept room for; a datagram is dropped if the reader is slow.
    fn tell(&self, event: PathEvent) {
        if let PathEvent::Refused { peer, relays, by_hop: true, passed, reason, .. } = &event
            && !relays.is_empty()
        {
            let (destination, relays, passed, reason) = (*peer, relays.clone(), *passed, *reason);
            self.registry.tell(MeshEvent::PathRefused { destination, relays, passed, reason });
        }
        let events = &self.fabric.events;
        let is_data = matches!(event, PathEvent::Received { .. });
        let refused = is_data && events.capacity() <= events.max_capacity() / 2;
        if refused || events.try_send(event).is_err() {
            self.registry.reject(Reason::LinkQueueFull, 1);
        }
    }
}

/// Continues what is due, until the group is cancelled.
pub(crate) async fn keep_time(shared: Arc<Shared>) {
    let token = shared.tasks.token();
    loop {
        let now = shared.now();
        let due = {
            // Under the lock: whoever changes what is due compares with this.
            let core = shared.fabric.core();
            let due = core.due().unwrap_or(Mono(u64::MAX));
            shared.fabric.armed.store(due.0, Ordering::Release);
            due
        };
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            () = shared.fabric.rearm.notified() => {}
            () = until(due, now) => {}
        }
        shared.with_paths(|core, inputs| core.handle_timeout(inputs));
    }
}

async fn pass_when_linked(shared: Arc<Shared>, to: NodeId, request: u64, frame: Frame) {
    let since = shared.now().mono;
    let linked = shared.registry.demand(to, Demand { since, until: since.plus(DIAL_TIME) });
    let came = tokio::time::timeout(DIAL_TIME, linked).await;
    shared.with_paths(|core, inputs| {
        // A path that was given up meanwhile is not installed.
        if !core.is_open(to, request) {
            return;
        }
        let passed = match shared.registry.route(to) {
            Route::Linked(inbox) if came.is_ok() => inbox.push(frame).is_ok(),
            Route::Linked(_) | Route::Vacant | Route::None => false,
        };
        if !passed {
            core.not_passed(to, request, inputs);
        }
    });
}

/// Leaf certificates of this cluster.
pub(crate) struct Leaves<'a>(pub(crate) &'a Shared);

impl LeafTrust for Leaves<'_> {
    fn check(&self, leaf: &[u8]) -> Result<LeafKey, Reject> {
        let Shared { trust, config, .. } = self.0;
        let invalid = |what| Reject::new(Reason::CertificateInvalid, what);
        let now = config.time.current_time().ok_or(invalid("no time"))?;
        let found = trust.verify(&CertificateDer::from(leaf), &[], now);
        let found = found.map_err(|reject| Reject::new(reject.reason(), "leaf"))?;
        Reject::when(found.identity.cluster != config.cluster, Reason::CertificateIdentity, "cluster")?;
        let key = PublicKey::from_slice(&found.ed25519.ok_or(invalid("key"))?)?;
        let (node, key_generation) = (found.identity.node, found.identity.key_generation);
        Ok(LeafKey { node, key_generation, key, not_after: found.not_after })
    }
}
