//! The memberships of this agent while they run: each with its tasks, its driver, and its own end.

mod answers;
mod carry_out;
mod driver;
mod key_ages;
mod memberships;
mod ping;
mod rotate_keys;
mod start;

pub use memberships::Host;
pub use rotate_keys::rotate;
