//! A client that asks and takes no answer: HTTP/2 by hand, because no library lets its window stay at 0 and goes on answering pings.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rap_runtime::Clock;
use rap_runtime::tls::{self, Pins};

use crate::host::Host;
use crate::wait::now;

/// What became of the client.
#[derive(Debug, Default)]
pub struct Held {
    /// When its connection ended; `None` if it did not.
    pub ended_after: Option<Duration>,
    /// Answers to its own pings.
    pub answered: usize,
    /// Bytes of the answer that it was given.
    pub data: usize,
}

/// Asks a control plane that is known by the pin of its CA for its installation, and takes no byte of the answer.
pub fn hold(host: &Host, door: SocketAddr, pin: &str, longest: Duration) -> Result<Held> {
    let pins = Pins::one(pin.parse().context("the pin of the CA")?);
    let config = tls::operator_client(pins, Arc::new(Clock::new()))?;
    host.view().enter(|| {
        let mut socket = TcpStream::connect_timeout(&door, SOON)?;
        socket.set_read_timeout(Some(SOON))?;
        let mut connection = rustls::ClientConnection::new(config, tls::any_server_name())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        socket.set_read_timeout(Some(PING_EVERY))?;
        let mut line = rustls::Stream::new(&mut connection, &mut socket);
        line.write_all(&question(&door.to_string()))?;
        let (started, mut held, mut bytes) = (now(), Held::default(), Vec::new());
        while started.elapsed() < longest {
            let mut piece = [0; 4096];
            let said = match line.read(&mut piece) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    bytes.extend_from_slice(&piece[..count]);
                    line.write_all(&answers(&mut bytes, &mut held))
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    line.write_all(&frame(PING, 0, 0, &[7; 8]))
                }
                Err(error) => Err(error),
            };
            if said.is_err() {
                held.ended_after = Some(started.elapsed());
                break;
            }
        }
        Ok(held)
    })
}

/// The preface, a window of 0 bytes, and one call.
fn question(authority: &str) -> Vec<u8> {
    let window = [0, 4, 0, 0, 0, 0];
    let mut headers = vec![POST, HTTPS];
    for (name, value) in [
        (":path", "/rap.fabric.v1.Admin/Installation"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).unwrap_or_default());
            headers.extend_from_slice(text.as_bytes());
        }
    }
    let message = [0; 5];
    let parts = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &window),
        frame(HEADERS, END_HEADERS, 1, &headers),
        frame(DATA, END_STREAM, 1, &message),
    ];
    parts.concat()
}

/// What the whole frames of `bytes` are answered with; they are removed.
fn answers(bytes: &mut Vec<u8>, held: &mut Held) -> Vec<u8> {
    let mut said = Vec::new();
    while let Some((kind, flags, payload)) = take_frame(bytes) {
        match (kind, flags & ACK) {
            (SETTINGS, 0) => said.extend(frame(SETTINGS, ACK, 0, &[])),
            (PING, 0) => said.extend(frame(PING, ACK, 0, &payload)),
            (PING, _) => held.answered += 1,
            (DATA, _) => held.data += payload.len(),
            _ => {}
        }
    }
    said
}

fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, u8, Vec<u8>)> {
    let head: [u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let payload = bytes.get(HEAD..HEAD + length)?.to_vec();
    bytes.drain(..HEAD + length);
    Some((head[3], head[4], payload))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const SOON: Duration = Duration::from_secs(20);
const PING_EVERY: Duration = Duration::from_secs(1);
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Indexes of the static table: `:method: POST`, `:scheme: https`.
const POST: u8 = 0x83;
const HTTPS: u8 = 0x87;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_answered_and_a_part_of_one_waits() {
        let mut held = Held::default();
        let mut bytes =
            [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[1; 8]), frame(PING, ACK, 0, &[2; 8])].concat();
        let rest = frame(DATA, 0, 1, &[3; 10]);
        bytes.extend_from_slice(&rest[..12]);
        let said = answers(&mut bytes, &mut held);
        assert_eq!(said, [frame(SETTINGS, ACK, 0, &[]), frame(PING, ACK, 0, &[1; 8])].concat());
        assert_eq!((held.answered, held.data, bytes.len()), (1, 0, 12));
        bytes.extend_from_slice(&rest[12..]);
        assert!(answers(&mut bytes, &mut held).is_empty());
        assert_eq!((held.data, bytes.len()), (10, 0));
    }
}
