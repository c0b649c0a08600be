//! One destination and what was decided for it.

use std::time::Duration;

use rap_types::{Mono, Reason};

use crate::decision::Why;
use crate::estimate::Estimate;
use crate::input::{Destination, Probes};
use crate::keep::Bucket;
use crate::path::Path;
use crate::relay_set::RelaySet;

/// A destination.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) facts: Destination,
    /// Positions of the homes.
    pub(super) homes: Vec<u8>,
    pub(super) primary: Option<Path>,
    pub(super) backup: Option<Path>,
    pub(super) generation: u64,
    pub(super) since: Mono,
    pub(super) why: Why,
    /// A relay of the primary is none any more.
    pub(super) lost: bool,
    /// A relay of either path is none any more.
    pub(super) cut: bool,
    /// Its homes changed: what was chosen among others does not count.
    pub(super) afresh: bool,
    /// Relays of the path that was left last for a better one, and when.
    pub(super) left: Option<(RelaySet, Mono)>,
    pub(super) bucket: Bucket,
    refused: Vec<(Path, Mono, Reason)>,
    measured: Vec<Measured>,
}

/// A path that was probed as a whole.
#[derive(Debug, Clone)]
struct Measured {
    path: Path,
    estimate: Estimate,
    /// When it was found to take much longer than its relays say.
    disputed: Option<Mono>,
}

impl Target {
    pub(super) fn new(facts: Destination) -> Self {
        Self {
            facts,
            homes: Vec::new(),
            primary: None,
            backup: None,
            generation: 0,
            since: Mono(0),
            why: Why::None,
            lost: false,
            cut: false,
            afresh: true,
            left: None,
            bucket: Bucket::default(),
            refused: Vec::new(),
            measured: Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, path: Path, reason: Reason, now: Mono) {
        self.refused.retain(|(known, at, _)| *known != path && now.since(*at) < REFUSED);
        if self.refused.len() == MOST_REFUSED {
            self.refused.remove(0);
        }
        self.refused.push((path, now, reason));
    }

    /// Why a path was refused lately.
    pub(super) fn refusal(&self, path: Path, now: Mono) -> Option<Reason> {
        let refused = self.refused.iter().find(|(known, at, _)| *known == path && now.since(*at) < REFUSED);
        refused.map(|(_, _, reason)| *reason)
    }

    pub(super) fn refused(&self, now: Mono) -> impl Iterator<Item = Path> {
        self.refused.iter().filter(move |(_, at, _)| now.since(*at) < REFUSED).map(|(path, _, _)| *path)
    }

    pub(super) fn measure(&mut self, path: Path, probes: Probes, now: Mono) {
        self.measured.retain(|measured| now.since(measured.estimate.at()) < MEASURED);
        let known = self.measured.iter().position(|measured| measured.path == path);
        let at = known.unwrap_or_else(|| {
            if self.measured.len() == MOST_MEASURED {
                self.measured.remove(0);
            }
            self.measured.push(Measured { path, estimate: Estimate::default(), disputed: None });
            self.measured.len() - 1
        });
        let estimate = &mut self.measured[at].estimate;
        estimate.probed(probes.answered, probes.lost, now);
        if probes.rtt_us > 0 {
            estimate.sample(probes.rtt_us, now);
        }
    }

    /// What was measured of a path, if it is enough to count.
    pub(super) fn measurement(&self, path: Path, now: Mono) -> Option<&Estimate> {
        self.measurements(now).find(|(known, _)| *known == path).map(|(_, estimate)| estimate)
    }

    pub(super) fn measurements(&self, now: Mono) -> impl Iterator<Item = (Path, &Estimate)> {
        let counts =
            move |estimate: &Estimate| estimate.samples() >= ENOUGH && now.since(estimate.at()) < MEASURED;
        let known = self.measured.iter().map(|measured| (measured.path, &measured.estimate));
        known.filter(move |(_, estimate)| counts(estimate))
    }

    /// A path takes much longer than its relays say. False: it was disputed a short while ago.
    pub(super) fn dispute(&mut self, path: Path, now: Mono) -> bool {
        if self.is_disputed(path, now) {
            return false;
        }
        let measured = self.measured.iter_mut().find(|measured| measured.path == path);
        measured.is_some_and(|measured| measured.disputed.replace(now) != Some(now))
    }

    /// Whether a path was disputed a short while ago.
    pub(super) fn is_disputed(&self, path: Path, now: Mono) -> bool {
        let measured = self.measured.iter().find(|measured| measured.path == path);
        measured.and_then(|measured| measured.disputed).is_some_and(|at| now.since(at) < MEASURED)
    }

    /// Paths that lead through positions that are others' now are forgotten.
    pub(super) fn forget(&mut self, changed: RelaySet) {
        self.refused.retain(|(path, _, _)| !path.set().shares(changed));
        self.measured.retain(|measured| !measured.path.set().shares(changed));
        self.left = self.left.filter(|(left, _)| !left.shares(changed));
    }

    /// The relays of both paths.
    pub(super) fn used(&self) -> impl Iterator<Item = u8> {
        let paths = [self.primary, self.backup].into_iter().flatten();
        paths.flat_map(|path| path.relays().to_vec())
    }
}

const REFUSED: Duration = Duration::from_secs(60);
const MOST_REFUSED: usize = 16;
const MEASURED: Duration = Duration::from_secs(60);
const MOST_MEASURED: usize = 4;
const ENOUGH: u32 = 5;
