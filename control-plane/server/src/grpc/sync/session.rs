//! One node's stream: hello, then whatever the node lacks, until either side ends it.
//!
//! Owns the order of messages on the stream. Every wait has a deadline; nothing is queued.

use std::sync::Arc;
use std::time::Duration;

use rap_planner::{Acknowledged, Delivery, Pace, Step};
use rap_runtime::tls::PeerReject;
use rap_store::ContactFacts;
use rap_types::{Digest, Incarnation, Mono, Reason, Version};
use rap_wire::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use v1::control_message::Body;
use v1::node_message::Body as NodeBody;

use crate::acts::break_glass::record_use;
use crate::auth::call::Call;
use crate::grpc::sync::authority::AuthorityState;
use crate::grpc::sync::diagnostics::Diagnostics;
use crate::grpc::sync::directory::{DirectoryDue, DirectoryState};
use crate::grpc::sync::hello;
use crate::grpc::sync::identity::{self, Identity};
use crate::grpc::sync::member::Member;
use crate::grpc::sync::stream_end::{End, at, message, refused, unread};
use crate::grpc::sync::witness::{Due, WitnessState};
use crate::replica::Replica;
use crate::serve::dial_hints::{ClusterDirectory, Hints};
use crate::serve::feed::Turn;
use crate::serve::sessions::{Command, SessionEntry};

/// A stream being served.
pub struct Session {
    pub(super) replica: Arc<Replica>,
    pub(super) member: Member,
    call: Call,
    directory: Arc<ClusterDirectory>,
    pub(super) out: mpsc::Sender<Result<v1::ControlMessage, Status>>,
}

/// What changes while it is served.
struct State {
    delivery: Delivery,
    turn: Turn,
    held_back: bool,
    entry: SessionEntry,
    diagnostics: Diagnostics,
    contact: ContactFacts,
    identity: Identity,
    spread: f64,
    directory: DirectoryState,
    acknowledge_by: Option<Instant>,
    authority: AuthorityState,
    witness: WitnessState,
    pace: Pace,
}

impl Session {
    /// A stream of an admitted node.
    pub fn new(
        replica: Arc<Replica>,
        member: Member,
        call: Call,
        out: mpsc::Sender<Result<v1::ControlMessage, Status>>,
    ) -> Self {
        let directory = replica.serving.directory.of(member.cluster.id);
        Self { replica, member, call, directory, out }
    }

    /// Serves the stream to its end.
    pub async fn run(self, mut incoming: Streaming<v1::NodeMessage>) {
        let node = self.member.leaf.identity.node;
        match self.serve(&mut incoming).await {
            End::Gone => tracing::debug!(%node, "node stream ended"),
            End::Refused(failure) => {
                tracing::info!(%node, reason = %failure.reason, "node stream refused: {}", failure.message);
                let status = failure.status(&self.replica.watch.metrics, self.call.id);
                let _ = tokio::time::timeout(
                    self.replica.config.pushing.write_timeout,
                    self.out.send(Err(status)),
                )
                .await;
            }
        }
    }

