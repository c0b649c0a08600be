//! One connection to a data plane: framed messages over a unix socket whose other end is our own user.
//!
//! Owns the hello and matching answers to requests. Refuses to retry.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use rap_node::Input;
use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1::{agent_message, dataplane_message};
use rap_wire::{FrameDecoder, encode_frame, v1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use zeroize::{Zeroize as _, Zeroizing};

use super::events::DataplaneEvent;
use crate::supervise::Served;

/// What comes back for a request.
pub(super) type Answer = Result<dataplane_message::Body, Fault>;

/// A connection after its hello.
pub(super) struct Session {
    stream: UnixStream,
    /// The process at the other end.
    pub(super) served: Served,
    /// The protocol that both speak.
    pub(super) protocol: u32,
    decoder: FrameDecoder,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    next_id: u64,
}

impl Session {
    /// Connects, checks who is at the other end and agrees on a protocol.
    pub(super) async fn open(
        socket: &Path,
        membership: &str,
        timeout: Duration,
    ) -> Result<(Self, v1::DataplaneHelloAnswer), Fault> {
        let stream = UnixStream::connect(socket).await.map_err(unavailable)?;
        let served = check_peer(&stream)?;
        let (decoder, waiting) = (FrameDecoder::default(), BTreeMap::new());
        let mut session = Self { stream, served, protocol: PROTOCOL_MIN, decoder, waiting, next_id: 1 };
        let hello = v1::DataplaneHello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            membership: membership.to_owned(),
        };
        let exchange = async {
            let mut answer = session.request(agent_message::Body::Hello(hello)).await?;
            loop {
                if let Ok(answer) = answer.try_recv() {
                    break answer;
                }
                session.receive().await?;
            }
        };
        let answer = tokio::time::timeout(timeout, exchange).await;
        match answer.map_err(|_| Fault::new(Reason::DataplaneUnavailable, "no hello in time"))?? {
            dataplane_message::Body::Hello(hello)
                if (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&hello.protocol) =>
            {
                session.protocol = hello.protocol;
                Ok((session, hello))
            }
            _ => Err(Fault::new(Reason::DataplaneVersion, "the data plane speaks another protocol")),
        }
    }

    /// Sends a request; the receiver gets its answer once [`Self::receive`] has read it.
    pub(super) async fn request(
        &mut self,
        body: agent_message::Body,
    ) -> Result<oneshot::Receiver<Answer>, Fault> {
        if self.waiting.len() >= WAITING_CAP {
            self.waiting.retain(|_, waiting| !waiting.is_closed());
        }
        if self.waiting.len() >= WAITING_CAP {
            return Err(Fault::new(Reason::DataplaneUnavailable, "the data plane does not answer"));
        }
        let id = self.next_id;
        self.next_id += 1;
        let mut message = v1::AgentMessage { id, body: Some(body) };
        let frame = encode_frame(&message).map(Zeroizing::new);
        message.body.as_mut().and_then(table_of).into_iter().for_each(wipe);
        let frame = frame.map_err(Fault::of(Reason::DataplaneTableTooLarge))?;
        let written = tokio::time::timeout(WRITE_DEADLINE, self.stream.write_all(&frame)).await;
        written
            .map_err(|_| Fault::new(Reason::DataplaneUnavailable, "the data plane does not read"))?
            .map_err(unavailable)?;
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(id, sender);
        Ok(receiver)
    }

    /// Waits for bytes and hands out what is complete: answers to their requests, events to the caller.
    /// May be cancelled at any await without losing a byte.
    pub(super) async fn receive(&mut self) -> Result<Vec<DataplaneEvent>, Fault> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).await.map_err(unavailable)?;
        if count == 0 {
            return Err(Fault::new(Reason::DataplaneUnavailable, "the data plane closed the socket"));
        }
        self.decoder.push(&buffer[..count]);
        let mut events = Vec::new();
        loop {
            let message = self.decoder.poll::<v1::DataplaneMessage>();
            let message = message.map_err(|error| {
                Fault::new(Reason::DataplaneVersion, format!("from the data plane: {error}"))
            })?;
            let Some(v1::DataplaneMessage { id, body: Some(body) }) = message else {
                if message.is_none() {
                    return Ok(events);
                }
                continue;
            };
            match (self.waiting.remove(&id), body) {
                (Some(waiting), dataplane_message::Body::Refusal(refusal)) => {
                    let reason = Reason::from_code(&refusal.reason).unwrap_or(Reason::DataplaneUnavailable);
                    // Whoever asked may have stopped waiting.
                    let _ = waiting.send(Err(Fault::new(reason, refusal.message)));
                }
                (Some(waiting), body) => drop(waiting.send(Ok(body))),
                (None, dataplane_message::Body::LinkEvent(event)) => {
                    events.push(DataplaneEvent::Told(Input::LinkChanged(Box::new(event))));
                }
                (None, dataplane_message::Body::PeerHead(head)) => {
                    events.push(DataplaneEvent::Told(Input::PeerHeadHeard(Box::new(head))));
                }
                (None, dataplane_message::Body::PathRefused(refused)) => {
                    events.push(DataplaneEvent::Told(Input::PathRefused(Box::new(refused))));
                }
                (None, dataplane_message::Body::RelayWords(words)) => {
                    events.push(DataplaneEvent::Told(Input::RelaySaid(Box::new(words))));
                }
                (None, _) => {}
            }
        }
    }
}

/// The table in a message; it carries keys.
fn table_of(body: &mut agent_message::Body) -> Option<&mut v1::ForwardingTable> {
    match body {
        agent_message::Body::Table(table) => Some(table),
        agent_message::Body::TablePart(part) => part.table.as_mut(),
        agent_message::Body::TableDelta(delta) => delta.header.as_mut(),
        agent_message::Body::Hello(_)
        | agent_message::Body::Stats(_)
        | agent_message::Body::Ping(_)
        | agent_message::Body::Stop(_)
        | agent_message::Body::Revoke(_) => None,
    }
}

/// The keys of this node leave no second copy behind.
fn wipe(table: &mut v1::ForwardingTable) {
    table.wireguard_private_key.zeroize();
    if let Some(identity) = &mut table.identity {
        identity.private_key.zeroize();
    }
}

/// The data plane runs as our own user, or as root.
fn check_peer(stream: &UnixStream) -> Result<Served, Fault> {
    let served = Served::by(stream).map_err(unavailable)?;
    if served.is_ours() {
        return Ok(served);
    }
    Err(Fault::new(Reason::DataplanePeer, format!("the socket belongs to user {}", served.uid)))
}

fn unavailable(error: io::Error) -> Fault {
    Fault::new(Reason::DataplaneUnavailable, error.to_string())
}

/// Kept for data planes of the release before.
const PROTOCOL_MIN: u32 = 1;
const PROTOCOL_MAX: u32 = 2;
const WAITING_CAP: usize = 64;
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
