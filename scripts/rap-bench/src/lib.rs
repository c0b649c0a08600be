//! Benchmark scenarios: what the product's speed and size bars are measured with.
//!
//! Owns the measuring and the form of its results. Never shipped; nothing depends on it.

mod agent;
mod changes;
mod cli;
mod commits;
mod control_plane;
mod dial;
mod fabric;
mod folder;
mod machine;
mod measure;
mod operator;
mod planner;
mod process;
mod report;
mod scale;
mod scenario;
/// The fixture of the acceptor's own criterion bench.
#[path = "../../../node-agent/trust/benches/scope/mod.rs"]
#[expect(dead_code, reason = "the bench of the acceptor uses the rest")]
mod scope;
mod settings;
mod spine;
mod swarm;
mod trust;

pub use cli::Cli;
pub use planner::run as planner;
pub use report::{Report, Row};
pub use spine::run as spine;
pub use trust::run as trust;
