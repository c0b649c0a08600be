//! Tables on one connection: what the publisher wants sent goes to the session, and the answers back to it.
//!
//! Owns which answers are awaited. Refuses to choose what is sent: `rap_node::TablePublisher` does.

use std::sync::Arc;

use rap_node::{ForwardingTable, Input, TablePublisher};
use rap_runtime::{Clock, Fault};
use rap_wire::v1::agent_message::Body;
use tokio::sync::oneshot;

use super::events::DataplaneEvent;
use super::session::{Answer, Session};

/// What is under way.
pub(super) struct Tables {
    publisher: TablePublisher,
    clock: Clock,
    asked: Option<oneshot::Receiver<Answer>>,
    revoking: Vec<oneshot::Receiver<Answer>>,
}

impl Tables {
    /// For a connection that speaks `protocol`.
    pub(super) fn new(protocol: u32) -> Self {
        let publisher = TablePublisher::new(protocol);
        Self { publisher, clock: Clock::new(), asked: None, revoking: Vec::new() }
    }

    /// There is a newer table.
    pub(super) fn offer(&mut self, table: Arc<ForwardingTable>) {
        self.publisher.offer(table);
    }

    /// Sends what is due: revocations first. What the driver is to be told of tables that are not sent.
    pub(super) async fn send(&mut self, session: &mut Session) -> Result<Vec<DataplaneEvent>, Fault> {
        while let Some(command) = self.publisher.revoke() {
            tracing::trace!(way = "the data plane is told of revocations");
            self.revoking.push(session.request(Body::Revoke(command)).await?);
        }
        let mut events = Vec::new();
        while let Some(next) = self.publisher.poll(self.clock.now().mono) {
            tracing::trace!(way = "the data plane is told of a table");
            match next {
                Ok(body) => self.asked = Some(session.request(body).await?),
                Err(reason) => {
                    let text =
                        "the data plane would not take the table; it is told of revocations all the same";
                    events.push(DataplaneEvent::Refused(Fault::new(reason, text)));
                }
            }
        }
        Ok(events)
    }

    /// Takes answers that have come.
    pub(super) fn answers(&mut self) -> Option<DataplaneEvent> {
        self.revoking.retain_mut(|revoked| match revoked.try_recv() {
            Ok(Err(fault)) => {
                tracing::error!(reason = %fault.reason, error = %fault, "revocations not applied in full");
                false
            }
            Ok(Ok(_)) | Err(oneshot::error::TryRecvError::Closed) => false,
            Err(oneshot::error::TryRecvError::Empty) => true,
        });
        let answer = self.asked.as_mut()?.try_recv().ok()?;
        self.asked = None;
        let reason = answer.as_ref().map(drop).map_err(|fault| fault.reason);
        let published = self.publisher.answered(reason, self.clock.now().mono);
        match (published, answer) {
            (Some(Ok(version)), _) => Some(DataplaneEvent::Told(Input::TableApplied(version))),
            (Some(Err(_)), Err(fault)) => Some(DataplaneEvent::Refused(fault)),
            (None, Err(fault)) => {
                tracing::info!(reason = %fault.reason, error = %fault, "a whole table follows");
                None
            }
            (Some(Err(_)) | None, Ok(_)) => None,
        }
    }

    /// Waits until a table that was refused may be sent again.
    pub(super) async fn due(&self) {
        match self.publisher.poll_timeout() {
            Some(due) => tokio::time::sleep(due.since(self.clock.now().mono)).await,
            None => std::future::pending().await,
        }
    }
}
