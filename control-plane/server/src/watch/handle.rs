//! What this replica observes of itself, as handlers, acts and tasks use it.

use std::sync::Arc;

use rap_runtime::Clock;

use crate::database::handle::Database;
use crate::keys::handle::Keys;
use crate::watch::alarm_log::Findings;
use crate::watch::alarms::Alarms;
use crate::watch::metrics::Metrics;
use crate::watch::readiness::Readiness;
use crate::watch::refusals::Refusals;

/// Clock, readiness, counters and alarms. An alarm is audited, so it reaches the keys and the database.
#[derive(Debug)]
pub struct Watch {
    /// The keys of the installation.
    pub keys: Arc<Keys>,
    /// The database.
    pub database: Arc<Database>,
    /// Drawn at each start of this process: as whom other replicas know it.
    pub replica: [u8; 16],
    /// The clock.
    pub clock: Clock,
    /// What is wrong now.
    pub alarms: Alarms,
    /// When each alarm was told last.
    pub findings: Findings,
    /// Refused acts of operators that were told lately.
    pub refusals: Refusals,
    /// Whether this replica does its work.
    pub readiness: Readiness,
    /// The counters of this process.
    pub metrics: Arc<Metrics>,
}
