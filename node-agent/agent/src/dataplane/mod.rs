//! The data plane as seen from the agent: start or adopt it, feed it tables, hear its reports.

mod launch;
mod session;
mod task;
mod unit;

pub use launch::Launch;
pub use task::{DataplaneCommand, DataplaneEvent, DataplaneFacts, DataplaneTask};
