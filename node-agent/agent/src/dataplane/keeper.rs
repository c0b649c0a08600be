//! The task that keeps one data plane in contact: adopt or start, publish, poll, ping.
//!
//! Owns retries and the order adopt-before-start. Refuses to build tables.

use std::sync::Arc;
use std::time::Duration;

use rap_node::ForwardingTable;
use rap_runtime::{Clock, Fault};
use rap_types::Reason;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::commands::DataplaneCommand;
use super::events::DataplaneEvent;
use super::launch::{Launch, unavailable};
use crate::config::DataplaneMode;
use crate::supervise::{Child, Exit, Served};

/// Says how often a data plane was started for a membership.
pub type Starts = Arc<dyn Fn(&[u8]) -> u32 + Send + Sync>;

/// Keeps the data plane of one membership.
pub struct DataplaneTask {
    /// The number of the start of a data plane on this host, given its random id. Blocks.
    pub starts: Starts,
    /// How to start it.
    pub launch: Launch,
    /// Who starts it.
    pub mode: DataplaneMode,
    /// The newest table.
    pub tables: watch::Receiver<Option<Arc<ForwardingTable>>>,
    /// Requests.
    pub commands: mpsc::Receiver<DataplaneCommand>,
    /// Where events go.
    pub events: mpsc::Sender<DataplaneEvent>,
    /// True once the data plane was ended for good; false at first.
    pub ended: bool,
    /// The process that served the last connection, until its end is known; `None` at first.
    pub served: Option<Served>,
}

impl DataplaneTask {
    /// Runs until cancelled. The data plane goes on afterwards.
    pub async fn run(mut self, cancel: CancellationToken) {
        let (mut child, mut failures, mut started) = (None, 0_u32, false);
        let clock = Clock::new();
        loop {
            let begun = clock.now().mono;
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
            // A connection that comes up and ends at once is tried less and less often, too.
            let stable = was_up && clock.now().mono.since(begun) >= STABLE;
            failures = if stable { 0 } else { failures.saturating_add(1) };
            if let Some(exit) = self.exit(&mut child)
                && self.events.send(DataplaneEvent::Exited(Box::new(exit))).await.is_err()
            {
                return;
            }
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
            // Alive and without a socket: it is starting, or another one holds the membership.
            DataplaneMode::Spawn if child.is_some() => return false,
            DataplaneMode::Spawn => self.spawn().map(|new| {
                tracing::info!(pid = new.pid(), "data plane started");
                *child = Some(new);
            }),
            DataplaneMode::Systemd => {
                let unit = self.launch.unit();
                unit.start().await.map_err(unavailable).inspect(|()| {
                    tracing::info!(unit = unit.name, "data plane started as a unit");
                })
            }
        };
        if let Err(fault) = &started {
            tracing::error!(reason = %fault.reason, error = %fault, "no data plane");
        }
        started.is_ok()
    }

    /// How the data plane ended, once: the child of this agent, or a process that it adopted.
    fn exit(&mut self, child: &mut Option<Child>) -> Option<Exit> {
        let folder = self.launch.folder();
        if let Some(running) = child {
            let (pid, ended) = (running.pid(), running.ended());
            let status = ended.unwrap_or_else(|error| {
                tracing::warn!(pid, %error, "the end of the data plane cannot be collected");
                *child = None;
                None
            })?;
            (*child, self.served) = (None, None);
            return Some(Exit::of(pid, Some(status), &folder));
        }
        let served = self.served.take_if(|served| !served.is_alive())?;
        Some(Exit::of(u32::try_from(served.pid).ok()?, None, &folder))
    }

    fn spawn(&self) -> Result<Child, Fault> {
        self.launch.program()?.start().map_err(unavailable)
    }
}

const FIRST_RETRY: Duration = Duration::from_millis(25);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// A connection that lived this long is no failure.
const STABLE: Duration = Duration::from_secs(2);
