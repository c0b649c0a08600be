//! Two nodes in this process, and a path between them through each of two relays.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use rap_mesh::{Dial, MeshConfig, PathEnd, PathEvent, PathSlot, Peer, Peers};
use rap_runtime::Clock;
use rap_types::{Mono, NodeId};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use super::support::members::{Member, plan, terms};
use super::support::{Authority, HOME, node};

pub(super) const A: u8 = 1;
pub(super) const B: u8 = 2;
/// The primary relay and the other one.
pub(super) const RELAYS: [u8; 2] = [101, 102];
const ALL: [u8; 4] = [A, B, RELAYS[0], RELAYS[1]];

/// Where the tasks of each node run; `None`: here.
#[derive(Default)]
pub(super) struct Places {
    pub(super) a: Option<Handle>,
    pub(super) b: Option<Handle>,
}

/// Two nodes and their paths.
pub(super) struct Scene {
    pub(super) a: Member,
    pub(super) b: Member,
    pub(super) primary: PathEnd,
    pub(super) backup: PathEnd,
}

impl Scene {
    /// Links both nodes with the relays and installs the paths.
    pub(super) async fn join(authority: &Authority, relays: [SocketAddr; 2]) -> Self {
        Self::join_at(authority, relays, &Places::default()).await
    }

    /// As `join`, each node in its place.
    pub(super) async fn join_at(authority: &Authority, relays: [SocketAddr; 2], places: &Places) -> Self {
        let start = |number, place: &Option<Handle>| {
            let _there = place.as_ref().map(Handle::enter);
            let end = Member::start(authority, MeshConfig::new(node(number), HOME, at(Ipv4Addr::LOCALHOST)));
            apply(&end, authority, &[(node(RELAYS[0]), Some(relays[0])), (node(RELAYS[1]), Some(relays[1]))]);
            end
        };
        let (mut a, mut b) = (start(A, &places.a), start(B, &places.b));
        b.mesh().set_paths(terms(&ALL, false), vec![]);
        for end in [&a, &b] {
            super::support::eventually("linked", || {
                RELAYS.iter().all(|relay| end.node.is_linked(node(*relay)))
            })
            .await;
        }
        a.mesh().set_paths(terms(&ALL, false), plan(B, &[RELAYS[0]], Some(&[RELAYS[1]])));
        // The plan has this destination.
        let _planned = a.mesh().want_path(node(B));
        let (mut primary, mut backup) = (None, None);
        let ends = loop {
            let up = |event: &PathEvent| match event {
                PathEvent::Up { end, slot, .. } => Some((*end, *slot)),
                _ => None,
            };
            match a.until(up).await {
                (end, PathSlot::Primary) => primary = Some(end),
                (end, PathSlot::Backup) => backup = Some(end),
                (_, PathSlot::Answering) => {}
            }
            if let Some(ends) = primary.zip(backup) {
                break ends;
            }
        };
        b.up(PathSlot::Answering).await;
        b.up(PathSlot::Answering).await;
        Self { a, b, primary: ends.0, backup: ends.1 }
    }

    /// Milliseconds from `cut`, which ends the primary relay, until the first datagram that came over the other one.
    ///
    /// # Errors
    /// None came.
    pub(super) async fn outage(&mut self, cut: impl FnOnce()) -> Result<f64> {
        let (clock, mut cut, mut cut_at, mut switched) = (Clock::new(), Some(cut), None, None);
        let now = || clock.now().mono;
        let steady = now().plus(STEADY + Duration::from_millis(rand::random_range(0..400)));
        let end = now().plus(GIVEN_UP);
        let mut current = self.primary;
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while now() < end {
            let mesh = self.a.node.mesh.clone();
            let send = |path| {
                // While a path is dead nothing is taken.
                let _ = mesh.send_on_path(path, &now().0.to_be_bytes());
            };
            tokio::select! {
                biased;
                Some(event) = self.b.events.recv() => {
                    let PathEvent::Received { datagram, .. } = event else { continue };
                    let sent = datagram.first_chunk().map(|sent| Mono(u64::from_be_bytes(*sent)));
                    if let (Some(cut_at), Some(switched)) = (cut_at, switched) && sent >= Some(switched) {
                        return Ok(now().since(cut_at).as_secs_f64() * 1e3);
                    }
                }
                Some(event) = self.a.events.recv() => {
                    if matches!(event, PathEvent::Down { end, .. } if end == current) {
                        if cut_at.is_none() {
                            bail!("the path ended before the cut");
                        }
                        (current, switched) = (self.backup, Some(now()));
                        send(current);
                    }
                }
                _ = tick.tick() => {
                    if now() >= steady && let Some(cut) = cut.take() {
                        cut_at = Some(now());
                        cut();
                    }
                    send(current);
                }
            }
        }
        bail!("nothing came over the other relay within {GIVEN_UP:?}")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Others may have the same ids.
        [&self.a, &self.b].iter().for_each(|end| end.node.tasks.token().cancel());
    }
}

/// A relay in this process.
pub(super) fn relay(authority: &Authority, number: u8, address: Ipv4Addr) -> Member {
    let relay = Member::start(authority, MeshConfig::new(node(number), HOME, at(address)));
    apply(&relay, authority, &[(node(A), None), (node(B), None)]);
    relay.mesh().set_paths(terms(&ALL, true), vec![]);
    relay
}

fn at(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), 0)
}

/// The peers of a node; those with an address are dialled.
pub(super) fn apply(member: &Member, authority: &Authority, peers: &[(NodeId, Option<SocketAddr>)]) {
    let peer = |endpoint: Option<SocketAddr>| Peer {
        endpoints: endpoint.into_iter().collect(),
        deadline: Mono(u64::MAX),
        dial: if endpoint.is_some() { Dial::AtOnce } else { Dial::OnDemand },
    };
    let peers: BTreeMap<_, _> = peers.iter().map(|(id, endpoint)| (*id, peer(*endpoint))).collect();
    let trust = authority.trust(&[]);
    member.mesh().apply(Peers { peers, trust, newest_head: vec![], probe_interval: None, former: None });
}

/// Data passes before the cut.
const STEADY: Duration = Duration::from_millis(600);
const PERIOD: Duration = Duration::from_millis(5);
const GIVEN_UP: Duration = Duration::from_secs(15);
