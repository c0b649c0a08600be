//! The highest generation of each stream of paths.
//!
//! Owns how long it is remembered after the last path of the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rap_types::{Mono, NodeId};
use rap_wire::v1::LinkLane;

use crate::path::entry::Stream;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Highest {
    generation: u64,
    /// Paths that live.
    live: u32,
    /// When the last path ended; meaningful if none lives.
    ended: Mono,
}

/// Highest generations by stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Generations {
    streams: BTreeMap<Stream, Highest>,
    /// Streams without a path, by the time at which they are forgotten.
    forgotten: BTreeSet<(Mono, Stream)>,
}

impl Generations {
    /// The highest generation that is known.
    pub(crate) fn highest(&self, stream: Stream) -> Option<u64> {
        self.streams.get(&stream).map(|highest| highest.generation)
    }

    /// Makes room for one more stream. At the limit the source forgets its own oldest one. False: it has none.
    pub(crate) fn make_room(&mut self, stream: Stream, limit: usize) -> bool {
        if self.streams.contains_key(&stream) || self.streams.len() < limit {
            return true;
        }
        let source = stream.0;
        let from = (source, NodeId::ZERO, LinkLane::Unspecified);
        let own = self.streams.range(from..).take_while(|(stream, _)| stream.0 == source);
        let oldest = own.filter(|(_, highest)| highest.live == 0).min_by_key(|(_, highest)| highest.ended);
        let Some((oldest, ended)) = oldest.map(|(stream, highest)| (*stream, highest.ended)) else {
            return false;
        };
        self.streams.remove(&oldest);
        self.forgotten.remove(&(ended.plus(REMEMBERED), oldest));
        true
    }

    /// A path of this generation begins. The caller compared it with [`Self::highest`].
    pub(crate) fn begin(&mut self, stream: Stream, generation: u64) {
        let highest =
            self.streams.entry(stream).or_insert(Highest { generation, live: 0, ended: Mono(u64::MAX) });
        if highest.live == 0 {
            self.forgotten.remove(&(highest.ended.plus(REMEMBERED), stream));
        }
        highest.live += 1;
        highest.generation = highest.generation.max(generation);
    }

    /// A path ended.
    pub(crate) fn end(&mut self, stream: Stream, now: Mono) {
        let Some(highest) = self.streams.get_mut(&stream) else { return };
        highest.live = highest.live.saturating_sub(1);
        if highest.live == 0 {
            highest.ended = now;
            self.forgotten.insert((now.plus(REMEMBERED), stream));
        }
    }

    /// When [`Self::forget`] has something to do.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.forgotten.first().map(|(at, _)| *at)
    }

    pub(crate) fn forget(&mut self, now: Mono) {
        while let Some((at, stream)) = self.forgotten.first().copied().filter(|(at, _)| *at <= now) {
            self.forgotten.remove(&(at, stream));
            self.streams.remove(&stream);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }
}

/// How long a generation outlives its path: longer than the 600 s for which the signature of an install counts.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(660);

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(source: u8, destination: u8) -> Stream {
        (NodeId::from_bytes([source; 16]), NodeId::from_bytes([destination; 16]), LinkLane::C)
    }

    #[test]
    fn a_generation_outlives_its_last_path_by_660_seconds() {
        let mut generations = Generations::default();
        let stream = stream(1, 2);
        generations.begin(stream, 5);
        generations.begin(stream, 7);
        generations.end(stream, Mono(0));
        assert_eq!(generations.due(), None, "one path lives");
        generations.end(stream, Mono(9));
        let due = generations.due().unwrap();
        assert_eq!(due, Mono(9).plus(REMEMBERED));
        generations.forget(Mono(due.0 - 1));
        assert_eq!(generations.highest(stream), Some(7));
        generations.forget(due);
        assert_eq!(generations.highest(stream), None);
    }

    #[test]
    fn a_source_at_the_limit_forgets_its_own_and_nobody_elses() {
        let mut generations = Generations::default();
        for (source, destination) in [(1, 2), (1, 3), (4, 5)] {
            generations.begin(stream(source, destination), 1);
            generations.end(stream(source, destination), Mono(u64::from(destination)));
        }
        assert!(generations.make_room(stream(1, 2), 3), "a known stream needs no room");
        assert!(!generations.make_room(stream(6, 7), 3), "a new source finds none");
        assert!(generations.make_room(stream(1, 9), 3));
        assert_eq!(generations.highest(stream(1, 2)), None, "its oldest");
        assert_eq!((generations.len(), generations.highest(stream(4, 5))), (2, Some(1)));
    }
}
