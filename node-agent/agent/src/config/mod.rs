//! Configuration in two stages: what was written (`raw`), and what it means (`resolve`).

mod layers;
mod raw;
mod resolve;

pub use layers::{Layers, Origin};
pub use raw::Raw;
pub use resolve::{Config, DataplaneMode, Problems};

pub(crate) use resolve::is_node_name;
