//! What others may read of one peer.
//!
//! Owns the words of tiers, states and reasons.

use rap_types::Mono;

rap_types::word_enum! {
    /// How near a peer is.
    Tier {
        /// A link stands.
        Active = "active",
        /// Among the next candidates, or a wanted link that does not stand.
        Warm = "warm",
        /// Known from the snapshot, and tried when nothing else answers.
        Cold = "cold",
    }
}

rap_types::word_enum! {
    /// What goes on with a peer.
    State {
        /// A link stands.
        Linked = "linked",
        /// A link is wanted and does not stand yet.
        Connecting = "connecting",
        /// A link is wanted and its attempts failed, or it ended.
        Failing = "failing",
        /// No link is wanted: a way is known.
        Idle = "idle",
        /// No way is admitted; it is looked for again at growing intervals.
        WaitingRendezvous = "waiting_rendezvous",
    }
}

rap_types::word_enum! {
    /// Why a peer is in its tier.
    Why {
        /// Wanted: one of this node's home relays.
        Home = "home",
        /// Wanted: policy keeps its links for ever.
        Survives = "survives",
        /// Wanted: a break-glass grant admits it.
        Permitted = "permitted",
        /// Wanted: among the best by cost, in a failure domain of its own.
        Cost = "cost",
        /// Wanted: ranked by the control plane.
        Rank = "rank",
        /// Wanted: fills the set, in the order that both ends share.
        Fill = "fill",
        /// Tried: it replaces a wanted peer that does not answer.
        Replacement = "replacement",
        /// Tried: every link was lost.
        Recovery = "recovery",
        /// Tried: a warm peer is looked at in turn.
        Refresh = "refresh",
        /// Not wanted: the peer keeps this link.
        Accepted = "accepted",
        /// Not wanted: among the next candidates.
        Candidate = "candidate",
        /// Not wanted: beyond the candidates.
        Known = "known",
    }
}

/// One peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// How near it is.
    pub tier: Tier,
    /// What goes on.
    pub state: State,
    /// Why.
    pub why: Why,
    /// Whether this node dials it.
    pub wanted: bool,
    /// When a way is looked for again, while none is admitted.
    pub asked_at: Option<Mono>,
}
