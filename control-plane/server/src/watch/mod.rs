//! What this replica observes of itself: alarms, counters.
//!
//! Owns how often and where an alarm is told. Refuses to decide what is one.

pub mod alarm_log;
pub mod alarms;
pub mod handle;
pub mod metrics;
pub mod raise;
pub mod readiness;
pub mod refusals;
