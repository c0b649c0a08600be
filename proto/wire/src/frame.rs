//! Length-prefixed frames of the agent's data plane socket: u32 big-endian length, then one message.
//!
//! Owns the prefix and the cap. Refuses to own sockets and the meaning of a message.

use prost::Message;

/// Cap on one message, bytes.
pub const FRAME_CAP: usize = rap_types::limits::DATAPLANE_FRAME_MAX;

const PREFIX: usize = 4;

/// Why bytes are not a frame. The stream cannot be used after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length exceeds [`FRAME_CAP`].
    #[error("a frame of {0} bytes exceeds the cap of 1 MiB")]
    TooLarge(usize),
    /// The bytes do not decode as the message.
    #[error("a frame does not decode")]
    Malformed,
}

/// Encodes one message with its length.
///
/// # Errors
/// [`FrameError::TooLarge`].
pub fn encode_frame<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let length = message.encoded_len();
    if length > FRAME_CAP {
        return Err(FrameError::TooLarge(length));
    }
    let mut frame = Vec::with_capacity(PREFIX + length);
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    frame.extend_from_slice(&message.encode_to_vec());
    Ok(frame)
}

/// Takes bytes as they come and gives back messages. Holds at most one frame and what arrived with it.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
}

impl FrameDecoder {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn poll<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > FRAME_CAP {
            return Err(FrameError::TooLarge(length));
        }
        let Some(body) = self.buffer.get(PREFIX..PREFIX + length) else { return Ok(None) };
        let message = M::decode(body).map_err(|_| FrameError::Malformed)?;
        self.buffer.drain(..PREFIX + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    fn message(id: u64) -> v1::AgentMessage {
        let body = v1::agent_message::Body::Stats(v1::StatsRequest::default());
        v1::AgentMessage { id, body: Some(body) }
    }

    #[test]
    fn messages_come_out_whole_however_the_bytes_are_cut() {
        let bytes: Vec<u8> = (1..=3).flat_map(|id| encode_frame(&message(id)).unwrap()).collect();
        for cut in 1..bytes.len() {
            let mut decoder = FrameDecoder::default();
            let mut ids = Vec::new();
            for part in bytes.chunks(cut) {
                decoder.push(part);
                while let Some(found) = decoder.poll::<v1::AgentMessage>().unwrap() {
                    assert_eq!(found, message(found.id));
                    ids.push(found.id);
                }
            }
            assert_eq!(ids, [1, 2, 3]);
        }
    }

    #[test]
    fn a_length_above_the_cap_is_refused_before_its_bytes_arrive() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&u32::MAX.to_be_bytes());
        assert_eq!(decoder.poll::<v1::AgentMessage>(), Err(FrameError::TooLarge(u32::MAX as usize)));
        let table = v1::ForwardingTable { newest_head: vec![0; FRAME_CAP], ..Default::default() };
        assert!(matches!(encode_frame(&table), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[0, 0, 0, 2, 0xff, 0xff]);
        assert_eq!(decoder.poll::<v1::AgentMessage>(), Err(FrameError::Malformed));
    }
}
