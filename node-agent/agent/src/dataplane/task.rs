//! The task that keeps one data plane in contact: adopt or start, publish, poll, ping.
//!
//! Owns retries and the order adopt-before-start. Refuses to build tables.

use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use rap_node::Table;
use rap_runtime::Fault;
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use rap_wire::v1::{agent_message, dataplane_message};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Launch;
use super::session::{Answer, Session};
use crate::config::DataplaneMode;

/// What the driver may ask.
#[derive(Debug)]
pub enum DataplaneCommand {
    /// Ping a peer on every path.
    Ping {
        /// The peer.
        node: NodeId,
        /// Probes per path.
        count: u32,
        /// Milliseconds between probes.
        interval_ms: u32,
        /// Gets the outcome.
        reply: oneshot::Sender<Result<v1::PingOutcome, Fault>>,
    },
    /// End the data plane: the membership leaves this host. None is started again.
    Stop(oneshot::Sender<()>),
}

/// What the task tells the driver.
#[derive(Debug)]
pub enum DataplaneEvent {
    /// A data plane is there.
    Up(DataplaneFacts),
    /// It is gone, or none could be had.
    Down(Fault),
    /// It applied this table.
    Applied(u64),
    /// It refused a table.
    Refused(Fault),
    /// It reported.
    Stats(Box<v1::Stats>),
}

/// What is known about a data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataplaneFacts {
    /// Its answer to the hello.
    pub hello: v1::DataplaneHelloAnswer,
    /// True if it ran before this agent asked for it.
    pub adopted: bool,
}

/// Keeps the data plane of one membership.
pub struct DataplaneTask {
    /// How to start it.
    pub launch: Launch,
    /// Who starts it.
    pub mode: DataplaneMode,
    /// The newest table.
    pub tables: watch::Receiver<Option<Arc<Table>>>,
    /// Requests.
    pub commands: mpsc::Receiver<DataplaneCommand>,
    /// Where events go.
    pub events: mpsc::Sender<DataplaneEvent>,
    /// True once the data plane was ended for good; false at first.
    pub ended: bool,
}

