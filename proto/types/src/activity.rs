//! What a node may do while the control plane is unreachable: the words of the written contract.
//!
//! Owns the table, one activity per phrase. Refuses to own when it applies: that is the node's, under
//! its policy.

use crate::UnknownWord;

/// A row of the degraded-mode contract: what holds while the control plane is unreachable and the head is
/// stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContractRow {
    /// Continues, if the snapshot's policy allows, until `degraded_until`.
    Continues,
    /// Refused always.
    RefusedAlways,
    /// Stays, also after `degraded_until`.
    Survives,
}

impl ContractRow {
    /// The word in status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Continues => "continues",
            Self::RefusedAlways => "refused_always",
            Self::Survives => "survives",
        }
    }
}

macro_rules! activities {
    ($($name:ident $word:literal $row:ident $phrase:literal;)+) => {
        /// What a node might do, as the degraded-mode contract names it: one per phrase.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Activity {
            $(#[doc = $phrase] $name,)+
        }

        impl Activity {
            /// Every activity, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in status and policies.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// The row of the contract it stands in.
            pub const fn row(self) -> ContractRow {
                match self { $(Self::$name => ContractRow::$row),+ }
            }

            /// The contract's words for it.
            pub const fn phrase(self) -> &'static str {
                match self { $(Self::$name => $phrase),+ }
            }
        }
    };
}

activities! {
    ExistingLinks "existing_links" Continues "existing links and routes";
    Failover "failover" Continues "failover";
    LinkReconnect "link_reconnect" Continues "reconnect";
    Probe "probe" Continues "probes";
    Shortcut "shortcut" Continues "shortcuts";
    AuthorisedService "authorised_service" Continues "services already authorised";
    Supervision "supervision" Continues "local supervision";
    HealthCheck "health_check" Continues "health checks";
    Enrollment "enrollment" RefusedAlways "new enrollment";
    PolicyChange "policy_change" RefusedAlways "role or policy changes";
    TrustChange "trust_change" RefusedAlways "trust-root or authority changes";
    PartitionPromotion "partition_promotion" RefusedAlways "partition promotion";
    CrossClusterTrust "cross_cluster_trust" RefusedAlways "new cross-cluster trust";
    Lease "lease" RefusedAlways "lease grant or renewal";
    RouteExpansion "route_expansion" RefusedAlways "expanding routes";
    LongLivedToken "long_lived_token" RefusedAlways "long-lived tokens";
    ControlReconnect "control_reconnect" Survives "control-plane reconnect";
    Recovery "recovery" Survives "recovery ladder";
    SurviveForever "survive_forever" Survives "what policy marks survive_forever";
}

impl std::fmt::Display for Activity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Activity {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|activity| activity.as_str() == text).ok_or_else(|| UnknownWord {
            kind: "Activity",
            word: text.chars().take(64).collect(),
            known: Self::WORDS,
        })
    }
}

impl Activity {
    /// Those that a policy may end at `fresh_until`.
    pub fn endable() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|activity| activity.row() == ContractRow::Continues)
    }
}
