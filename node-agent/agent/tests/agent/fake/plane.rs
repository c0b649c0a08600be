//! A data plane behind its socket: applies every table, answers pings, remembers what it got.

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
    #[allow(clippy::disallowed_methods)] // A test's task ends with its guard.
    pub fn of(run_dir: &Path, membership: &str) -> Self {
        let folder = run_dir.join(membership);
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("dataplane.sock")).unwrap();
        let (newest, table) = watch::channel(None);
        let hellos: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = hellos.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &newest, &seen).await;
            }
        });
        Self { table, hellos, task }
    }
}

async fn serve(
    mut stream: UnixStream,
    newest: &watch::Sender<Option<v1::ForwardingTable>>,
    hellos: &Mutex<Vec<v1::DataplaneHello>>,
) {
    let (mut decoder, mut buffer) = (FrameDecoder::default(), vec![0; 4096]);
    loop {
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return;
        }
        decoder.push(&buffer[..count]);
        while let Some(message) = decoder.poll::<v1::AgentMessage>().unwrap() {
            let version = newest.borrow().as_ref().map_or(0, |table| table.version);
            let body = match message.body.unwrap() {
                agent_message::Body::Hello(hello) => {
                    hellos.lock().unwrap().push(hello);
                    dataplane_message::Body::Hello(v1::DataplaneHelloAnswer {
                        protocol: 1,
                        instance_id: vec![7; 16],
                        pid: std::process::id(),
                        version: "fake".into(),
                        table_version: version,
                        tun: false,
                        interface: String::new(),
                    })
                }
                agent_message::Body::Table(table) if table.version > version => {
                    let ack = v1::TableAck { version: table.version };
                    newest.send_replace(Some(table));
                    dataplane_message::Body::TableAck(ack)
                }
                agent_message::Body::Table(_) => dataplane_message::Body::Refusal(v1::DataplaneRefusal {
                    reason: "dataplane.table".into(),
                    message: "not newer".into(),
                }),
                agent_message::Body::Stats(_) => dataplane_message::Body::Stats(stats(newest)),
                agent_message::Body::Ping(ping) => {
                    let samples: Vec<v1::ProbeSample> = (1..=ping.count)
                        .map(|sequence| v1::ProbeSample { sequence, rtt_ns: 1_500_000 })
                        .collect();
                    dataplane_message::Body::Ping(v1::PingOutcome {
                        overlay: samples.clone(),
                        link: samples,
                        overlay_address: "100.96.0.11".into(),
                        link_state: "established".into(),
                    })
                }
                agent_message::Body::Stop(_) => dataplane_message::Body::StopAck(v1::StopAck {}),
            };
            let answer = v1::DataplaneMessage { id: message.id, body: Some(body) };
            if stream.write_all(&encode_frame(&answer).unwrap()).await.is_err() {
                return;
            }
        }
    }
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
