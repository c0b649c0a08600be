//! A data plane behind its socket: applies every table, answers pings, remembers what it got. It speaks protocol 1,
//! as one of the release before, unless it is told otherwise.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rap_wire::v1::{agent_message, dataplane_message};
use rap_wire::{FrameDecoder, encode_frame, v1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// A running data plane; it ends when this is dropped.
pub struct Plane {
    /// The newest table.
    pub table: watch::Receiver<Option<v1::ForwardingTable>>,
    /// Hellos so far.
    pub hellos: Arc<Mutex<Vec<v1::DataplaneHello>>>,
    /// What came about tables and revocations, in order: `whole`, `part`, `change`, `revoke`.
    pub kinds: Arc<Mutex<Vec<&'static str>>>,
    /// Nodes that it was told to revoke.
    pub revoked: watch::Receiver<Vec<Vec<u8>>>,
    newest: watch::Sender<Option<v1::ForwardingTable>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plane {
    pub fn start(run_dir: &Path) -> Self {
        Self::of(run_dir, "default")
    }

    /// The data plane of another membership.
    pub fn of(run_dir: &Path, membership: &str) -> Self {
        Self::speaking(run_dir, membership, 1, &[])
    }

    /// One that speaks up to `protocol` and refuses as many messages about tables with these codes first.
    #[allow(clippy::disallowed_methods)] // A test's task ends with its guard.
    pub fn speaking(run_dir: &Path, membership: &str, protocol: u32, refusals: &[&'static str]) -> Self {
        let folder = run_dir.join(membership);
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("dataplane.sock")).unwrap();
        let (newest, table) = watch::channel(None);
        let (revocations, revoked) = watch::channel(Vec::new());
        let lost = newest.clone();
        let state = State {
            protocol,
            newest,
            revocations,
            parts: Vec::new(),
            hellos: Arc::default(),
            kinds: Arc::default(),
            refusals: refusals.iter().copied().collect(),
        };
        let (hellos, kinds) = (state.hellos.clone(), state.kinds.clone());
        let task = tokio::spawn(async move {
            let mut state = state;
            while let Ok((stream, _)) = listener.accept().await {
                state.serve(stream).await;
            }
        });
        Self { table, hellos, kinds, revoked, newest: lost, task }
    }

    /// Answers each hello and closes the connection; how many so far.
    #[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
    pub fn that_hangs_up(run_dir: &Path, membership: &str) -> watch::Receiver<u32> {
        let folder = run_dir.join(membership);
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("dataplane.sock")).unwrap();
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut decoder, mut buffer) = (FrameDecoder::default(), vec![0; 4096]);
                let read = stream.read(&mut buffer).await.unwrap_or(0);
                decoder.push(&buffer[..read]);
                let Ok(Some(message)) = decoder.poll::<v1::AgentMessage>() else { continue };
                let hello = v1::DataplaneHelloAnswer { protocol: 2, pid: 1, ..Default::default() };
                let body = Some(dataplane_message::Body::Hello(hello));
                let answer = v1::DataplaneMessage { id: message.id, body };
                if stream.write_all(&encode_frame(&answer).unwrap()).await.is_ok() {
                    count.send_modify(|count| *count += 1);
                }
            }
        });
        counted
    }

    /// As if another table than the agent thinks were in force.
    pub fn lose_table(&self) {
        self.newest.send_modify(|table| table.as_mut().unwrap().version -= 1);
    }
}

struct State {
    protocol: u32,
    newest: watch::Sender<Option<v1::ForwardingTable>>,
    revocations: watch::Sender<Vec<Vec<u8>>>,
    parts: Vec<v1::TablePart>,
    hellos: Arc<Mutex<Vec<v1::DataplaneHello>>>,
    kinds: Arc<Mutex<Vec<&'static str>>>,
    refusals: VecDeque<&'static str>,
}

