//! Why a path may not be used.
//!
//! Owns the constraints and their order. A constraint is never weighed against a cost.

use rap_types::Reason;
use serde::Serialize;

/// The first constraint that a path does not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// The relay is an end of the path.
    End,
    /// The relay belongs to an organization, and an end of the path does not.
    Organization,
    /// The relay is revoked.
    Revoked,
    /// The relay takes no new paths.
    Draining,
    /// The relay is assumed to be down.
    Assumed,
    /// The link with the first relay is down.
    LinkDown,
    /// The destination has no link with the last relay.
    NotAttached,
    /// A relay says that its link with the next one is down.
    BetweenDown,
}

impl Constraint {
    /// The code of the refusal.
    pub const fn code(self) -> Reason {
        match self {
            Self::End => Reason::PathLoop,
            Self::Organization => Reason::RelayOrganization,
            Self::Revoked => Reason::NodeRevoked,
            Self::Draining => Reason::RelayDraining,
            Self::Assumed | Self::LinkDown | Self::NotAttached | Self::BetweenDown => {
                Reason::PathNextUnreachable
            }
        }
    }

    /// For a person.
    pub const fn text(self) -> &'static str {
        match self {
            Self::End => "it is an end of the path",
            Self::Organization => "it belongs to an organization, and an end of the path does not",
            Self::Revoked => "it is revoked",
            Self::Draining => "it takes no new paths",
            Self::Assumed => "it is assumed to be down",
            Self::LinkDown => "the link with it is down",
            Self::NotAttached => "the destination has no link with it",
            Self::BetweenDown => "one of its relays says that the link with the next one is down",
        }
    }
}
