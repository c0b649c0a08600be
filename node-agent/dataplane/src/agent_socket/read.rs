//! One message from the socket, within the cap and in time. Its bytes may hold keys: they are wiped.

use std::time::Duration;

use prost::Message as _;
use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1::AgentMessage;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// The stream cannot be read on.
pub(super) enum ReadError {
    /// The socket failed, or ended within a message.
    Io,
    /// What came breaks a rule.
    Broken(Fault),
}

/// The next message, of at most `cap` bytes; `None` when the other end closed. Waits without end for the
/// first byte only.
pub(super) async fn message(
    stream: &mut (impl AsyncRead + Unpin),
    cap: usize,
) -> Result<Option<AgentMessage>, ReadError> {
    let mut prefix = [0; 4];
    if stream.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    let rest = async {
        stream.read_exact(&mut prefix[1..]).await?;
        let length = u32::from_be_bytes(prefix) as usize;
        if length > cap {
            return Err(broken(Reason::RequestTooLarge, "a message exceeds its cap"));
        }
        let mut body = Zeroizing::new(vec![0; length]);
        stream.read_exact(&mut body).await?;
        AgentMessage::decode(body.as_slice())
            .map_err(|_| broken(Reason::RequestInvalid, "a message does not decode"))
    };
    match timeout(WAIT, rest).await {
        Ok(message) => message.map(Some),
        Err(_) => Err(broken(Reason::RequestTimeout, "a message did not arrive whole in time")),
    }
}

impl From<std::io::Error> for ReadError {
    fn from(_: std::io::Error) -> Self {
        Self::Io
    }
}

fn broken(reason: Reason, text: &str) -> ReadError {
    ReadError::Broken(Fault::new(reason, text))
}

/// How long one message may take from its first byte to its last.
const WAIT: Duration = Duration::from_secs(5);
