//! What the overlay may take of a host's network: what was observed and what is wanted go in, what is applied and
//! what is held back come out.
//!
//! Owns the rules: the host's own networks win, a conflict counts after a while, what was changed by others is put
//! right a bounded number of times. Refuses to observe and to apply: `rap-host` does.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::expect_used))]

mod applied;
mod conflicts;
mod facts;
mod guard;
mod prefixes;
mod put_right;
mod settling;

pub use applied::{Applied, Missing, Present};
pub use conflicts::{Because, Class, Conflict, conflicts};
pub use facts::{HostFacts, HostRoute};
pub use guard::ruleset;
pub use prefixes::share;
pub use put_right::PutRight;
pub use settling::Settling;
