//! Which streams of a cluster took the newest version, and which of them go first.
//!
//! Owns the count. Refuses to own the streams, waiting and the clock: callers bound every wait.
//!
//! Why this is sound: a stream is behind from the moment a version is published until it took that version or
//! closed, and it is counted once. So the counts return to zero whatever the order of events is. A stream that
//! opens later is not behind: nobody waits for it.

use std::collections::BTreeMap;

use rap_types::NodeId;

/// Open streams of one cluster at one replica.
#[derive(Debug, Default)]
pub struct Turns {
    streams: BTreeMap<u64, Stream>,
    opened: u64,
    behind: usize,
    first: usize,
}

#[derive(Debug)]
struct Stream {
    node: NodeId,
    holds: bool,
    behind: bool,
    first: bool,
}

/// What a stream's end or progress comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The last stream that goes first took the version.
    pub first_served: bool,
    /// The last stream took the version.
    pub all_took: bool,
}

impl Turns {
    /// A node's stream opens; `holds` if the node has a snapshot. Returns the stream's number.
    pub fn open(&mut self, node: NodeId, holds: bool) -> u64 {
        self.opened += 1;
        self.streams.insert(self.opened, Stream { node, holds, behind: false, first: false });
        self.opened
    }

    /// A version is published. Streams without a snapshot that are in it go first.
    pub fn published(&mut self, in_version: impl Fn(NodeId) -> bool) {
        self.first = 0;
        for stream in self.streams.values_mut() {
            stream.behind = true;
            stream.first = !stream.holds && in_version(stream.node);
            self.first += usize::from(stream.first);
        }
        self.behind = self.streams.len();
    }

    /// A stream took the newest version: it was sent, or changes nothing for the node.
    pub fn took(&mut self, number: u64, holds: bool) -> Progress {
        let Some(stream) = self.streams.get_mut(&number) else { return Progress::default() };
        stream.holds = holds;
        let (behind, first) = (stream.behind, stream.first);
        (stream.behind, stream.first) = (false, false);
        self.less(behind, first)
    }

    /// A stream ends.
    pub fn close(&mut self, number: u64) -> Progress {
        match self.streams.remove(&number) {
            Some(stream) => self.less(stream.behind, stream.first),
            None => Progress::default(),
        }
    }

    fn less(&mut self, behind: bool, first: bool) -> Progress {
        self.behind -= usize::from(behind);
        self.first -= usize::from(first);
        Progress { first_served: first && self.first == 0, all_took: behind && self.behind == 0 }
    }

    /// Whether every stream took the newest version.
    pub fn all_took(&self) -> bool {
        self.behind == 0
    }

    /// Whether a stream may take the version now, and not after those that go first.
    pub fn may_take(&self, number: u64) -> bool {
        self.first == 0 || self.streams.get(&number).is_none_or(|stream| stream.first || !stream.holds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 16])
    }

    #[test]
    fn streams_without_a_snapshot_go_first_if_the_version_names_their_node() {
        let mut turns = Turns::default();
        let (old, new) = (turns.open(node(1), true), turns.open(node(2), false));
        let waiting = turns.open(node(3), false);
        assert!(turns.all_took());
        turns.published(|named| named != node(3));
        assert!(!turns.may_take(old) && turns.may_take(new) && !turns.all_took());
        assert_eq!(turns.took(new, true), Progress { first_served: true, all_took: false });
        assert!(turns.may_take(old));
        turns.took(waiting, false);
        assert_eq!(turns.took(old, true), Progress { first_served: false, all_took: true });
        turns.published(|_| true);
        assert!(turns.may_take(waiting) && !turns.may_take(new) && !turns.may_take(old));
        turns.close(waiting);
        assert!(turns.may_take(old), "a stream that ends keeps nobody waiting");
    }

    proptest! {
        #[test]
        fn whatever_happens_all_have_taken_when_each_took_or_closed(
            steps in proptest::collection::vec((0..4u8, any::<u8>(), any::<bool>()), 0..80)
        ) {
            let mut turns = Turns::default();
            let mut open: Vec<u64> = Vec::new();
            for (what, byte, holds) in steps {
                let chosen = (!open.is_empty()).then(|| usize::from(byte) % open.len());
                match (what, chosen) {
                    (0, _) => open.push(turns.open(node(byte), holds)),
                    (1, _) => turns.published(|named| named.as_bytes()[0] < 200),
                    (2, Some(at)) => drop(turns.took(open[at], holds)),
                    (_, Some(at)) => drop(turns.close(open.swap_remove(at))),
                    (_, None) => {}
                }
            }
            for (at, stream) in open.iter().enumerate() {
                if at % 2 == 0 { turns.took(*stream, true) } else { turns.close(*stream) };
            }
            prop_assert!(turns.all_took());
            prop_assert!(open.iter().all(|stream| turns.may_take(*stream)));
        }
    }
}
