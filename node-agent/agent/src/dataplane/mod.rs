//! The data plane as seen from the agent: start or adopt it, feed it tables, hear its reports.

mod commands;
mod events;
mod keeper;
mod launch;
mod link;
mod session;
mod stats;
mod tables;

pub use commands::DataplaneCommand;
pub use events::{DataplaneEvent, DataplaneFacts};
pub use keeper::DataplaneTask;
pub use launch::Launch;
