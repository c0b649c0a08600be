//! One connection from its first byte to its last.

use std::sync::Arc;

use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1::dataplane_message::Body;
use rap_wire::{FRAME_CAP, v1};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::events::LinkEvents;
use super::refusal::refusal;
use super::requests::Requests;
use super::{hello, read, write};
use crate::plane::Plane;

/// What all connections share.
pub(super) struct Shared {
    plane: Arc<Plane>,
    /// One permit: the controller's.
    controller: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(plane: Arc<Plane>) -> Self {
        Self { plane, controller: Arc::new(Semaphore::new(1)) }
    }
}

/// Why a controller's connection ended.
pub(super) enum End {
    /// The agent closed it, or the socket failed.
    Gone,
    /// The agent broke a rule of the socket.
    Refused(Fault),
    /// The agent ended the process.
    Stopped,
}

/// Serves one connection.
pub(super) async fn run(shared: &Shared, mut stream: UnixStream) {
    let token = shared.plane.group().token();
    let opened = tokio::select! {
        () = token.cancelled() => return,
        opened = open(shared, &mut stream) => opened,
    };
    let (protocol, permit) = match opened {
        Ok(Some(opened)) => opened,
        Ok(None) => return,
        Err((id, fault)) => {
            tracing::warn!(reason = fault.reason.row().code, %fault, "controller refused");
            write::last(&mut stream, &refusal(id, &fault)).await;
            return;
        }
    };
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    tracing::info!(pid, protocol, "controller connected");
    serve(shared, stream, protocol).await;
    drop(permit);
    tracing::info!("controller disconnected; the table stays in force");
}

/// Checks who it is and that there is no other; the protocol to speak. `None`: it left without a word.
async fn open(
    shared: &Shared,
    stream: &mut UnixStream,
) -> Result<Option<(u32, OwnedSemaphorePermit)>, (u64, Fault)> {
    let first = timeout(hello::WAIT, read::message(stream, hello::CAP)).await;
    let silent = |_| (0, Fault::new(Reason::RequestTimeout, "no hello in time"));
    let first = match first.map_err(silent)? {
        Ok(Some(message)) => message,
        Ok(None) | Err(read::ReadError::Io) => return Ok(None),
        Err(read::ReadError::Broken(fault)) => return Err((0, fault)),
    };
    let refused = |fault| (first.id, fault);
    hello::check_peer(stream).map_err(refused)?;
    let protocol = hello::negotiate(first.body.as_ref(), shared.plane.membership()).map_err(refused)?;
    let permit = hello::take_control(&shared.controller).await.map_err(refused)?;
    let answer = hello::answer(&shared.plane, protocol);
    match write::message(stream, &v1::DataplaneMessage { id: first.id, body: Some(answer) }).await {
        Ok(()) => Ok(Some((protocol, permit))),
        Err(_) => Ok(None),
    }
}

/// Until the agent is gone or refused, or the process ends.
async fn serve(shared: &Shared, stream: UnixStream, protocol: u32) {
    let token = shared.plane.group().token();
    let over = CancellationToken::new();
    let _ends_requests = over.clone().drop_guard();
    let (mut reading, writing) = stream.into_split();
    let (answers, queue) = mpsc::channel(QUEUE);
    let mut requests = Requests::new(shared.plane.clone(), protocol, &answers, over);
    let writer = write::run(writing, queue, LinkEvents::new(shared.plane.mesh()));
    tokio::pin!(writer);
    let end = tokio::select! {
        () = token.cancelled() => return,
        () = &mut writer => return,
        end = listen(&mut reading, &mut requests, &answers) => end,
    };
    if let End::Refused(fault) = &end {
        tracing::warn!(reason = fault.reason.row().code, %fault, "controller dropped");
        // Full: the agent does not read, and would not read this either.
        let _unread = answers.try_send(refusal(0, fault));
    }
    drop(answers);
    if matches!(end, End::Refused(_) | End::Stopped) {
        // The writer ends when its queue is empty; each of its writes has a deadline.
        writer.await;
        write::discard(&mut reading).await;
    }
    if matches!(end, End::Stopped) {
        tracing::info!("stopped by the agent");
        shared.plane.group().cancel();
    }
}

async fn listen(
    stream: &mut tokio::net::unix::OwnedReadHalf,
    requests: &mut Requests,
    answers: &mpsc::Sender<v1::DataplaneMessage>,
) -> End {
    loop {
        let message = match read::message(stream, FRAME_CAP).await {
            Ok(Some(message)) => message,
            Ok(None) | Err(read::ReadError::Io) => return End::Gone,
            Err(read::ReadError::Broken(fault)) => return End::Refused(fault),
        };
        let id = message.id;
        match message.body {
            Some(v1::agent_message::Body::Stop(_)) => {
                let ack = v1::DataplaneMessage { id, body: Some(Body::StopAck(v1::StopAck {})) };
                let _gone = timeout(write::WAIT, answers.send(ack)).await;
                return End::Stopped;
            }
            body => requests.take(id, body).await,
        }
    }
}

/// Answers that wait for the agent to read.
const QUEUE: usize = 32;