impl DataplaneTask {
    /// Runs until cancelled. The data plane goes on afterwards.
    pub async fn run(mut self, cancel: CancellationToken) {
        let (mut child, mut failures, mut started) = (None, 0_u32, false);
        loop {
            let held = tokio::select! {
                () = cancel.cancelled() => return,
                held = self.hold(!started) => held,
            };
            let (was_up, fault) = held;
            if self.ended {
                return cancel.cancelled().await;
            }
            let absent = fault.reason == Reason::DataplaneUnavailable;
            if self.events.send(DataplaneEvent::Down(fault)).await.is_err() {
                return;
            }
            failures = if was_up { 0 } else { failures.saturating_add(1) };
            if absent {
                started |= self.start(&mut child).await;
            }
            let pause = (FIRST_RETRY * (1 << failures.min(6))).min(LAST_RETRY);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Starts a data plane in the way that is configured. True if one was started.
    async fn start(&self, child: &mut Option<Child>) -> bool {
        let started = match self.mode {
            DataplaneMode::External => return false,
            DataplaneMode::Spawn if !reaped(child) => return false,
            DataplaneMode::Spawn => self.launch.start().map(|new| {
                tracing::info!(pid = new.id(), "data plane started");
                *child = Some(new);
            }),
            DataplaneMode::Systemd => self.launch.start_unit().await.inspect(|()| {
                tracing::info!(unit = self.launch.unit(), "data plane started as a unit");
            }),
        };
        if let Err(fault) = &started {
            tracing::error!(reason = %fault.reason, error = %fault, "no data plane");
        }
        started.is_ok()
    }

    /// Holds one connection until it ends. Says whether it came up.
    async fn hold(&mut self, adopted: bool) -> (bool, Fault) {
        let opened = Session::open(&self.launch.socket(), &self.launch.membership, HELLO_DEADLINE).await;
        let (session, hello) = match opened {
            Ok(opened) => opened,
            Err(fault) => return (false, fault),
        };
        // What was published to an earlier connection is built anew for this one.
        self.tables.mark_unchanged();
        let up = DataplaneEvent::Up(DataplaneFacts { hello, adopted });
        if self.events.send(up).await.is_err() {
            return (true, ended());
        }
        match self.serve(session).await {
            Ok(()) => (true, ended()),
            Err(fault) => (true, fault),
        }
    }

    async fn serve(&mut self, mut session: Session) -> Result<(), Fault> {
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tables: Option<(u64, oneshot::Receiver<Answer>)> = None;
        let mut stats: Option<oneshot::Receiver<Answer>> = None;
        let mut pings: Vec<(oneshot::Receiver<Answer>, oneshot::Sender<_>)> = Vec::new();
        loop {
            tokio::select! {
                changed = self.tables.changed(), if tables.is_none() => {
                    changed.map_err(|_| ended())?;
                    let table = self.tables.borrow_and_update().clone();
                    if let Some(table) = table {
                        let body = agent_message::Body::Table(table.message().clone());
                        tables = Some((table.version(), session.request(body).await?));
                    }
                }
                command = self.commands.recv() => {
                    let (node, count, interval_ms, reply) = match command {
                        None => return Ok(()),
                        Some(DataplaneCommand::Stop(reply)) => {
                            self.ended = true;
                            let stopped = session.request(agent_message::Body::Stop(v1::StopCommand {})).await?;
                            answered(&mut session, stopped).await?;
                            // Whoever asked may have stopped waiting.
                            let _ = reply.send(());
                            return Ok(());
                        }
                        Some(DataplaneCommand::Ping { node, count, interval_ms, reply }) => {
                            (node, count, interval_ms, reply)
                        }
                    };
                    let ping = v1::PingCommand { node_id: node.to_vec(), count, interval_ms };
                    pings.retain(|(_, reply)| !reply.is_closed());
                    if pings.len() < PINGS_CAP {
                        pings.push((session.request(agent_message::Body::Ping(ping)).await?, reply));
                    } else {
                        drop(reply.send(Err(Fault::new(Reason::RateLimited, "too many pings at once"))));
                    }
                }
                _ = poll.tick(), if stats.is_none() => {
                    stats = Some(session.request(agent_message::Body::Stats(v1::StatsRequest {})).await?);
                }
                received = session.receive() => {
                    for event in received? {
                        let (state, reason) = (event.state, event.reason);
                        let peer = NodeId::from_slice(&event.node_id).map(|id| id.to_string());
                        tracing::debug!(peer = peer.unwrap_or_default(), state, reason, "link");
                    }
                }
            }
            if let Some((version, receiver)) = &mut tables
                && let Ok(answer) = receiver.try_recv()
            {
                let event = match answer {
                    Ok(_) => DataplaneEvent::Applied(*version),
                    Err(fault) => DataplaneEvent::Refused(fault),
                };
                tables = None;
                self.events.send(event).await.map_err(|_| ended())?;
            }
            if let Some(answer) = stats.as_mut().and_then(|receiver| receiver.try_recv().ok()) {
                stats = None;
                if let Ok(dataplane_message::Body::Stats(report)) = answer {
                    self.events.send(DataplaneEvent::Stats(Box::new(report))).await.map_err(|_| ended())?;
                }
            }
            answer_pings(&mut pings);
        }
    }
}

/// Reads until this answer is there; the connection may end instead, which is an end as well.
async fn answered(session: &mut Session, mut answer: oneshot::Receiver<Answer>) -> Result<(), Fault> {
    while answer.try_recv().is_err() {
        if session.receive().await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A ping under way: the data plane's answer, and who asked.
type PendingPing = (oneshot::Receiver<Answer>, oneshot::Sender<Result<v1::PingOutcome, Fault>>);

fn answer_pings(pings: &mut Vec<PendingPing>) {
    let mut index = 0;
    while index < pings.len() {
        match pings[index].0.try_recv() {
            Ok(answer) => {
                let (_, reply) = pings.swap_remove(index);
                let outcome = answer.and_then(|body| match body {
                    dataplane_message::Body::Ping(outcome) => Ok(outcome),
                    _ => Err(Fault::new(Reason::DataplaneVersion, "the answer to a ping is none")),
                });
                // Whoever asked may have stopped waiting.
                let _ = reply.send(outcome);
            }
            Err(_) => index += 1,
        }
    }
}

/// True if no started data plane is still alive; collects one that ended.
fn reaped(child: &mut Option<Child>) -> bool {
    let Some(running) = child else { return true };
    match running.try_wait() {
        Ok(Some(status)) => {
            tracing::warn!(%status, "the data plane ended");
            *child = None;
            true
        }
        // Alive and without a socket: it is starting, or another one holds the membership.
        Ok(None) => false,
        Err(_) => true,
    }
}

fn ended() -> Fault {
    Fault::new(Reason::DataplaneUnavailable, "the agent ends")
}

const HELLO_DEADLINE: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(25);
const LAST_RETRY: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_secs(1);
const PINGS_CAP: usize = 16;
