//! The status of a membership: the document `rap.status.v1` and what it is made of.

mod contact;
mod document;
mod explanation;
mod facts;
mod freshness;
mod health;
mod paths;
mod peers;

pub use contact::Contact;
pub use document::{status_document, stopped_document};
pub use explanation::{explanation, peer_named};
pub use facts::StatusFacts;
pub use freshness::grant_document;
pub use paths::relay_document;
pub use peers::{name_of, way_in_words, why_changed};
