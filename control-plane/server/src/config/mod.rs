//! Configuration in two stages: what was written (`raw`), and what it means (`resolve`).

mod effective;
mod layers;
mod raw;
mod resolve;

pub use layers::{Layers, Origin, SETTINGS_FILE};
pub use raw::Raw;
pub use resolve::{AuthorityMode, ClusterDefaults, Config, Database, Limits, Problem, Pushing};
