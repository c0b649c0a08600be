//! A measurement to one peer, on both ways at once: the overlay and the link.

use std::net::IpAddr;
use std::time::Duration;

use rap_link::{Answer, Lane};
use rap_mesh::Mesh;
use rap_runtime::Fault;
use rap_types::{NodeId, Reason};
use rap_wire::v1::{PingCommand, PingOutcome, ProbeSample};
use tokio::time::{Instant, sleep_until, timeout};

use crate::plane::Plane;
use crate::stats::{link_state, nanos};

/// Pings. Samples that could not be sent before [`WHOLE`] has passed are left out.
pub(crate) async fn ping(plane: &Plane, command: &PingCommand) -> Result<PingOutcome, Fault> {
    let invalid = |what: &str| Fault::new(Reason::RequestInvalid, what);
    let node = NodeId::from_slice(&command.node_id).map_err(|_| invalid("node_id: 16 bytes"))?;
    if !(1..=COUNT).contains(&command.count) {
        return Err(invalid("count: 1 to 20"));
    }
    if command.interval_ms > INTERVAL_MS {
        return Err(invalid("interval_ms: at most 8000"));
    }
    let facts = plane.facts();
    let unknown = || Fault::new(Reason::LinkPeerUnknown, format!("no peer {node} in the table"));
    let peer = facts.peer(node).ok_or_else(unknown)?;
    let mesh = plane.mesh().borrow().clone();
    let samples = Samples {
        count: command.count,
        interval: Duration::from_millis(command.interval_ms.into()),
        end: Instant::now() + WHOLE,
    };
    let overlay = peer.address.map(|address| Way::Tunnel(plane, address));
    let link = mesh.as_ref().map(|mesh| Way::Link(mesh, node));
    let (overlay, link) = tokio::join!(samples.take(overlay), samples.take(link));
    let links = mesh.map(|mesh| mesh.links()).unwrap_or_default();
    let tunnels = plane.device().await.map(|device| device.stats()).unwrap_or_default();
    let tunnel = tunnels.into_iter().find(|tunnel| Some(tunnel.public_key) == peer.key);
    let (way, via) = plane.told_way(tunnel.and_then(|tunnel| tunnel.way));
    Ok(PingOutcome {
        overlay,
        link,
        overlay_address: peer.address.map_or_else(String::new, |address| address.to_string()),
        link_state: link_state(links.iter().find(|link| (link.peer, link.lane) == (node, Lane::A))),
        way,
        via,
    })
}

/// How a peer is reached.
enum Way<'a> {
    Tunnel(&'a Plane, IpAddr),
    Link(&'a Mesh, NodeId),
}

#[derive(Clone, Copy)]
struct Samples {
    count: u32,
    interval: Duration,
    end: Instant,
}

impl Samples {
    /// One after the other; each begins an interval after the one before, or when that one is done.
    async fn take(self, way: Option<Way<'_>>) -> Vec<ProbeSample> {
        let mut samples = Vec::new();
        let Some(way) = way else { return samples };
        let mut begin = Instant::now();
        for sequence in 1..=self.count {
            sleep_until(begin).await;
            begin = Instant::now() + self.interval;
            let rtt = timeout(SAMPLE, way.measure(sequence)).await.ok().flatten();
            samples.push(ProbeSample { sequence, rtt_ns: rtt.map_or(0, nanos) });
            if begin.max(Instant::now()) + SAMPLE > self.end {
                break;
            }
        }
        samples
    }
}

impl Way<'_> {
    /// One round trip; `None`: no answer.
    async fn measure(&self, sequence: u32) -> Option<Duration> {
        match self {
            Self::Tunnel(plane, address) => {
                let sequence = u16::try_from(sequence).unwrap_or(u16::MAX);
                match plane.device().await?.ping(*address, sequence, SAMPLE).await {
                    Ok(rtt) => Some(rtt),
                    Err(error) => {
                        tracing::info!(%address, reason = error.reason().row().code, %error, "no overlay answer");
                        None
                    }
                }
            }
            Self::Link(mesh, node) => match mesh.probe(*node, 1).await.as_deref() {
                Ok([Answer::RoundTrip(rtt)]) => Some(*rtt),
                Ok(_) | Err(_) => None,
            },
        }
    }
}

const COUNT: u32 = 20;
const INTERVAL_MS: u32 = 8000;
/// How long one sample waits for its answer.
const SAMPLE: Duration = Duration::from_secs(1);
/// Below the deadline of those who ask for a diagnosis.
const WHOLE: Duration = Duration::from_secs(9);
