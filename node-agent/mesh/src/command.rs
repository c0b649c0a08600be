//! What the handle of a mesh asks the task of a link to do.

use bytes::Bytes;
use rap_link::Answer;
use rap_types::ChannelClass;
use tokio::sync::oneshot;

/// A question for the peer of a link.
#[derive(Debug)]
pub(crate) enum Command {
    Probe(oneshot::Sender<Answer>),
    Echo(ChannelClass, Bytes, oneshot::Sender<Answer>),
}