    async fn serve(&self, incoming: &mut Streaming<v1::NodeMessage>) -> End {
        let hello = match tokio::time::timeout(HELLO, incoming.message()).await {
            Ok(Ok(Some(v1::NodeMessage { body: Some(NodeBody::Hello(hello)) }))) => hello,
            Ok(Ok(Some(_))) => return refused(Reason::RequestInvalid, "the first message is a hello"),
            Ok(Ok(None)) => return End::Gone,
            Ok(Err(status)) => return unread(&status),
            Err(_) => return refused(Reason::RequestTimeout, "no hello in time"),
        };
        let leaf = match hello::check(&self.replica, &self.member, &hello).await {
            Ok(leaf) => leaf,
            Err(failure) => return End::Refused(failure),
        };
        if hello.second {
            return self.greet().await.err().unwrap_or(End::Gone);
        }
        let identity = &self.member.leaf.identity;
        let end = self.replica.tasks.token().child_token();
        let (entry, mut commands) = self.replica.serving.sessions.enter(identity.cluster, identity.node, end);
        let feed = &self.member.cluster.feed;
        let served = self.replica.serving.clusters.by_id(identity.cluster);
        let certificate_ca =
            served.map_or(0, |cluster| cluster.cas.generation_of(self.member.leaf.authority));
        let mut state = State {
            delivery: Delivery::new(identity.node, leaf),
            turn: feed.open(identity.node, leaf.is_some()),
            held_back: false,
            entry,
            diagnostics: Diagnostics::new(),
            contact: ContactFacts {
                agent_version: hello.agent_version.clone(),
                certificate_ca,
                ..ContactFacts::default()
            },
            identity: Identity::said(&self.replica, &self.member, &hello),
            spread: rand::random_range(0.0..1.0),
            directory: DirectoryState::new(),
            acknowledge_by: None,
            authority: AuthorityState::said(hello.authority_sequence),
            witness: WitnessState::said(&self.replica, &self.member, &hello.newest_checkpoint).await,
            pace: Pace::new(self.mono()),
        };
        let went_back = identity::went_back(&self.member, &hello);
        self.observe(hello.link_hints, hello.wireguard_hints);
        self.note(&state, false);
        if let Err(end) = self.greet().await {
            return end;
        }
        if went_back {
            identity::doubt(&self.replica, &self.member, Reason::NodeRolledBack).await;
        }
        if let doubt @ Some(_) = self.member.doubt()
            && let Err(end) = self.notice(doubt).await
        {
            return end;
        }
        let mut versions = feed.follow();
        let mut directory = self.directory.follow();
        loop {
            let wake = match self.push(&mut state).await {
                Ok(wake) => wake,
                Err(end) => return end,
            };
            let may_diagnose = state.diagnostics.next_at();
            let mono = self.mono();
            let may_hear = Instant::now() + state.pace.opens(mono).since(mono);
            let next = tokio::select! {
                () = state.entry.end.cancelled() => return match self.require_trusted() {
                    Ok(()) => self.part().await,
                    Err(end) => end,
                },
                message = message(may_hear, incoming) => match message {
                    Ok(Some(message)) => self.hear(&mut state, message).await,
                    Ok(None) => return End::Gone,
                    Err(status) => return unread(&status),
                },
                changed = versions.changed() => changed.map_err(|_| End::Gone),
                () = state.turn.progress(), if state.held_back => Ok(()),
                changed = directory.changed() => {
                    state.directory.changed();
                    changed.map_err(|_| End::Gone)
                }
                Some(command) = at(may_diagnose, &mut commands) => self.command(&mut state, command).await,
                () = tokio::time::sleep_until(wake) => Ok(()),
            };
            if let Err(end) = next {
                return end;
            }
        }
    }

    /// A node that was thrown out is told so while it still has a stream: afterwards TLS refuses it without a word.
    fn require_trusted(&self) -> Result<(), End> {
        let checked = self.replica.serving.trust.check(&self.member.leaf);
        checked.map_err(|reject| match reject {
            PeerReject::Untrusted => refused(Reason::CertificateInvalid, "the CA of the certificate ended"),
            _ => refused(Reason::NodeRevoked, "the certificate's key generation was revoked"),
        })
    }

