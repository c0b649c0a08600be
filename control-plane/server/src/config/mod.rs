//! Configuration in two stages: what was written (`raw`), and what it means (`settings`, by `resolve`).

mod effective;
mod layers;
mod raw;
mod resolve;
mod settings;

pub use layers::{Layers, Origin, SETTINGS_FILE};
pub use raw::Raw;
pub use settings::{AuthorityMode, ClusterDefaults, Config, Database, Limits, Problem, Pushing};
