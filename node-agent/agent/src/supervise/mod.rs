//! Programs that outlive the agent: start one as a child or as a unit, adopt one that runs, learn how it ended.

mod adopt;
mod child;
mod exit;
mod unit;

pub use adopt::Served;
pub use child::{Child, Program};
pub use exit::Exit;
pub use unit::Unit;

/// Why a program was not started, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStarted(pub String);