    /// Sends what the node lacks now; returns when to look again without a cause.
    async fn push(&self, state: &mut State) -> Result<Instant, End> {
        let now = Instant::now();
        let mut wake = now + IDLE;
        self.require_trusted()?;
        let published = self.member.cluster.feed.newest();
        // After the head was read: whoever signed it is in the records that are looked at now.
        if let Some(records) = state.authority.due(&self.replica, &self.member) {
            self.send(Body::Authority(records)).await?;
        }
        let unconfirmed = state.authority.confirms_by();
        if let Some(by) = unconfirmed {
            if now > by {
                return Err(refused(
                    Reason::RequestTimeout,
                    "the authority records were not confirmed in time",
                ));
            }
            wake = wake.min(by);
        }
        let has_head = published.is_some();
        let held_until = state.turn.held_until();
        state.held_back = held_until.is_some();
        if let Some(until) = held_until {
            wake = wake.min(until);
        } else if unconfirmed.is_none()
            && let Some(published) = published
        {
            let window = self.member.cluster.head_window(self.replica.config.pushing.head_within);
            let mono = self.mono();
            match state.delivery.next(&published, window, state.spread, mono) {
                Step::Send(body) => {
                    let waits = state.delivery.waits();
                    self.send(*body).await?;
                    if waits {
                        tracing::trace!(way = "the update is on the stream");
                        self.replica.watch.metrics.update_sent();
                    }
                    state.acknowledge_by = waits.then(|| Instant::now() + ACKNOWLEDGE);
                }
                Step::WaitUntil(due) => wake = wake.min(now + due.since(mono)),
                Step::Idle => {}
                Step::LeftOut(what) => {
                    return Err(refused(what.reason(), "the cluster has no room for another node"));
                }
                // A node that was just approved may be here before its first version.
                Step::Gone if published.order.version < self.member.seen_at => {}
                Step::Gone => return Err(refused(Reason::NodeRevoked, "the node is no member any more")),
            }
            if state.delivery.took(&published) {
                state.turn.took(state.delivery.holds());
            }
        }
        match state.identity.leaves(has_head && !state.held_back && !state.delivery.waits(), now) {
            identity::Leave::Now => return Err(self.keep_away().await),
            identity::Leave::At(due) => wake = wake.min(due),
            identity::Leave::Never => {}
        }
        match state.witness.next(&self.replica, now) {
            Due::Now(shown) => self.send(Body::Checkpoint(shown)).await?,
            Due::At(due) => wake = wake.min(due),
        }
        if let Some(by) = state.acknowledge_by {
            if now > by {
                return Err(refused(Reason::RequestTimeout, "no acknowledgement in time"));
            }
            wake = wake.min(by);
        }
        match state.directory.next(&self.directory, &state.delivery, now) {
            DirectoryDue::Now(entries) => self.send(Body::Directory(v1::DirectoryUpdate { entries })).await?,
            DirectoryDue::At(due) => wake = wake.min(due),
            DirectoryDue::Nothing => {}
        }
        Ok(wake)
    }

    async fn hear(&self, state: &mut State, message: v1::NodeMessage) -> Result<(), End> {
        state.pace.heard(self.mono());
        let reports = matches!(message.body, Some(NodeBody::Report(_)));
        match message.body {
            Some(NodeBody::Ack(ack)) => self.acknowledged(state, &ack),
            Some(NodeBody::Nack(nack)) => return self.refused(state, nack).await,
            Some(NodeBody::Report(report)) => {
                let (node, now) = (self.member.leaf.identity.node, self.mono());
                self.replica.serving.contact_log.note(node, &report.contact_changes, now);
                if let Some(exit) = state.entry.reported(&report) {
                    let v1::DataplaneExit { status, reason, text, .. } = exit;
                    tracing::warn!(%node, status, reason, text, "the data plane of a node ended");
                }
                if state.identity.is_in_turn(&self.replica, &self.member, now) {
                    identity::doubt(&self.replica, &self.member, Reason::NodeCloned).await;
                }
                self.observe(report.link_hints, report.wireguard_hints);
            }
            Some(NodeBody::Diagnostic(result)) => state.diagnostics.answered(result),
            Some(NodeBody::Authority(confirm)) => {
                let heard = state.authority.heard(&self.replica, &self.member, &confirm).await;
                heard.map_err(End::Refused)?;
            }
            Some(NodeBody::BreakGlass(told)) => return self.break_glass(state, &told).await,
            Some(NodeBody::Hello(_)) => return Err(refused(Reason::RequestInvalid, "a second hello")),
            // A message of a newer agent.
            None => {}
        }
        self.note(state, reports);
        Ok(())
    }

