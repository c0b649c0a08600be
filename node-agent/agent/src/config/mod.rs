//! Configuration in two stages: what was written (`raw`), and what it means (`resolve`).

mod bounds;
mod raw;
mod resolve;

pub use bounds::HostBounds;
pub use raw::Raw;
pub use resolve::{Config, DataplaneMode};

pub(crate) use resolve::is_node_name;

/// Read unless another file is named; may be absent.
pub(crate) const DEFAULT_FILE: &str = "/etc/rap/agent.toml";
