//! The memberships of this agent while they run: each with its tasks, its driver, and its own end.

mod answers;
mod carry_out;
mod channels;
mod disk;
mod driver;
mod events;
mod key_ages;
mod memberships;
mod open;
mod persist;
mod ping;
mod rotate_keys;
mod start;
mod tasks;
#[cfg(test)]
mod tests;
mod writing;

pub use memberships::Host;
pub use rotate_keys::rotate;
