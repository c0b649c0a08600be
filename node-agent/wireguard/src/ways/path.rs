//! The paths to one peer, and which of them is used.
//!
//! Owns the order: a path that works before one that is silent, a proven one before one that is not, then the slot.
//! The one in use stays while it works.

use std::time::Duration;

use rap_types::Mono;

use crate::liveness::{Kind, Liveness, Verdict};
use crate::way::{PathEnd, PathSlot};

/// Paths to one peer. Small: a peer has at most [`PATHS`].
#[derive(Debug, Default)]
pub(super) struct Paths {
    paths: Vec<Path>,
    in_use: Option<PathEnd>,
}

#[derive(Debug)]
struct Path {
    end: PathEnd,
    slot: PathSlot,
    /// It carried an answer of the peer.
    proven: bool,
    /// When it was probed last, since nothing came on it any more.
    silent: Option<Mono>,
    liveness: Liveness,
}

impl Paths {
    pub(super) fn in_use(&self) -> Option<PathEnd> {
        self.in_use
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = PathEnd> {
        self.paths.iter().map(|path| path.end)
    }

    /// True if a path is not silent.
    pub(super) fn works(&self) -> bool {
        self.paths.iter().any(|path| path.silent.is_none())
    }

    /// Typical round trip of the path in use.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let path = self.paths.iter().find(|path| Some(path.end) == self.in_use)?;
        path.liveness.round_trips.typical()
    }

    /// False: it is known.
    pub(super) fn up(&mut self, end: PathEnd, slot: PathSlot, now: Mono) -> bool {
        if self.paths.iter().any(|path| path.end == end) {
            return false;
        }
        if self.paths.len() == PATHS {
            // The oldest that the peer installed: this node's own are at most two.
            if let Some(oldest) = self.paths.iter().position(|path| path.slot == PathSlot::Answering) {
                self.paths.remove(oldest);
            }
        }
        let mut path =
            Path { end, slot, proven: false, silent: None, liveness: Liveness::new(Kind::Path, now) };
        // A newer one of this node's own: every hop has acknowledged it, and the older one ends soon.
        let older = self.paths.iter().position(|old| old.slot == slot && slot != PathSlot::Answering);
        if let Some(older) = older.map(|older| self.paths.remove(older)) {
            path.proven = older.proven && older.silent.is_none();
            if self.in_use == Some(older.end) {
                self.in_use = Some(end);
            }
        }
        self.paths.push(path);
        self.choose(now);
        true
    }

    pub(super) fn down(&mut self, end: PathEnd) {
        self.paths.retain(|path| path.end != end);
        self.in_use = self.in_use.filter(|used| *used != end);
        self.choose(None);
    }

    /// A frame came on a path. `answer`: of the peer, to a handshake.
    pub(super) fn frame(&mut self, end: PathEnd, answer: bool, now: Mono) {
        if let Some(path) = self.paths.iter_mut().find(|path| path.end == end) {
            path.liveness.frame(now);
            path.proven |= answer;
        }
        if answer {
            self.choose(now);
        }
    }

    pub(super) fn answered(&mut self, end: PathEnd, now: Mono, round_trip: Duration) {
        if let Some(path) = self.paths.iter_mut().find(|path| path.end == end) {
            path.liveness.answered(now, round_trip);
            (path.proven, path.silent) = (true, None);
        }
        self.choose(now);
    }

    /// Begins to judge again after a time in which nothing went out.
    pub(super) fn resume(&mut self, now: Mono) {
        self.paths.iter_mut().for_each(|path| path.liveness.resume(now));
    }

    pub(super) fn due(&self) -> Option<Mono> {
        let due = self.paths.iter().filter_map(|path| match path.silent {
            Some(last) => Some(last.plus(ASK_SILENT)),
            None => (self.in_use == Some(path.end)).then(|| path.liveness.due()),
        });
        due.min()
    }

    /// Judges the path in use and those that are silent; the paths to be probed, and whether one fell silent.
    pub(super) fn check(&mut self, now: Mono) -> (Vec<PathEnd>, bool) {
        let (mut probed, mut died) = (Vec::new(), false);
        for path in &mut self.paths {
            match path.silent {
                Some(last) if now >= last.plus(ASK_SILENT) => {
                    path.silent = Some(now);
                    probed.push(path.end);
                }
                Some(_) => {}
                None if self.in_use == Some(path.end) => match path.liveness.check(now) {
                    Verdict::Wait => {}
                    Verdict::Probe => probed.push(path.end),
                    Verdict::Dead => (path.silent, died) = (Some(now), true),
                },
                None => {}
            }
        }
        self.choose(now);
        (probed, died)
    }

    fn choose(&mut self, now: impl Into<Option<Mono>>) {
        let used = self.paths.iter().find(|path| Some(path.end) == self.in_use);
        if used.is_some_and(|path| path.proven && path.silent.is_none()) {
            return;
        }
        let rank = |path: &&mut Path| (path.silent.is_some(), !path.proven, path.slot, path.end);
        let best = self.paths.iter_mut().min_by_key(rank);
        if let Some(best) = best {
            if self.in_use != Some(best.end)
                && let Some(now) = now.into()
            {
                best.liveness.resume(now);
            }
            self.in_use = Some(best.end);
        } else {
            self.in_use = None;
        }
    }
}

/// A primary, a backup, and as many of the peer's, old and new.
pub(crate) const PATHS: usize = 6;
/// How often a silent path is probed.
const ASK_SILENT: Duration = Duration::from_secs(1);
