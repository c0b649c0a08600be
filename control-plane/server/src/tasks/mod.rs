//! Long-lived tasks: publication, the doorbell, contacts, housekeeping, the watchdog's look at the database.

mod absent;
mod contacts;
mod doorbell;
mod hints;
mod housekeeping;
mod keep_grants;
mod progress;
mod publish;
mod recover;
mod round;

pub use absent::remove_absent;
pub use contacts::{ContactBook, record_contacts};
pub use doorbell::watch_outbox;
pub use hints::tell_hints;
pub use housekeeping::keep_house;
pub use keep_grants::keep_grants;
pub use progress::watch_database;
pub use publish::publish;
pub use recover::raise_incarnation;
pub use round::{RoundError, open_head};
