//! What goes to the agent: answers first, then what changed on links. One writer per connection.

use std::io;
use std::time::Duration;

use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::encode_frame;
use rap_wire::v1::DataplaneMessage;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::events::LinkEvents;
use super::refusal::refusal;

/// Writes until the queue is closed and empty, or the agent does not read.
pub(super) async fn run(
    mut stream: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<DataplaneMessage>,
    mut events: LinkEvents,
) {
    loop {
        let next = tokio::select! {
            biased;
            answer = queue.recv() => answer,
            event = events.next() => Some(event),
        };
        let Some(next) = next else { return };
        if let Err(error) = message(&mut stream, &next).await {
            tracing::info!(%error, "controller does not read");
            return;
        }
    }
}

/// Writes one message, in time or not at all.
pub(super) async fn message(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &DataplaneMessage,
) -> io::Result<()> {
    let frame = encode_frame(message).or_else(|_| {
        let fault = Fault::new(Reason::RequestTooLarge, "the answer exceeds 1 MiB");
        encode_frame(&refusal(message.id, &fault)).map_err(io::Error::other)
    })?;
    timeout(WAIT, stream.write_all(&frame)).await?
}

/// Writes a message to a connection that is then dropped. Takes what still comes for a moment: the other
/// end shall find the reason, not a broken pipe.
pub(super) async fn last(stream: &mut UnixStream, last: &DataplaneMessage) {
    let written = async {
        message(stream, last).await?;
        stream.shutdown().await
    };
    match written.await {
        Ok(()) => discard(stream).await,
        Err(error) => tracing::debug!(%error, "refusal not read"),
    }
}

/// Reads to the end, for a moment, and forgets it.
pub(super) async fn discard(stream: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; 4096];
    let read = async { while stream.read(&mut ignored).await.is_ok_and(|count| count > 0) {} };
    let _out_of_time = timeout(LINGER, read).await;
}

/// How long the agent may take to read.
pub(super) const WAIT: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(1);
