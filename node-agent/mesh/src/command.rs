//! What the handle of a mesh asks the task of a link to do.

use rap_link::Answer;
use tokio::sync::oneshot;

/// A question for the peer of a link.
#[derive(Debug)]
pub(crate) enum Command {
    Probe(oneshot::Sender<Answer>),
    Echo(Vec<u8>, oneshot::Sender<Answer>),
}
