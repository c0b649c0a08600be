//! The stream to the control plane as the node's cores see it: open or not, when to report, what to report.
//!
//! Owns the time of the next report and the log of contact changes. Refuses to build messages: `stream` does.

use std::time::Duration;

use rap_trust::ContactLog;
use rap_types::{Mono, NodeContact, Reason, Wall};

use crate::{ContactFacts, Diagnostics, Hints};

/// Shortest time between two reports: neither a control plane nor links that come and go make a node do
/// nothing but report.
const SHORTEST_REPORT: Duration = Duration::from_millis(500);

/// State of the stream and of everything that arrives or leaves by it.
pub(super) struct Uplink {
    /// True while a stream is open.
    pub(super) stream: bool,
    report_interval: Option<Duration>,
    report_at: Option<Mono>,
    /// What every hello says of this node.
    pub(super) contact: ContactFacts,
    pub(super) contact_log: ContactLog,
    pub(super) diagnostics: Diagnostics,
    pub(super) hints: Hints,
    /// What the control plane doubts about this node's identity.
    pub(super) doubt: Option<Reason>,
    /// How far the control plane's clock was ahead of this host's when it said hello last.
    pub(super) skew_ms: Option<i64>,
}

impl Uplink {
    /// No stream yet; contact is `Isolated` since `at`.
    pub(super) fn new(contact: ContactFacts, at: Wall) -> Self {
        Self {
            stream: false,
            report_interval: None,
            report_at: None,
            contact,
            contact_log: ContactLog::new(NodeContact::Isolated, at),
            diagnostics: Diagnostics::default(),
            hints: Hints::default(),
            doubt: None,
            skew_ms: None,
        }
    }

    pub(super) const fn closed(&mut self) {
        self.stream = false;
        self.report_at = None;
    }

    /// The control plane asked for a report every `interval_ms`; 0 for none.
    pub(super) fn report_every(&mut self, interval_ms: u32) {
        let interval = Duration::from_millis(u64::from(interval_ms));
        self.report_interval = (!interval.is_zero()).then_some(interval.max(SHORTEST_REPORT));
    }

    /// True once the control plane asked for reports.
    pub(super) const fn reports(&self) -> bool {
        self.report_interval.is_some()
    }

    /// There is news: a report is due soon, so that what follows at once goes with it.
    pub(super) fn report_soon(&mut self, now: Mono) {
        let soon = now.plus(SHORTEST_REPORT);
        self.report_at = self.report_at.map(|at| at.min(soon));
    }

    pub(super) fn is_report_due(&self, now: Mono) -> bool {
        self.report_at.is_some_and(|at| at <= now)
    }

    pub(super) fn reported(&mut self, now: Mono) {
        self.report_at = self.report_interval.map(|interval| now.plus(interval));
    }

    /// When a report or the end of a diagnostic is due.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        [self.report_at, self.diagnostics.next_deadline()].into_iter().flatten().min()
    }
}
