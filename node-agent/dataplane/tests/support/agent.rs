//! The agent's end of the socket, one question at a time.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rap_wire::v1::agent_message::Body as Ask;
use rap_wire::v1::dataplane_message::Body as Answer;
use rap_wire::v1::*;
use rap_wire::{FrameDecoder, encode_frame};

use super::PATIENCE;

pub struct Agent {
    pub stream: UnixStream,
    decoder: FrameDecoder,
    pub hello: DataplaneHelloAnswer,
    /// What came unasked.
    pub events: Vec<LinkEvent>,
    pub heads: Vec<PeerHead>,
    pub refused: Vec<PathRefused>,
    pub words: Vec<RelayWords>,
    next_id: u64,
}

impl Agent {
    /// Connects without a word.
    pub fn silent(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let hello = DataplaneHelloAnswer::default();
        Self {
            stream,
            decoder: FrameDecoder::default(),
            hello,
            events: Vec::new(),
            heads: Vec::new(),
            refused: Vec::new(),
            words: Vec::new(),
            next_id: 1,
        }
    }

    /// Connects and says hello; the refusal if it is refused.
    pub fn greet(socket: &Path, hello: DataplaneHello) -> Result<Self, DataplaneRefusal> {
        let mut agent = Self::silent(socket);
        match agent.ask(Ask::Hello(hello)) {
            Answer::Hello(answer) => agent.hello = answer,
            Answer::Refusal(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        }
        Ok(agent)
    }

    /// Becomes the controller; speaks up to this protocol.
    pub fn control(socket: &Path, membership: &str, protocol: u32) -> Self {
        let agent = Self::greet(socket, hello(1, protocol, membership));
        let agent = agent.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!(agent.hello.protocol, protocol);
        agent
    }

    pub fn send(&mut self, body: Ask) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let frame = encode_frame(&AgentMessage { id, body: Some(body) }).unwrap();
        self.stream.write_all(&frame).unwrap();
        id
    }

    /// The next message, event or answer; `None` when the other end closed.
    pub fn receive(&mut self) -> Option<DataplaneMessage> {
        loop {
            if let Some(message) = self.decoder.poll().unwrap() {
                return Some(message);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The answer to `id`; events are kept aside.
    pub fn answer_to(&mut self, id: u64) -> Answer {
        loop {
            let message = self.receive().expect("the connection ended");
            match message.body.expect("a body") {
                Answer::PeerHead(head) => {
                    assert_eq!(message.id, 0);
                    self.heads.push(head);
                }
                Answer::LinkEvent(event) => {
                    assert_eq!(message.id, 0);
                    self.events.push(event);
                }
                Answer::PathRefused(refused) => {
                    assert_eq!(message.id, 0);
                    self.refused.push(refused);
                }
                Answer::RelayWords(words) => {
                    assert_eq!(message.id, 0);
                    self.words.push(words);
                }
                // What ends the connection answers no message in particular.
                Answer::Refusal(refusal) if message.id == 0 => return Answer::Refusal(refusal),
                answer => {
                    assert_eq!(message.id, id);
                    return answer;
                }
            }
        }
    }

    pub fn ask(&mut self, body: Ask) -> Answer {
        let id = self.send(body);
        self.answer_to(id)
    }

    /// Expects the table to be taken.
    pub fn apply(&mut self, table: ForwardingTable) {
        let version = table.version;
        match self.ask(Ask::Table(table)) {
            Answer::TableAck(ack) => assert_eq!(ack.version, version),
            other => panic!("{other:?}"),
        }
    }

    /// Expects a change to be taken.
    pub fn change(&mut self, delta: TableDelta) {
        let version = delta.version;
        match self.ask(Ask::TableDelta(delta)) {
            Answer::TableAck(ack) => assert_eq!(ack.version, version),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a table in parts of so many peers; the answer to the last, or the first refusal.
    pub fn in_parts(&mut self, mut table: ForwardingTable, peers: usize) -> Answer {
        let version = table.version;
        let chunks: Vec<Vec<TablePeer>> =
            std::mem::take(&mut table.peers).chunks(peers).map(<[_]>::to_vec).collect();
        let count = u32::try_from(chunks.len()).unwrap();
        for (part, peers) in (0..).zip(chunks) {
            let table = ForwardingTable { peers, ..std::mem::take(&mut table) };
            let sent = TablePart { version, part, count, table: Some(table) };
            match self.ask(Ask::TablePart(sent)) {
                Answer::TablePartAck(ack) => assert_eq!((ack.version, ack.part), (version, part)),
                answer => return answer,
            }
        }
        panic!("no last part")
    }

    /// Expects revocations to be taken.
    pub fn revoke(&mut self, node: Vec<u8>, key_generation: u64) {
        let revoked = vec![TableRevoked { node_id: node, key_generation }];
        assert_eq!(self.ask(Ask::Revoke(RevokeCommand { revoked })), Answer::RevokeAck(RevokeAck {}));
    }

    /// Expects a refusal; its code.
    pub fn refused(&mut self, body: Ask) -> String {
        match self.ask(body) {
            Answer::Refusal(refusal) => refusal.reason,
            other => panic!("{other:?}"),
        }
    }

    pub fn stats(&mut self) -> Stats {
        let mut all: Vec<PeerStats> = Vec::new();
        let mut after = Vec::new();
        loop {
            let Answer::Stats(mut stats) = self.ask(Ask::Stats(StatsRequest { after })) else {
                panic!("stats")
            };
            all.append(&mut stats.peers);
            after = std::mem::take(&mut stats.next);
            if after.is_empty() {
                return Stats { peers: all, ..stats };
            }
        }
    }

    pub fn stats_of(&mut self, node: &[u8]) -> Option<PeerStats> {
        self.stats().peers.into_iter().find(|peer| peer.node_id == node)
    }

    pub fn ping(&mut self, node: &[u8], count: u32) -> PingOutcome {
        let command = PingCommand { node_id: node.to_vec(), count, interval_ms: 10 };
        match self.ask(Ask::Ping(command)) {
            Answer::Ping(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Reads to the end; the last refusal on the way.
    pub fn dropped_with(mut self) -> Option<String> {
        let mut reason = None;
        while let Some(message) = self.receive() {
            if let Some(Answer::Refusal(refusal)) = message.body {
                reason = Some(refusal.reason);
            }
        }
        reason
    }
}

pub fn hello(protocol_min: u32, protocol_max: u32, membership: &str) -> DataplaneHello {
    let (agent_version, membership) = ("test".to_owned(), membership.to_owned());
    DataplaneHello { protocol_min, protocol_max, agent_version, membership }
}

/// Samples that were answered.
pub fn answered(samples: &[ProbeSample]) -> usize {
    samples.iter().filter(|sample| sample.rtt_ns > 0).count()
}
