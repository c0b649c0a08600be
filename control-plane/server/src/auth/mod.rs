//! Who calls: sessions of operators, and how often a stranger may.

mod rates;
mod sessions;

pub use rates::SourceRates;
pub use sessions::{KnownSessions, bearer_claim};
