//! Nodes with a stream to this replica, and how to reach their streams.
//!
//! Owns one entry per node: a newer stream of the same node ends the older one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rap_store::ContactFacts;
use rap_types::{ClusterId, Mono, NodeId, Reason};
use rap_wire::v1;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// What others ask of a node's stream.
#[derive(Debug)]
pub enum Command {
    /// Run a diagnostic and answer.
    Diagnose {
        /// What to run.
        request: v1::DiagnosticRequest,
        /// The other node it is about; must be in the node's snapshot.
        target: NodeId,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<v1::DiagnosticResult, Reason>>,
    },
}

/// A node was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Mono,
    /// What is known of it.
    pub known: ContactFacts,
}

/// All streams of this replica.
#[derive(Debug, Default)]
pub struct Sessions {
    streams: Mutex<BTreeMap<(ClusterId, NodeId), Stream>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    commands: mpsc::Sender<Command>,
    acknowledged: Arc<AtomicU64>,
    known: Option<ContactFacts>,
    end: CancellationToken,
}

/// A stream's own end of its entry; dropping it removes the entry.
#[derive(Debug)]
pub struct SessionEntry {
    sessions: Arc<Sessions>,
    key: (ClusterId, NodeId),
    number: u64,
    acknowledged: Arc<AtomicU64>,
    /// Fires when a newer stream of the same node took over.
    pub end: CancellationToken,
}

impl Sessions {
    /// Enters a stream; ends the node's older one.
    pub fn enter(
        self: &Arc<Self>,
        cluster: ClusterId,
        node: NodeId,
        end: CancellationToken,
    ) -> (SessionEntry, mpsc::Receiver<Command>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let stream =
            Stream { number, commands, acknowledged: acknowledged.clone(), known: None, end: end.clone() };
        if let Some(older) = self.lock().insert((cluster, node), stream) {
            older.end.cancel();
        }
        (SessionEntry { sessions: self.clone(), key: (cluster, node), number, acknowledged, end }, receiver)
    }

    /// The command queue of a node's stream.
    pub fn commands(&self, cluster: ClusterId, node: NodeId) -> Option<mpsc::Sender<Command>> {
        self.lock().get(&(cluster, node)).map(|stream| stream.commands.clone())
    }

    /// Connected nodes of a cluster and the version each acknowledged last.
    pub fn acknowledged(&self, cluster: ClusterId) -> BTreeMap<NodeId, u64> {
        let range = (cluster, NodeId::ZERO)..=(cluster, NodeId::from_bytes([0xff; 16]));
        let streams = self.lock();
        streams
            .range(range)
            .map(|((_, node), stream)| (*node, stream.acknowledged.load(Ordering::Relaxed)))
            .collect()
    }

    /// Version a connected node acknowledged last; `None` if it is not connected here.
    pub fn acknowledged_by(&self, cluster: ClusterId, node: NodeId) -> Option<u64> {
        self.lock().get(&(cluster, node)).map(|stream| stream.acknowledged.load(Ordering::Relaxed))
    }

    /// Says again what is known of connected nodes, as of now: they are there. A stream that says more
    /// meanwhile says it after this.
    pub fn present(
        &self,
        cluster: ClusterId,
        nodes: impl Iterator<Item = NodeId>,
        now: impl Fn() -> Mono,
        say: impl Fn(NodeId, Heard),
    ) {
        let streams = self.lock();
        for node in nodes {
            let stream = streams.get(&(cluster, node));
            if let Some(known) = stream.and_then(|stream| stream.known.clone()) {
                say(node, Heard { at: now(), known });
            }
        }
    }

    /// Ends a node's stream, if it has one.
    pub fn end(&self, cluster: ClusterId, node: NodeId) {
        if let Some(stream) = self.lock().get(&(cluster, node)) {
            stream.end.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(ClusterId, NodeId), Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionEntry {
    /// Records what the stream knows of its node, and says it, as of now.
    pub fn heard(&self, known: &ContactFacts, now: impl Fn() -> Mono, say: impl Fn(NodeId, Heard)) {
        let mut streams = self.sessions.lock();
        if let Some(stream) = streams.get_mut(&self.key).filter(|stream| stream.number == self.number) {
            stream.known = Some(known.clone());
        }
        say(self.key.1, Heard { at: now(), known: known.clone() });
    }

    /// Records the version the node acknowledged.
    pub fn acknowledge(&self, version: u64) {
        self.acknowledged.store(version, Ordering::Relaxed);
    }
}

impl Drop for SessionEntry {
    fn drop(&mut self) {
        let mut streams = self.sessions.lock();
        if streams.get(&self.key).is_some_and(|stream| stream.number == self.number) {
            streams.remove(&self.key);
        }
    }
}

const COMMANDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_stream_ends_the_older_and_outlives_its_entry() {
        let sessions = Arc::new(Sessions::default());
        let (cluster, node) = (ClusterId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let (older, _) = sessions.enter(cluster, node, CancellationToken::new());
        let (newer, _commands) = sessions.enter(cluster, node, CancellationToken::new());
        assert!(older.end.is_cancelled());
        assert!(!newer.end.is_cancelled());
        newer.acknowledge(7);
        drop(older);
        assert_eq!(sessions.acknowledged(cluster), BTreeMap::from([(node, 7)]));
        assert!(sessions.commands(cluster, node).is_some());
        drop(newer);
        assert!(sessions.commands(cluster, node).is_none());
    }
}
