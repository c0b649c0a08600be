//! The listener: TLS, accept budget, and what is known about each connection.

mod accept;
mod budget;
mod channel;
mod leaf;

pub use accept::{AcceptSettings, Acceptor, Incoming};
pub use budget::{SourceBudget, SourcePermit};
pub use channel::{Channel, ChannelKind, Connection};
pub use leaf::{issue_server_leaf, renew_server_leaf};
