//! Long-lived tasks: publication, the doorbell, contacts, housekeeping.

mod contacts;
mod doorbell;
mod housekeeping;
mod publish;
mod recover;
mod round;

pub use contacts::{ContactBook, record_contacts};
pub use doorbell::watch_outbox;
pub use housekeeping::keep_house;
pub use publish::publish;
pub use recover::raise_incarnation;
pub use round::{RoundError, open_head};
