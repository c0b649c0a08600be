//! One connection to a data plane, from its hello to its end: tables go down, answers and reports come up.
//!
//! Owns what is under way on the connection. Refuses to retry: `keeper` does.

use std::time::Duration;

use rap_node::Input;
use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1;
use rap_wire::v1::{agent_message, dataplane_message};
use tokio::sync::oneshot;

use super::commands::DataplaneCommand;
use super::events::{DataplaneEvent, DataplaneFacts};
use super::keeper::DataplaneTask;
use super::session::{Answer, Session};
use super::stats::Pages;
use super::tables::Tables;
use crate::blocking::blocking;

impl DataplaneTask {
    /// Holds one connection until it ends. Says whether it came up.
    pub(super) async fn hold(&mut self, adopted: bool) -> (bool, Fault) {
        let opened = Session::open(&self.launch.socket(), &self.launch.membership, HELLO_DEADLINE).await;
        let (session, hello) = match opened {
            Ok(opened) => opened,
            Err(fault) => return (false, fault),
        };
        // What was published to an earlier connection is built anew for this one.
        self.tables.mark_unchanged();
        let (starts, process) = (self.starts.clone(), hello.instance_id.clone());
        let path_instance = match blocking(move || Ok(starts(&process))).await {
            Ok(instance) => instance,
            Err(fault) => return (false, fault),
        };
        let up = DataplaneEvent::Up(DataplaneFacts { hello, adopted, path_instance });
        if self.events.send(up).await.is_err() {
            return (true, ended());
        }
        self.served = Some(session.served.clone());
        match self.serve(session).await {
            Ok(()) => (true, ended()),
            Err(fault) => (true, fault),
        }
    }

    async fn serve(&mut self, mut session: Session) -> Result<(), Fault> {
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tables = Tables::new(session.protocol);
        let mut stats = Pages::default();
        let mut pings: Vec<PendingPing> = Vec::new();
        loop {
            for event in tables.send(&mut session).await? {
                self.events.send(event).await.map_err(|_| ended())?;
            }
            tokio::select! {
                changed = self.tables.changed() => {
                    changed.map_err(|_| ended())?;
                    if let Some(table) = self.tables.borrow_and_update().clone() {
                        tables.offer(table);
                    }
                }
                () = tables.due() => {}
                command = self.commands.recv() => match command {
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
                        let ping = v1::PingCommand { node_id: node.to_vec(), count, interval_ms };
                        start_ping(&mut session, &mut pings, ping, reply).await?;
                    }
                },
                _ = poll.tick(), if stats.is_idle() => stats.ask(&mut session).await?,
                received = session.receive() => {
                    for event in received? {
                        self.events.send(event).await.map_err(|_| ended())?;
                    }
                }
            }
            if let Some(event) = tables.answers() {
                self.events.send(event).await.map_err(|_| ended())?;
            }
            if let Some(report) = stats.answered(&mut session).await? {
                let told = DataplaneEvent::Told(Input::StatsArrived(Box::new(report)));
                self.events.send(told).await.map_err(|_| ended())?;
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

async fn start_ping(
    session: &mut Session,
    pings: &mut Vec<PendingPing>,
    ping: v1::PingCommand,
    reply: oneshot::Sender<Result<v1::PingOutcome, Fault>>,
) -> Result<(), Fault> {
    pings.retain(|(_, reply)| !reply.is_closed());
    if pings.len() < PINGS_CAP {
        pings.push((session.request(agent_message::Body::Ping(ping)).await?, reply));
    } else {
        drop(reply.send(Err(Fault::new(Reason::RateLimited, "too many pings at once"))));
    }
    Ok(())
}

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

const HELLO_DEADLINE: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_secs(1);

const PINGS_CAP: usize = 16;

fn ended() -> Fault {
    Fault::new(Reason::DataplaneUnavailable, "the agent ends")
}
