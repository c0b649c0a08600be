//! What the agent is told of peers, drops and this process. Reads, changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_link::Lane;
use rap_mesh::LinkStatus;
use rap_runtime::Fault;
use rap_wire::v1;
use rap_wireguard::{Finding, PeerStats};

use crate::plane::Plane;
use crate::table::PeerFacts;

/// Statistics of this moment, of at most [`PAGE`] peers above the id `after`.
pub(crate) async fn stats(plane: &Plane, after: &[u8]) -> v1::Stats {
    let facts = plane.facts();
    let (page, next) = page(&facts.peers, after);
    let mesh = plane.mesh().borrow().clone();
    let links = mesh.iter().flat_map(rap_mesh::Mesh::links);
    let links: BTreeMap<_, _> = links.map(|link| ((link.peer, link.lane), link)).collect();
    let (mut tunnels, mut dropped, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(device) = plane.device().await {
        (tunnels, dropped, findings) = (device.stats(), device.counters(), device.findings().await);
    }
    let tunnels: BTreeMap<_, _> =
        tunnels.into_iter().map(|stats| (stats.public_key.to_bytes(), stats)).collect();
    let peers = page.iter().map(|peer| {
        let tunnel = peer.key.and_then(|key| tunnels.get(key.as_bytes()));
        let told = plane.told_way(tunnel.and_then(|tunnel| tunnel.way));
        let bulk = links.get(&(peer.node, Lane::C)).and_then(|link| link.congestion.clone());
        let stats = of_peer(peer, links.get(&(peer.node, Lane::A)), tunnel, told);
        v1::PeerStats { bulk_congestion: bulk.unwrap_or_default(), ..stats }
    });
    let wireguard = dropped.iter().map(|(reason, count)| (format!("wireguard.{}", reason.code()), *count));
    let rejected = mesh.iter().flat_map(rap_mesh::Mesh::rejected);
    let rejected = rejected.map(|(reason, count)| (reason.row().code.to_owned(), count));
    v1::Stats {
        table_version: facts.version,
        peers: peers.collect(),
        drops: wireguard.chain(rejected).map(|(reason, count)| v1::DropCounter { reason, count }).collect(),
        rss_bytes: rss(),
        next,
        host: findings.iter().map(told).chain(facts.unusable.iter().map(left_out)).take(FINDINGS).collect(),
    }
}

/// A peer of the table that is left out. The others are served.
fn left_out(fault: &Fault) -> v1::HostFinding {
    let (reason, text) = (fault.reason.row().code.to_owned(), fault.message.clone());
    v1::HostFinding { reason, text, degrades: false }
}

fn told(finding: &Finding) -> v1::HostFinding {
    let Finding { reason, text, degrades } = finding;
    v1::HostFinding { reason: reason.row().code.to_owned(), text: text.clone(), degrades: *degrades }
}

/// The peers of one answer, and where the next goes on: nowhere if these are the last. `peers` are in the order of
/// their ids.
fn page<'a>(peers: &'a [PeerFacts], after: &[u8]) -> (&'a [PeerFacts], Vec<u8>) {
    let first = peers.partition_point(|peer| !after.is_empty() && peer.node.as_bytes().as_slice() <= after);
    let rest = &peers[first..];
    match rest.get(..PAGE).filter(|page| page.len() < rest.len()) {
        Some(page) => (page, page.last().map(|peer| peer.node.to_vec()).unwrap_or_default()),
        None => (rest, Vec::new()),
    }
}

fn of_peer(
    peer: &PeerFacts,
    link: Option<&LinkStatus>,
    tunnel: Option<&PeerStats>,
    (way, via): (String, Vec<Vec<u8>>),
) -> v1::PeerStats {
    let age = tunnel.and_then(|tunnel| tunnel.handshake_age);
    let endpoint = tunnel.and_then(|tunnel| tunnel.endpoint);
    v1::PeerStats {
        node_id: peer.node.to_vec(),
        link_state: link_state(link),
        link_reason: link.and_then(|link| link.reason).map_or_else(String::new, |r| r.row().code.to_owned()),
        link_rtt_ns: link.and_then(|link| link.rtt).map_or(0, nanos),
        // 0 is taken: no handshake yet.
        handshake_age_ms: age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1)),
        rx_bytes: tunnel.map_or(0, |tunnel| tunnel.rx_bytes),
        tx_bytes: tunnel.map_or(0, |tunnel| tunnel.tx_bytes),
        wireguard_endpoint: endpoint.map_or_else(String::new, |endpoint| endpoint.to_string()),
        way,
        via,
        bulk_congestion: String::new(),
    }
}

/// A peer without any link is closed.
pub(crate) fn link_state(link: Option<&LinkStatus>) -> String {
    link.map_or("closed", |link| link.state.as_str()).to_owned()
}

/// Never 0, which means "none" on the socket.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Resident memory; 0 if the kernel does not say.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    resident(&status).unwrap_or(0)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// About 130 bytes each: far below one message.
const PAGE: usize = 4096;
/// Enough for a person; the first ones are the ones that matter.
const FINDINGS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use rap_types::NodeId;

    #[test]
    fn pages_follow_each_other_and_have_every_peer_once() {
        let id = |number: usize| NodeId::from_bytes((number as u128).to_be_bytes());
        let peer = |number| PeerFacts { node: id(number), key: None, address: None };
        for count in [0, 1, PAGE, PAGE + 1, 2 * PAGE] {
            let peers: Vec<_> = (1..=count).map(peer).collect();
            let (mut seen, mut after) = (Vec::new(), Vec::new());
            loop {
                let (page, next) = page(&peers, &after);
                seen.extend_from_slice(page);
                after = next;
                if after.is_empty() {
                    break;
                }
            }
            assert_eq!(seen, peers);
        }
        assert_eq!(page(&[peer(7)], id(7).as_bytes()), (&[][..], Vec::new()), "it went meanwhile");
    }

    #[test]
    fn resident_memory_is_read_from_the_status_file() {
        assert_eq!(resident("VmSize:\t 9 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident("VmSize:\t 9 kB\n"), None);
        assert!(rss() > 0);
    }
}
