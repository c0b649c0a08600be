//! One node's sync stream: the shipped node core decides, this moves messages.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rap_node::{ContactFacts, Input, Node, NodeSettings, Output};
use rap_rpc::Refusal;
use rap_rpc::v1::node_sync_client::NodeSyncClient;
use rap_runtime::tls::{self, Pins};
use rap_runtime::{Clock, boot_id};
use rap_trust::{Floors, Record};
use rap_wire::v1;
use rap_wire::v1::control_message;
use rap_wire::v1::node_message::Body;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::enroll::Enrolled;
use super::{Board, Target};
use crate::dial::dial;

/// Holds the stream of one node; returns only when it is lost. `turn` is given back with the first verified snapshot.
///
/// # Errors
/// Why it was lost.
pub async fn attend(
    enrolled: Enrolled,
    target: &Target,
    index: usize,
    board: &Board,
    turn: OwnedSemaphorePermit,
) -> Result<Infallible> {
    let clock = Clock::new();
    let config = tls::node_client(Pins::one(target.pin), &enrolled.leaf, Arc::new(clock))?;
    let line = dial(target.server, enrolled.source, config, tls::ALPN_NODE).await?;
    let (queue, receiver) = mpsc::channel(QUEUE);
    let mut member = Member { node: node(enrolled)?, queue, index, board, turn: Some(turn) };
    member.handle(Input::StreamOpened)?;
    let mut client = NodeSyncClient::new(line.channel).max_decoding_message_size(MESSAGE_CAP);
    let answer = client.sync(ReceiverStream::new(receiver)).await.map_err(Refusal::from)?;
    let mut messages = answer.into_inner();
    loop {
        let due = member.node.poll_timeout(clock.now()).map(|due| due.since(clock.now().mono));
        tokio::select! {
            message = messages.message() => {
                let message = message.map_err(Refusal::from)?.context("the stream ended")?;
                if matches!(message.body, Some(control_message::Body::Update(_))) {
                    board.updated(index);
                }
                member.handle(Input::Control(Box::new(message)))?;
            }
            () = tokio::time::sleep(due.unwrap_or(FAR)) => member.handle(Input::TimedOut)?,
        }
    }
}

fn node(enrolled: Enrolled) -> Result<Node> {
    let floors = Floors::initial(enrolled.pinned.incarnation());
    let pinned = &enrolled.pinned;
    let grants = rap_trust::BreakGlassPins {
        installation: pinned.installation,
        cluster: pinned.cluster,
        node: pinned.node,
        authority: pinned.chain.active(),
        activation_manifest: Vec::new(),
        accept_dev: pinned.accept_dev,
    };
    let settings = NodeSettings {
        grants: (grants, rap_trust::StoredBreakGlass::default()),
        pinned: enrolled.pinned,
        floors,
        wireguard_private_key: enrolled.wireguard_key,
        contact: ContactFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: boot_id()?,
            ..ContactFacts::default()
        },
        audit: rap_trust::KeptAudit::default(),
        remembered: rap_types::Wall(0),
        loopback: rap_types::sense::Loopback::Allowed,
        path_terms: rap_node::PathTerms { lifetime_s: 600, attachments_max: 7, ..Default::default() },
    };
    Ok(Node::start(settings, &[], None, Clock::new().now()))
}

struct Member<'a> {
    node: Node,
    queue: mpsc::Sender<v1::NodeMessage>,
    index: usize,
    board: &'a Board,
    turn: Option<OwnedSemaphorePermit>,
}

impl Member<'_> {
    fn handle(&mut self, input: Input) -> Result<()> {
        let clock = Clock::new();
        self.node.handle(input, clock.now());
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Persist(id, record) => {
                    self.verified(&record);
                    self.node.handle(Input::Persisted(id), clock.now());
                }
                Output::Send(message) => {
                    if matches!(message.body, Some(Body::Nack(_))) {
                        self.board.refused(self.index);
                    }
                    self.queue.try_send(*message).context("the stream does not take messages")?;
                }
                Output::Reconnect { .. } => bail!("the control plane goes away"),
                Output::Alarm(evidence) => bail!("two histories at {}", evidence.order),
                Output::KeepCheckpoint(held) => {
                    self.node.handle(Input::CheckpointKept(held), clock.now());
                }
                Output::AuditAlarm(evidence) => bail!("two audit logs: {}", evidence.reject.what),
                // There is no data plane here.
                Output::Publish(_)
                | Output::Ping(_)
                | Output::Explain(_)
                | Output::PersistBreakGlass
                | Output::WayChanged(_) => {}
            }
        }
        Ok(())
    }

    /// The acceptor asks to store only what it has verified down to the last chunk.
    fn verified(&mut self, record: &Record) {
        if let Some(snapshot) = &record.snapshot {
            let version = record.contents_changed.then_some(snapshot.head().order.version.0);
            self.board.verified(self.index, version, snapshot.contents().peers.len());
            self.turn = None;
        }
    }
}

const QUEUE: usize = 64;
const MESSAGE_CAP: usize = 4 * 1024 * 1024;
const FAR: Duration = Duration::from_secs(3600);
