//! The data plane as the node's cores see it: up or not, which table it has, what it reported.
//!
//! Owns table versions and whether the table that was published last still says what holds. Refuses to build
//! tables: `crate::table` does.

use rap_contract::VerifiedSnapshot;
use rap_trust::{FreshnessState, Restriction};
use rap_types::{Digest, Reason};
use rap_wire::v1;

use super::routing::Counted;
use crate::{LinkWatch, Observations, PathTerms, Paths, PlaneFacts, WayWatch};

/// State of the data plane of one membership.
#[derive(Default)]
pub(super) struct FastPlane {
    /// True while a data plane is there.
    pub(super) up: bool,
    /// Version of the table published last; 0 before the first.
    pub(super) version: u64,
    /// Version of the table applied last; 0 for none.
    pub(super) applied: u64,
    /// Why the table published last was refused.
    pub(super) refused: Option<Reason>,
    /// Paths through relays, as the snapshot in use has them.
    pub(super) paths: Paths,
    /// Which probes of relays were counted.
    pub(super) counted: Counted,
    /// What paths are signed with.
    pub(super) path_terms: PathTerms,
    /// It carries traffic on paths.
    pub(super) knows_paths: bool,
    /// What it reported last.
    pub(super) stats: v1::Stats,
    /// Links, heads of peers, and the end of the process, as it reported them.
    pub(super) observations: Observations,
    /// Which wanted links are down.
    pub(super) links: LinkWatch,
    /// By which way traffic goes.
    pub(super) ways: WayWatch,
    /// A verified trust set that is not in use yet and revokes nodes that the one in use does not.
    pub(super) restriction: Option<Restriction>,
    published_in: Option<FreshnessState>,
    published_break_glass: Vec<Digest>,
}

impl FastPlane {
    /// Of a node with these terms.
    pub(super) fn new(path_terms: PathTerms) -> Self {
        Self { path_terms, ..Self::default() }
    }

    /// A data plane is there. The next table has a higher version than the one that it has applied.
    pub(super) fn came_up(&mut self, facts: PlaneFacts) {
        self.up = true;
        self.version = self.version.max(facts.applied);
        (self.path_terms.instance, self.knows_paths) = (facts.path_instance, facts.knows_paths);
        self.table_applied(facts.applied);
    }

    pub(super) fn went_down(&mut self) {
        self.up = false;
        self.applied = 0;
        self.stats = v1::Stats::default();
        self.observations.plane_went_down();
        self.links.plane_went_down();
        self.ways = WayWatch::default();
    }

    pub(super) const fn table_applied(&mut self, version: u64) {
        self.applied = version;
        self.refused = None;
    }

    /// This snapshot is in use. What an older one revoked is in it: the chain of revocations only grows.
    pub(super) fn activated(&mut self, snapshot: &VerifiedSnapshot) {
        self.restriction.take_if(|restriction| restriction.order <= snapshot.head().order);
    }

    /// Version of a table that is published now, in this state of freshness and under these break-glass files.
    pub(super) fn publish(&mut self, state: Option<FreshnessState>, break_glass: Vec<Digest>) -> u64 {
        self.version += 1;
        (self.published_in, self.published_break_glass) = (state, break_glass);
        self.version
    }

    /// True if time alone made the published table wrong: under a policy that ends an activity early
    /// (`is_plain` is false) a table holds in one state of freshness only, and break-glass files start and end.
    pub(super) fn is_outdated(
        &self,
        state: Option<FreshnessState>,
        is_plain: bool,
        break_glass: &[Digest],
    ) -> bool {
        let other_state = state != self.published_in && !is_plain;
        self.published_in.is_some() && (other_state || break_glass != self.published_break_glass)
    }
}
