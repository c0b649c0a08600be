//! Long-lived tasks: publication, the doorbell, contacts, housekeeping, the heartbeat and what follows from it.

pub mod absent;
pub mod contacts;
pub mod doorbell;
pub mod hand_over;
pub mod heartbeat;
pub mod hints;
pub mod housekeeping;
pub mod keep_grants;
pub mod look_at_rows;
pub mod publishers;
pub mod rotate_ca;
