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
use crate::supervise::Child;

/// Keeps the data plane of one membership.
pub struct DataplaneTask {
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

    fn spawn(&self) -> Result<Child, Fault> {
        self.launch.program()?.start().map_err(unavailable)
    }
}

/// True if no started data plane is still alive; collects one that ended.
fn reaped(child: &mut Option<Child>) -> bool {
    let Some(running) = child else { return true };
    match running.ended() {
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

const FIRST_RETRY: Duration = Duration::from_millis(25);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// A connection that lived this long is no failure.
const STABLE: Duration = Duration::from_secs(2);
