//! Distribution to nodes: what was published, who is connected, what each one still lacks.

mod delivery;
mod directory;
mod published;
mod sessions;

pub use delivery::{Acknowledged, Delivery, Step};
pub use directory::{ClusterDirectory, Directory, Hints};
pub use published::{Feed, Published};
pub use sessions::{Command, Heard, SessionEntry, Sessions};
