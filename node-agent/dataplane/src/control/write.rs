//! What goes to the agent: answers first, then what changed on links. One writer per connection.

use std::io;
use std::time::Duration;

use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::encode_frame;
use rap_wire::v1::DataplaneMessage;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::refusal;
use super::events::LinkEvents;

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

/// Writes a message to a connection that is then dropped.
pub(super) async fn last(stream: &mut (impl AsyncWrite + Unpin), last: &DataplaneMessage) {
    if let Err(error) = message(stream, last).await {
        tracing::debug!(%error, "refusal not read");
    }
}

/// How long the agent may take to read.
pub(super) const WAIT: Duration = Duration::from_secs(5);
