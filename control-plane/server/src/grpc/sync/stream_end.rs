//! How a node's stream is read, and why it ends.

use std::error::Error as _;

use rap_types::Reason;
use rap_wire::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use crate::failure::Failure;
use crate::serve::sessions::Command;

/// Why a stream ends.
pub(super) enum End {
    /// The node went away, or a newer stream took over.
    Gone,
    /// The node is told.
    Refused(Failure),
}

/// The node's next message, not before `instant`.
pub(super) async fn message(
    instant: Instant,
    incoming: &mut Streaming<v1::NodeMessage>,
) -> Result<Option<v1::NodeMessage>, Status> {
    tokio::time::sleep_until(instant).await;
    incoming.message().await
}

/// The next command, not before `instant`.
pub(super) async fn at(instant: Instant, commands: &mut mpsc::Receiver<Command>) -> Option<Command> {
    tokio::time::sleep_until(instant).await;
    commands.recv().await
}

/// How a stream ends whose next message could not be read: a fault of the connection has a source, a
/// message that is none or is too large has not.
pub(super) fn unread(status: &Status) -> End {
    match status.code() {
        Code::OutOfRange => refused(Reason::RequestTooLarge, "the message exceeds the limit"),
        Code::Internal if status.source().is_none() => {
            refused(Reason::RequestInvalid, "not a message of a node")
        }
        _ => End::Gone,
    }
}

pub(super) fn refused(reason: Reason, message: &str) -> End {
    End::Refused(Failure::new(reason, message))
}
