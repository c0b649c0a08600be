//! Long-lived tasks: publication, the doorbell, contacts, housekeeping, the watchdog's look at the database.

pub mod absent;
pub mod contacts;
pub mod doorbell;
pub mod hints;
pub mod housekeeping;
pub mod keep_grants;
pub mod publishers;
pub mod watch_database;