impl State {
    async fn serve(&mut self, mut stream: UnixStream) {
        let (mut decoder, mut buffer) = (FrameDecoder::default(), vec![0; 4096]);
        loop {
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return;
            }
            decoder.push(&buffer[..count]);
            while let Some(message) = decoder.poll::<v1::AgentMessage>().unwrap() {
                let body = Some(self.answer(message.body.unwrap()));
                let answer = v1::DataplaneMessage { id: message.id, body };
                let applied = matches!(answer.body, Some(dataplane_message::Body::TableAck(_)));
                let events = if applied { self.events() } else { Vec::new() };
                let unasked = events.into_iter().map(|body| v1::DataplaneMessage { id: 0, body: Some(body) });
                for message in std::iter::once(answer).chain(unasked) {
                    if stream.write_all(&encode_frame(&message).unwrap()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn answer(&mut self, asked: agent_message::Body) -> dataplane_message::Body {
        use agent_message::Body as Asked;
        use dataplane_message::Body as Answered;
        match asked {
            Asked::Hello(hello) => {
                let protocol = hello.protocol_max.min(self.protocol);
                self.hellos.lock().unwrap().push(hello);
                Answered::Hello(v1::DataplaneHelloAnswer {
                    protocol,
                    instance_id: vec![7; 16],
                    pid: std::process::id(),
                    version: "fake".into(),
                    table_version: self.version(),
                    tun: false,
                    interface: String::new(),
                    ..Default::default()
                })
            }
            Asked::Table(table) => self.table("whole", |_| table),
            Asked::TablePart(_) | Asked::TableDelta(_) | Asked::Revoke(_) if self.protocol < 2 => {
                refusal("request.invalid")
            }
            Asked::TablePart(part) => {
                let (version, number, count) = (part.version, part.part, part.count);
                self.parts.push(part);
                if number + 1 < count {
                    self.kinds.lock().unwrap().push("part");
                    return Answered::TablePartAck(v1::TablePartAck { version, part: number });
                }
                let parts = std::mem::take(&mut self.parts);
                self.table("part", |_| whole(version, parts))
            }
            Asked::TableDelta(delta) if delta.base_version != self.version() => {
                refusal("dataplane.table_base")
            }
            Asked::TableDelta(delta) => self.table("change", |table| changed(table, delta)),
            Asked::Revoke(command) => {
                self.kinds.lock().unwrap().push("revoke");
                let nodes = command.revoked.into_iter().map(|revoked| revoked.node_id);
                self.revocations.send_modify(|all| all.extend(nodes));
                Answered::RevokeAck(v1::RevokeAck {})
            }
            Asked::Stats(_) => Answered::Stats(stats(&self.newest)),
            Asked::Ping(ping) => {
                let samples: Vec<v1::ProbeSample> = (1..=ping.count)
                    .map(|sequence| v1::ProbeSample { sequence, rtt_ns: 1_500_000 })
                    .collect();
                Answered::Ping(v1::PingOutcome {
                    overlay: samples.clone(),
                    link: samples,
                    overlay_address: "100.96.0.11".into(),
                    link_state: "established".into(),
                    ..Default::default()
                })
            }
            Asked::Stop(_) => Answered::StopAck(v1::StopAck {}),
        }
    }

    /// A link with every peer, and the head that the agent published as that of the first.
    fn events(&self) -> Vec<dataplane_message::Body> {
        let table = self.newest.borrow().clone().unwrap_or_default();
        let link = |peer: &v1::TablePeer| {
            dataplane_message::Body::LinkEvent(v1::LinkEvent {
                node_id: peer.node_id.clone(),
                state: "established".into(),
                reason: String::new(),
                lane: v1::LinkLane::A as i32,
                measured: Some(v1::LinkMeasurement { rtt_median_us: 850, loss_ppm: 0, samples: 15 }),
            })
        };
        let head = table.peers.first().map(|peer| {
            dataplane_message::Body::PeerHead(v1::PeerHead {
                node_id: peer.node_id.clone(),
                head: table.newest_head.clone(),
            })
        });
        table.peers.iter().map(link).chain(head).collect()
    }

    fn version(&self) -> u64 {
        self.newest.borrow().as_ref().map_or(0, |table| table.version)
    }

    fn table(
        &mut self,
        kind: &'static str,
        next: impl FnOnce(v1::ForwardingTable) -> v1::ForwardingTable,
    ) -> dataplane_message::Body {
        self.kinds.lock().unwrap().push(kind);
        if let Some(code) = self.refusals.pop_front() {
            return refusal(code);
        }
        let before = self.newest.borrow().clone().unwrap_or_default();
        let (current, table) = (before.version, next(before));
        if table.version <= current {
            return refusal("dataplane.table");
        }
        let ack = v1::TableAck { version: table.version };
        self.newest.send_replace(Some(table));
        dataplane_message::Body::TableAck(ack)
    }
}

fn whole(version: u64, parts: Vec<v1::TablePart>) -> v1::ForwardingTable {
    let mut tables = parts.into_iter().filter_map(|part| part.table);
    let first = tables.next().unwrap_or_default();
    let joined = tables.fold(first, |mut whole, mut next| {
        whole.peers.append(&mut next.peers);
        whole.revoked.append(&mut next.revoked);
        whole
    });
    v1::ForwardingTable { version, ..joined }
}

fn changed(before: v1::ForwardingTable, delta: v1::TableDelta) -> v1::ForwardingTable {
    let (mut peers, mut revoked) = (before.peers.clone(), before.revoked.clone());
    let fresh = |node: &Vec<u8>| delta.peers.iter().any(|peer| peer.node_id == *node);
    peers.retain(|peer| !delta.removed.contains(&peer.node_id) && !fresh(&peer.node_id));
    peers.extend(delta.peers.clone());
    peers.sort_by(|a, b| a.node_id.cmp(&b.node_id));
    revoked.extend(delta.revoked);
    let header = delta.header.unwrap_or(before);
    v1::ForwardingTable { version: delta.version, peers, revoked, ..header }
}

fn refusal(code: &str) -> dataplane_message::Body {
    let (reason, message) = (code.to_owned(), "as the test wants it".to_owned());
    dataplane_message::Body::Refusal(v1::DataplaneRefusal { reason, message })
}

fn stats(newest: &watch::Sender<Option<v1::ForwardingTable>>) -> v1::Stats {
    let table = newest.borrow();
    let peers = table.iter().flat_map(|table| &table.peers).map(|peer| v1::PeerStats {
        node_id: peer.node_id.clone(),
        link_state: "established".into(),
        link_rtt_ns: 900_000,
        ..Default::default()
    });
    v1::Stats {
        table_version: table.as_ref().map_or(0, |table| table.version),
        peers: peers.collect(),
        ..Default::default()
    }
}
