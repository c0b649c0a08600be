//! Requests from the handle of a mesh to the task of a link.

use bytes::Bytes;
use rap_link::Answer;
use rap_types::ChannelClass;
use tokio::sync::oneshot;

/// A question that the task sends to the peer. The sender gets the answer.
#[derive(Debug)]
pub(crate) enum Command {
    Probe(oneshot::Sender<Answer>),
    Echo(ChannelClass, Bytes, oneshot::Sender<Answer>),
}
