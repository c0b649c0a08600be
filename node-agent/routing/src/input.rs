//! What an engine is told.
//!
//! Owns the words. They can be written down and read again: a recorded series of inputs gives the same decisions.

use rap_types::{NodeId, OrganizationId, Reason};
use serde::{Deserialize, Deserializer, Serialize};

/// This node, as the snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// The node.
    pub node: NodeId,
    /// `None`: of the platform.
    pub organization: Option<OrganizationId>,
    /// Region.
    pub region: String,
}

/// A relay, as the snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayFacts {
    /// The node.
    pub node: NodeId,
    /// The organization between whose nodes it carries; `None`: between all.
    pub organization: Option<OrganizationId>,
    /// Region.
    pub region: String,
    /// It takes no new paths.
    pub draining: bool,
    /// The snapshot revokes the key generation of its certificate; no path leads through it.
    pub revoked: bool,
    /// This node keeps a link with it; with others only while a path leads through them.
    pub kept: bool,
}

/// A node that paths lead to, as the snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The node.
    pub node: NodeId,
    /// `None`: of the platform.
    pub organization: Option<OrganizationId>,
    /// Region.
    pub region: String,
    /// The relays that reach it, from its first home on.
    pub homes: Vec<NodeId>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The snapshot has these relays, and no others.
    Relays(Own, Vec<RelayFacts>),
    /// The snapshot has this node.
    Destination(Destination),
    /// The snapshot has this node no more.
    Gone(NodeId),
    /// The link with this relay is up.
    LinkUp(NodeId),
    /// It is down.
    LinkDown(NodeId),
    /// Probes of the link with a relay.
    LinkMeasured(NodeId, Probes),
    /// What a relay says of its links with other relays: all of them that it has.
    RelayRow(NodeId, Vec<(NodeId, Said)>),
    /// The first relay could not reach the second one as the next hop of a path.
    NotReached(NodeId, NodeId),
    /// Probes of a path to a destination.
    PathMeasured(NodeId, Vec<NodeId>, Probes),
    /// A path to a destination was refused, or it ended.
    PathFailed(NodeId, Vec<NodeId>, #[serde(deserialize_with = "reason")] Reason),
}

/// What probes found since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probes {
    /// Typical round trip in microseconds; 0: none was answered.
    pub rtt_us: u32,
    /// Probes that were answered.
    pub answered: u32,
    /// Probes that were not.
    pub lost: u32,
}

/// What a relay says of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Round trip in microseconds.
    pub rtt_us: u32,
    /// What is lost, per million; a million: the link is down.
    pub loss_ppm: u32,
}

impl Said {
    pub(crate) const DOWN: Self = Self { rtt_us: 0, loss_ppm: 1_000_000 };

    pub(crate) const fn is_down(&self) -> bool {
        self.loss_ppm >= 1_000_000
    }
}

fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
    let code = String::deserialize(deserializer)?;
    Reason::from_code(&code).ok_or_else(|| serde::de::Error::custom(format!("no reason `{code}`")))
}
