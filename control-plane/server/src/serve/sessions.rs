//! Nodes with a stream to this replica, and how to reach their streams.
//!
//! Owns one entry per node: a newer stream of the same node ends the older one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rap_authority::Presence;
use rap_runtime::Clock;
use rap_store::{ContactFacts, HeardIdentity};
use rap_types::{ClusterId, Mono, NodeId, Reason};
use rap_wire::v1;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::serve::node_reports::NodeReports;

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
    /// Tell the node what is doubted about its identity.
    Notice(Option<Reason>),
}

/// A node was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Mono,
    /// What is known of it.
    pub known: ContactFacts,
    /// As whom it was heard and when; `None` if it said nothing itself.
    pub identity: Option<(Mono, HeardIdentity)>,
}

/// All streams of this replica.
#[derive(Debug, Default)]
pub struct Sessions {
    streams: Mutex<BTreeMap<(ClusterId, NodeId), Stream>>,
    /// When the last stream of a node ended that has none now.
    ended: Mutex<BTreeMap<(ClusterId, NodeId), Mono>>,
    next: AtomicU64,
    clock: Clock,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    commands: mpsc::Sender<Command>,
    acknowledged: Arc<AtomicU64>,
    known: Option<ContactFacts>,
    reports: NodeReports,
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
        let stream = Stream {
            number,
            commands,
            acknowledged: acknowledged.clone(),
            known: None,
            reports: NodeReports::default(),
            end: end.clone(),
        };
        if let Some(older) = self.lock().insert((cluster, node), stream) {
            older.end.cancel();
        }
        self.ended().remove(&(cluster, node));
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

    /// What the node reported on its stream to this replica; `None` without one.
    pub fn reports(&self, cluster: ClusterId, node: NodeId) -> Option<NodeReports> {
        self.lock().get(&(cluster, node)).map(|stream| stream.reports.clone())
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
                say(node, Heard { at: now(), known, identity: None });
            }
        }
    }

    /// What this replica itself knows of a node that was written to be silent for so long.
    pub fn presence(&self, cluster: ClusterId, node: NodeId, silence: Duration) -> Presence {
        if self.lock().contains_key(&(cluster, node)) {
            return Presence::Here;
        }
        let ended = self.ended().get(&(cluster, node)).copied();
        // Heard after its end here: by another replica.
        let heard_since = |at| silence + SAID_LATE < self.clock.now().mono.since(at);
        if ended.is_some_and(|at| !heard_since(at)) { Presence::Ended } else { Presence::Unseen }
    }

    /// Keeps of the streams of a cluster that ended only those of these nodes.
    pub fn keep_ended(&self, cluster: ClusterId, nodes: impl Iterator<Item = NodeId>) {
        let nodes: BTreeSet<NodeId> = nodes.collect();
        self.ended().retain(|(of, node), _| *of != cluster || nodes.contains(node));
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, BTreeMap<(ClusterId, NodeId), Mono>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every node with a stream to this replica.
    pub fn all(&self) -> Vec<(ClusterId, NodeId)> {
        self.lock().keys().copied().collect()
    }

    /// Tells a node what is doubted about its identity, if it has a stream here.
    pub fn notice(&self, cluster: ClusterId, node: NodeId, doubt: Option<Reason>) {
        if let Some(stream) = self.lock().get(&(cluster, node)) {
            // Whoever has so much to do is told by the next stream.
            let _full = stream.commands.try_send(Command::Notice(doubt));
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
    pub fn heard(
        &self,
        known: &ContactFacts,
        identity: Option<HeardIdentity>,
        now: impl Fn() -> Mono,
        say: impl Fn(NodeId, Heard),
    ) {
        let mut streams = self.sessions.lock();
        if let Some(stream) = streams.get_mut(&self.key).filter(|stream| stream.number == self.number) {
            stream.known = Some(known.clone());
        }
        let at = now();
        say(self.key.1, Heard { at, known: known.clone(), identity: identity.map(|heard| (at, heard)) });
    }

    /// Takes a report of the node in. Returns the end of its data plane, if it tells of one.
    pub fn reported(&self, report: &v1::NodeReport) -> Option<v1::DataplaneExit> {
        let mut streams = self.sessions.lock();
        let stream = streams.get_mut(&self.key).filter(|stream| stream.number == self.number)?;
        stream.reports.take_in(report).cloned()
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
            self.sessions.ended().insert(self.key, self.sessions.clock.now().mono);
        }
    }
}

const COMMANDS: usize = 4;

/// A contact of before its stream's end may seem this much later, because its statement ran late.
const SAID_LATE: Duration = Duration::from_secs(1);

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

    #[test]
    fn a_replica_knows_whose_stream_it_saw_end_until_another_one_hears_the_node() {
        let sessions = Arc::new(Sessions::default());
        let (cluster, node) = (ClusterId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let minute = Duration::from_secs(60);
        let of = |silence| sessions.presence(cluster, node, silence);
        assert_eq!(of(minute), Presence::Unseen);
        let (entry, _) = sessions.enter(cluster, node, CancellationToken::new());
        assert_eq!(of(minute), Presence::Here);
        drop(entry);
        assert_eq!(of(Duration::ZERO), Presence::Ended);
        assert_eq!(of(minute), Presence::Ended);
        sessions.keep_ended(ClusterId::from_bytes([7; 16]), std::iter::empty());
        sessions.keep_ended(cluster, [node].into_iter());
        assert_eq!(of(minute), Presence::Ended);
        // It ended a minute ago, and was written to be heard half a minute ago.
        let before = Mono(sessions.clock.now().mono.0 - 60_000_000_000);
        sessions.ended().insert((cluster, node), before);
        assert_eq!(of(minute / 2), Presence::Unseen);
        assert_eq!(of(minute), Presence::Ended);
        sessions.keep_ended(cluster, std::iter::empty());
        assert_eq!(of(minute), Presence::Unseen);
        // A newer stream takes over: the end of the older is no end.
        let (older, _) = sessions.enter(cluster, node, CancellationToken::new());
        let (_newer, _) = sessions.enter(cluster, node, CancellationToken::new());
        drop(older);
        assert_eq!(of(minute), Presence::Here);
    }
}
