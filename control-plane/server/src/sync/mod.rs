//! Distribution to nodes: what was published, and who is connected.

mod directory;
mod published;
mod sessions;

pub use directory::{ClusterDirectory, Directory, Hints};
pub use published::Feed;
pub use sessions::{Command, Heard, SessionEntry, Sessions};