    fn acknowledged(&self, state: &mut State, ack: &v1::SnapshotAck) {
        let (waited, said) = (state.delivery.waits(), (Incarnation(ack.incarnation), Version(ack.version)));
        let leaf = Digest::from_slice(&ack.leaf_hash);
        let order = match leaf.map(|leaf| state.delivery.acknowledged(leaf, said)) {
            Ok(Acknowledged::Holds(order)) => order,
            Ok(Acknowledged::Known) => return,
            Ok(Acknowledged::Unasked) | Err(_) => {
                return self.replica.watch.metrics.rejected(Reason::RequestInvalid);
            }
        };
        if waited {
            state.acknowledge_by = None;
            state.directory.took(state.delivery.new_peers());
        }
        state.contact.acked = (order.incarnation.0, order.version.0);
        state.contact.last_reject.clear();
        state.entry.acknowledge(order.version.0);
    }

    async fn refused(&self, state: &mut State, nack: v1::SnapshotNack) -> Result<(), End> {
        // A code of a newer agent counts as a refusal all the same.
        let reason = Reason::from_code(&nack.reason).unwrap_or(Reason::SnapshotMalformed);
        self.replica.watch.metrics.rejected(reason);
        let code = reason.code();
        tracing::warn!(node = %self.member.leaf.identity.node, reason = code, "a node refused what it was sent");
        state.delivery.refused(reason, nack.need_full, self.mono());
        state.acknowledge_by = None;
        state.contact.last_reject = code.to_owned();
        self.note(state, false);
        if !nack.evidence.is_empty() {
            hello::compare(&self.replica, &self.member, &nack.evidence).await.map_err(End::Refused)?;
        }
        Ok(())
    }

    /// A use that could not be recorded is not confirmed: the node tells again on its next stream.
    async fn break_glass(&self, state: &mut State, told: &v1::BreakGlassUse) -> Result<(), End> {
        let (cluster, node) = (&self.member.cluster, self.member.leaf.identity.node);
        match record_use(&self.replica.serving, cluster, node, &self.call, told).await {
            // Each is an alarm: who has many to raise may come back for the next ones.
            Ok(ack) if !ack.reason.is_empty() && !state.pace.bears_another() => {
                Err(refused(Reason::RateLimited, "too many grants that nobody signed"))
            }
            Ok(ack) => self.send(Body::BreakGlassAck(ack)).await,
            Err(failure) => {
                self.replica.watch.metrics.rejected(failure.reason);
                tracing::warn!(%node, reason = %failure.reason, "a break-glass use was not recorded: {}", failure.message);
                Ok(())
            }
        }
    }

    async fn command(&self, state: &mut State, command: Command) -> Result<(), End> {
        let (request, target, reply) = match command {
            Command::Diagnose { request, target, reply } => (request, target, reply),
            Command::Notice(doubt) => return self.notice(doubt).await,
        };
        if !state.delivery.knows(target) {
            // The asker may have given up.
            let _ = reply.send(Err(Reason::LinkPeerUnknown));
            return Ok(());
        }
        state.diagnostics.sent(request.diagnostic_id.clone(), reply);
        self.send(Body::Diagnostic(request)).await
    }

    fn observe(&self, link: Vec<String>, wireguard: Vec<String>) {
        let identity = &self.member.leaf.identity;
        let said = Hints { link, wireguard };
        let source = self.call.channel.peer().ip();
        let source = (source, self.replica.config.loopback);
        self.directory.observe(identity.node, &said, source, self.replica.watch.clock.now());
    }

    fn note(&self, state: &State, reports: bool) {
        state.entry.heard(
            &state.contact,
            state.identity.heard(&self.member, state.contact.acked, reports),
            || self.mono(),
            |node, heard| self.replica.serving.contacts.note(node, heard),
        );
    }

    fn mono(&self) -> Mono {
        self.replica.watch.clock.now().mono
    }
}

const HELLO: Duration = Duration::from_secs(10);

const ACKNOWLEDGE: Duration = Duration::from_secs(30);

const IDLE: Duration = Duration::from_secs(60);
