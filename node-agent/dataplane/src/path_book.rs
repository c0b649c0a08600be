//! The paths of the mesh, as the device uses them.
//!
//! Owns the names that both sides have for a path and for a peer. Refuses to own paths and the choice between them:
//! the mesh installs and ends paths, the device decides what goes on which way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rap_mesh::{Mesh, PathEvent};
use rap_types::{NodeId, Reason};
use rap_wireguard::{PathEnd, PathPort, PathRefusal, PathSlot, PublicKey};

use crate::table::PeerFacts;

/// Paths that stand, and the peers of the table in force.
#[derive(Default)]
pub(crate) struct PathBook {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    mesh: Option<Mesh>,
    nodes: HashMap<[u8; 32], NodeId>,
    keys: HashMap<NodeId, PublicKey>,
    paths: BTreeMap<PathEnd, StandingPath>,
    ends: BTreeMap<rap_mesh::PathEnd, PathEnd>,
    last: u64,
}

struct StandingPath {
    end: rap_mesh::PathEnd,
    node: NodeId,
    slot: PathSlot,
    relays: Vec<NodeId>,
}

impl PathBook {
    pub(crate) fn use_mesh(&self, mesh: Mesh) {
        self.write().mesh = Some(mesh);
    }

    /// Takes the peers of a table.
    pub(crate) fn know(&self, peers: &[PeerFacts]) {
        let mut inner = self.write();
        let keys = peers.iter().filter_map(|peer| Some((peer.node, peer.key?)));
        inner.keys = keys.collect();
        inner.nodes = inner.keys.iter().map(|(node, key)| (key.to_bytes(), *node)).collect();
    }

    /// Relays of a path, from this node on. Of a path that the peer installed only the nearest one is known.
    pub(crate) fn relays(&self, end: PathEnd) -> Vec<NodeId> {
        self.read().paths.get(&end).map(|path| path.relays.clone()).unwrap_or_default()
    }

    /// Every path that stands, in the words of the device.
    pub(crate) fn standing(&self) -> Vec<rap_wireguard::PathEvent> {
        let inner = self.read();
        inner.paths.iter().filter_map(|(end, path)| inner.up(*end, path)).collect()
    }

    /// Takes what happened in the mesh; what the device is to be told. `None`: nothing.
    pub(crate) fn take(&self, event: PathEvent) -> Option<rap_wireguard::PathEvent> {
        match event {
            PathEvent::Up { end, peer, slot, relays } => {
                tracing::info!(%peer, ?slot, ?relays, "path up");
                let mut inner = self.write();
                inner.last += 1;
                let own = PathEnd(inner.last);
                let path = StandingPath { end, node: peer, slot: slot_of(slot), relays };
                let told = inner.up(own, &path);
                inner.ends.insert(end, own);
                inner.paths.insert(own, path);
                told
            }
            PathEvent::Down { end, reason } => {
                let mut inner = self.write();
                let end = inner.ends.remove(&end)?;
                let path = inner.paths.remove(&end)?;
                tracing::info!(peer = %path.node, slot = ?path.slot, relays = ?path.relays, %reason, "path down");
                let peer = *inner.keys.get(&path.node)?;
                Some(rap_wireguard::PathEvent::Down { end, peer })
            }
            PathEvent::Refused { peer, slot, relays, reason, .. } => {
                tracing::info!(%peer, ?slot, ?relays, %reason, "path refused");
                None
            }
            PathEvent::Received { end, datagram, .. } => {
                let end = *self.read().ends.get(&end)?;
                Some(rap_wireguard::PathEvent::Received { end, datagram: datagram.to_vec() })
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// `None`: the peer has no tunnel.
    fn up(&self, end: PathEnd, path: &StandingPath) -> Option<rap_wireguard::PathEvent> {
        let peer = *self.keys.get(&path.node)?;
        Some(rap_wireguard::PathEvent::Up { end, peer, slot: path.slot })
    }
}

impl PathPort for PathBook {
    fn want(&self, peer: &PublicKey) {
        let (mesh, node) = {
            let inner = self.read();
            (inner.mesh.clone(), inner.nodes.get(peer.as_bytes()).copied())
        };
        if let Some((mesh, node)) = mesh.zip(node)
            && let Err(reason) = mesh.want_path(node)
        {
            tracing::debug!(%node, %reason, "no path can be asked for");
        }
    }

    fn send(&self, end: PathEnd, datagrams: &[&[u8]]) -> Result<(), PathRefusal> {
        let inner = self.read();
        let (Some(path), Some(mesh)) = (inner.paths.get(&end), &inner.mesh) else {
            return Err(PathRefusal::Gone);
        };
        mesh.send_group_on_path(path.end, datagrams).map_err(|reason| match reason {
            Reason::LinkQueueFull => PathRefusal::Full,
            _ => PathRefusal::Gone,
        })
    }
}

fn slot_of(slot: rap_mesh::PathSlot) -> PathSlot {
    match slot {
        rap_mesh::PathSlot::Primary => PathSlot::Primary,
        rap_mesh::PathSlot::Backup => PathSlot::Backup,
        rap_mesh::PathSlot::Answering => PathSlot::Answering,
    }
}
