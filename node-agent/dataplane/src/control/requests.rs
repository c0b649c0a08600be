//! Requests of one controller, answered beside each other, so many at once and no more.

use std::sync::Arc;

use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1::agent_message::Body as Asked;
use rap_wire::v1::dataplane_message::Body as Answered;
use rap_wire::v1::{DataplaneMessage, TableAck};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connection::refusal;
use super::write;
use crate::plane::Plane;
use crate::{ping, stats};

pub(super) struct Requests {
    plane: Arc<Plane>,
    /// Weak: when the connection ends, open requests do not hold it up.
    answers: mpsc::WeakSender<DataplaneMessage>,
    places: Arc<Semaphore>,
    over: CancellationToken,
}

impl Requests {
    /// `over` ends what is only of use to this connection.
    pub(super) fn new(
        plane: Arc<Plane>,
        answers: &mpsc::Sender<DataplaneMessage>,
        over: CancellationToken,
    ) -> Self {
        Self { plane, answers: answers.downgrade(), places: Arc::new(Semaphore::new(AT_ONCE)), over }
    }

    /// Starts a request; waits while too many are open, and reading waits with it.
    pub(super) async fn take(&self, id: u64, body: Option<Asked>) {
        let Ok(place) = self.places.clone().acquire_owned().await else { return };
        let (plane, answers, over) = (self.plane.clone(), self.answers.clone(), self.over.clone());
        let stop = plane.group().token();
        self.plane.group().spawn("control-request", async move {
            let answer = match body {
                // A table that was begun is applied to its end, whoever still listens.
                Some(Asked::Table(table)) => {
                    plane.apply(table).await.map(|version| Answered::TableAck(TableAck { version }))
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
            drop(place);
        });
    }
}

async fn answer(plane: &Plane, body: Option<Asked>) -> Result<Answered, Fault> {
    match body {
        Some(Asked::Stats(_)) => Ok(Answered::Stats(stats::stats(plane).await)),
        Some(Asked::Ping(command)) => ping::ping(plane, &command).await.map(Answered::Ping),
        Some(Asked::Hello(_)) => Err(Fault::new(Reason::RequestInvalid, "a second hello")),
        // Both are taken care of before; a newer agent may ask what this version does not know.
        Some(Asked::Table(_) | Asked::Stop(_)) | None => {
            Err(Fault::new(Reason::RequestInvalid, "this data plane does not know the request"))
        }
    }
}

/// Open requests of one controller.
const AT_ONCE: usize = 8;
