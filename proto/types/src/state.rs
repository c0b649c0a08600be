//! States that more than one program names.

use crate::role::word_enum;

word_enum! {
    /// Where a node's identity is in its life.
    IdentityStatus {
        /// Asked to join; nobody decided yet.
        Pending = "pending",
        /// Member of the cluster.
        Active = "active",
        /// Member that takes no new work.
        Draining = "draining",
        /// Thrown out; its key can never return.
        Revoked = "revoked",
        /// Deregistered itself.
        Left = "left",
    }
}

word_enum! {
    /// Where a join request is.
    JoinState {
        /// Waiting for an operator.
        Pending = "pending",
        /// Accepted; a bootstrap contract exists.
        Approved = "approved",
        /// Refused by an operator.
        Denied = "denied",
    }
}

word_enum! {
    /// Who decides on a join request.
    ApprovalMode {
        /// An operator.
        Manual = "manual",
        /// The token itself.
        Auto = "auto",
    }
}

word_enum! {
    /// A node's contact with the control plane, as the node sees it.
    NodeContact {
        /// Sync stream is up.
        Connected = "connected",
        /// No contact and the head is stale.
        Degraded = "degraded",
        /// No contact and past `degraded_until`.
        Isolated = "isolated",
        /// Contact is back; catching up.
        Recovering = "recovering",
    }
}
