//! Requests of one controller, answered beside each other, so many at once and no more.

use std::sync::Arc;

use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1::agent_message::Body as Asked;
use rap_wire::v1::dataplane_message::Body as Answered;
use rap_wire::v1::{DataplaneMessage, ForwardingTable, RevokeAck, TableAck, TablePart, TablePartAck};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::refusal::refusal;
use super::write;
use crate::plane::Plane;
use crate::table::Parts;
use crate::{ping, stats};

pub(super) struct Requests {
    plane: Arc<Plane>,
    /// Weak: when the connection ends, open requests do not hold it up.
    answers: mpsc::WeakSender<DataplaneMessage>,
    room: Arc<Semaphore>,
    over: CancellationToken,
    protocol: u32,
    parts: Parts,
}

impl Requests {
    /// `over` ends what is only of use to this connection.
    pub(super) fn new(
        plane: Arc<Plane>,
        protocol: u32,
        answers: &mpsc::Sender<DataplaneMessage>,
        over: CancellationToken,
    ) -> Self {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        Self { plane, answers: answers.downgrade(), room, over, protocol, parts: Parts::default() }
    }

    /// Starts a request; waits while too many are open, and reading waits with it.
    pub(super) async fn take(&mut self, id: u64, body: Option<Asked>) {
        tracing::trace!(way = "the agent asked for something");
        let Ok(permit) = self.room.clone().acquire_owned().await else { return };
        let body = match self.spoken(body) {
            // Here and not beside each other: their order counts.
            Some(Asked::TablePart(part)) => match self.part(part) {
                Ok(Step::Ack(ack)) => return self.answer(DataplaneMessage { id, body: Some(ack) }).await,
                Ok(Step::Whole(table)) => Some(Asked::Table(*table)),
                Err(fault) => return self.answer(refusal(id, &fault)).await,
            },
            body => body,
        };
        let (plane, answers, over) = (self.plane.clone(), self.answers.clone(), self.over.clone());
        let stop = plane.group().token();
        self.plane.group().spawn("control-request", async move {
            let applied = |version| Answered::TableAck(TableAck { version });
            let answer = match body {
                // What was begun is applied to its end, whoever still listens.
                Some(Asked::Table(table)) => plane.apply(table).await.map(applied),
                Some(Asked::TableDelta(delta)) => plane.change(delta).await.map(applied),
                Some(Asked::Revoke(command)) => {
                    plane.revoke(&command.revoked).await.map(|()| Answered::RevokeAck(RevokeAck {}))
                }
                body => tokio::select! {
                    () = over.cancelled() => return,
                    () = stop.cancelled() => return,
                    answer = answer(&plane, body) => answer,
                },
            };
            let message = match answer {
                Ok(body) => DataplaneMessage { id, body: Some(body) },
                Err(fault) => {
                    tracing::warn!(reason = fault.reason.row().code, %fault, "request refused");
                    refusal(id, &fault)
                }
            };
            if let Some(answers) = answers.upgrade() {
                // Full for so long: the writer has given the connection up.
                let _gone = timeout(write::WAIT, answers.send(message)).await;
            }
            drop(permit);
        });
    }

    /// What the agreed protocol does not have is a request that nobody knows.
    fn spoken(&self, body: Option<Asked>) -> Option<Asked> {
        let newer =
            |body: &Asked| matches!(body, Asked::TablePart(_) | Asked::TableDelta(_) | Asked::Revoke(_));
        body.filter(|body| self.protocol >= PROTOCOL_OF_CHANGES || !newer(body))
    }

    fn part(&mut self, part: TablePart) -> Result<Step, Fault> {
        let ack = TablePartAck { version: part.version, part: part.part };
        let whole = self.parts.take(part)?;
        Ok(whole.map_or(Step::Ack(Answered::TablePartAck(ack)), |table| Step::Whole(Box::new(table))))
    }

    async fn answer(&self, message: DataplaneMessage) {
        if let Some(answers) = self.answers.upgrade() {
            // Full for so long: the writer has given the connection up.
            let _gone = timeout(write::WAIT, answers.send(message)).await;
        }
    }
}

/// What a part leads to.
enum Step {
    Ack(Answered),
    Whole(Box<ForwardingTable>),
}

async fn answer(plane: &Plane, body: Option<Asked>) -> Result<Answered, Fault> {
    match body {
        Some(Asked::Stats(request)) => Ok(Answered::Stats(stats::stats(plane, &request.after).await)),
        Some(Asked::Ping(command)) => ping::ping(plane, &command).await.map(Answered::Ping),
        Some(Asked::Hello(_)) => Err(Fault::new(Reason::RequestInvalid, "a second hello")),
        // The first are taken care of before; a newer agent may ask what this version does not know.
        Some(
            Asked::Table(_) | Asked::TablePart(_) | Asked::TableDelta(_) | Asked::Revoke(_) | Asked::Stop(_),
        )
        | None => Err(Fault::new(Reason::RequestInvalid, "this data plane does not know the request")),
    }
}

/// Open requests of one controller.
const AT_ONCE: usize = 8;
/// The first with parts, changes and revocations.
const PROTOCOL_OF_CHANGES: u32 = 2;
