//! An installation on a lab's hosts: one control plane, nodes, and what a person does with them. Owns the calls; scenarios own what
//! is expected of them.

mod control;
mod installation;
mod intruder;
mod node;
mod overlay;
mod ssh;
mod streams;
mod traffic;
mod way;

pub use control::{Control, Pace};
pub use installation::Installation;
pub use intruder::Intruder;
pub use node::{Health, Node, part_name};
pub use overlay::{Pings, Watch};
pub use ssh::Session;
pub use streams::{Arrived, Sequence, Stream, inside, wait_arrivals};
pub use traffic::{Noticed, under_traffic};
pub use way::{Planned, Way};

use std::time::Duration;

/// One call of a program.
pub const CALL: Duration = Duration::from_secs(60);
/// Something that the fabric does by itself: a start, a recovery, a delivery.
pub const SETTLE: Duration = Duration::from_secs(60);
