//! What was decided for one destination.

use rap_types::{Mono, NodeId};
use serde::{Deserialize, Serialize};

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The relays of the path, from this node on; empty: none is admissible.
    pub primary: Vec<NodeId>,
    /// The relays of the other one; empty: there is none.
    pub backup: Vec<NodeId>,
    /// Rises with each change of any destination.
    pub generation: u64,
    /// When the primary was chosen.
    pub since: Mono,
    /// Why the primary was chosen.
    pub why: Why,
}

/// Why a primary was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There was none before.
    First,
    /// The one before failed, or may not be used any more.
    Failed,
    /// A relay of the one before leaves or fails too often.
    Avoided,
    /// It is better by more than the margin.
    Better,
    /// None is admissible.
    None,
}

impl Why {
    /// For a person.
    pub const fn text(self) -> &'static str {
        match self {
            Self::First => "the best one when the first was chosen",
            Self::Failed => "the one before failed or may not be used any more",
            Self::Avoided => "a relay of the one before leaves or fails too often",
            Self::Better => "better than the one before by more than the margin",
            Self::None => "no path is admissible",
        }
    }
}
