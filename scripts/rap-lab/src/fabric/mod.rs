//! An installation on a lab's hosts: one control plane, nodes, and what a person does with them. Owns the calls; scenarios own what
//! is expected of them.

mod control;
mod intruder;
mod node;
mod overlay;
mod streams;

pub use control::{Control, Pace};
pub use intruder::Intruder;
pub use node::{Health, Node, part_name};
pub use overlay::{Pings, Watch};
pub use streams::{Arrived, Sequence, Stream, inside, wait_arrivals};

use std::time::Duration;

/// One call of a program.
pub const CALL: Duration = Duration::from_secs(60);
/// Something that the fabric does by itself: a start, a recovery, a delivery.
pub const SETTLE: Duration = Duration::from_secs(60);
