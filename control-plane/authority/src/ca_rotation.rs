//! The rotation of a cluster's CA, which signs node certificates: which steps there are, and which nodes each waits for.
//!
//! Why this is sound: nodes trust both CAs before the newer one signs, and hold certificates of the one that stays before
//! the other ends. So at each step any two nodes that followed it accept each other.
//!
//! Owns the order of the steps. Refuses to own the CAs, the nodes and the clock.

use rap_contract::{KeyState, Reject};
use rap_types::Reason;

/// Where the rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CaStage {
    /// One CA; nothing is under way.
    Single,
    /// Nodes are told to trust the newer CA, too; the older one signs.
    Introducing,
    /// The newer CA signs; nodes replace their certificates.
    Moving,
    /// Aborted after the newer CA had signed: the older one signs, and nodes replace their certificates again.
    Returning,
}

/// A step of the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaStep {
    /// A newer CA is made.
    Begin,
    /// On to the next stage.
    Advance {
        /// Nodes that the stage waits for.
        missing: usize,
        /// Goes on without them.
        force: bool,
    },
    /// The older CA stays.
    Abort,
}

/// What a node is known to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaFollower {
    /// It acknowledged a snapshot that names the newer CA.
    pub trusts: bool,
    /// Generation of the CA that signed the certificate it showed last; 0 if not known.
    pub certificate_ca: u64,
}

impl CaStage {
    /// The stage of these states of trusted CAs, older first.
    ///
    /// # Errors
    /// `row.tampered` for states that no step leads to.
    pub fn of(states: &[KeyState]) -> Result<Self, Reject> {
        use KeyState::{Active, Prepared, Tainted};
        match states {
            [Active] => Ok(Self::Single),
            [Active, Prepared] => Ok(Self::Introducing),
            [Tainted, Active] => Ok(Self::Moving),
            [Active, Tainted] => Ok(Self::Returning),
            _ => Err(Reject::new(Reason::RowTampered, "states of the cluster's CAs")),
        }
    }

    /// States of the older and the newer CA in this stage; the newer one is revoked in [`Self::Single`] unless it was
    /// the one that stays.
    pub const fn states(self) -> (KeyState, KeyState) {
        use KeyState::{Active, Prepared, Revoked, Tainted};
        match self {
            Self::Single => (Active, Revoked),
            Self::Introducing => (Active, Prepared),
            Self::Moving => (Tainted, Active),
            Self::Returning => (Active, Tainted),
        }
    }

    /// The stage after `step`.
    ///
    /// # Errors
    /// `ca.state` for a step that does not fit, `ca.unconfirmed`.
    pub fn after(self, step: CaStep) -> Result<Self, Reject> {
        let unfit = |what| Err(Reject::new(Reason::CaState, what));
        match (self, step) {
            (Self::Single, CaStep::Begin) => Ok(Self::Introducing),
            (_, CaStep::Begin) => unfit("the CA is being rotated"),
            (Self::Single, _) => unfit("the CA is not being rotated"),
            (_, CaStep::Advance { missing: 1.., force: false }) => {
                Err(Reject::new(Reason::CaUnconfirmed, "nodes are missing"))
            }
            (Self::Introducing, CaStep::Advance { .. }) => Ok(Self::Moving),
            (Self::Moving | Self::Returning, CaStep::Advance { .. }) => Ok(Self::Single),
            (Self::Introducing, CaStep::Abort) => Ok(Self::Single),
            (Self::Moving, CaStep::Abort) => Ok(Self::Returning),
            (Self::Returning, CaStep::Abort) => unfit("the rotation is aborted already"),
        }
    }

    /// Whether the newer CA signs.
    pub const fn newer_issues(self) -> bool {
        matches!(self, Self::Moving)
    }

    /// Whether the stage waits for this node. Generations of the older and the newer CA.
    pub const fn waits_for(self, node: CaFollower, (older, newer): (u64, u64)) -> bool {
        match self {
            Self::Single => false,
            Self::Introducing => !node.trusts,
            Self::Moving => node.certificate_ca != newer,
            Self::Returning => node.certificate_ca != older,
        }
    }

    /// Word of the stage in the answers of `cluster ca` and in JSON documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Introducing => "introducing",
            Self::Moving => "moving",
            Self::Returning => "returning",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const STEPS: [CaStep; 4] = [
        CaStep::Begin,
        CaStep::Advance { missing: 0, force: false },
        CaStep::Advance { missing: 1, force: true },
        CaStep::Abort,
    ];

    #[test]
    fn every_stage_is_reached_and_reads_back_from_its_states() {
        let mut seen = vec![CaStage::Single];
        let mut words = BTreeSet::new();
        while let Some(stage) = seen.iter().copied().find(|stage| !words.contains(stage.as_str())) {
            words.insert(stage.as_str());
            seen.extend(STEPS.iter().filter_map(|step| stage.after(*step).ok()));
            let (older, newer) = stage.states();
            let trusted: Vec<_> =
                [older, newer].into_iter().filter(|state| *state != KeyState::Revoked).collect();
            assert_eq!(CaStage::of(&trusted), Ok(stage));
        }
        assert_eq!(words, BTreeSet::from(["introducing", "moving", "returning", "single"]));
        use KeyState::{Active, Prepared, Tainted};
        for states in
            [&[][..], &[Prepared], &[Active, Active], &[Tainted, Tainted], &[Active, Prepared, Prepared]]
        {
            assert_eq!(CaStage::of(states).unwrap_err().reason, Reason::RowTampered);
        }
    }

    #[test]
    fn no_step_is_taken_twice_and_none_without_the_missing_unless_forced() {
        let reason = |stage: CaStage, step| stage.after(step).unwrap_err().reason;
        let missing = CaStep::Advance { missing: 2, force: false };
        for stage in [CaStage::Introducing, CaStage::Moving, CaStage::Returning] {
            assert_eq!(reason(stage, CaStep::Begin), Reason::CaState);
            assert_eq!(reason(stage, missing), Reason::CaUnconfirmed);
        }
        assert_eq!(reason(CaStage::Single, missing), Reason::CaState);
        assert_eq!(reason(CaStage::Single, CaStep::Abort), Reason::CaState);
        assert_eq!(reason(CaStage::Returning, CaStep::Abort), Reason::CaState);
        assert_eq!(CaStage::Moving.after(CaStep::Abort), Ok(CaStage::Returning));
        assert_eq!(CaStage::Introducing.after(CaStep::Abort), Ok(CaStage::Single));
    }

    #[test]
    fn a_stage_waits_for_exactly_the_nodes_that_the_next_one_would_cut_off() {
        let node = |trusts, certificate_ca| CaFollower { trusts, certificate_ca };
        for (stage, waits, goes_on) in [
            (CaStage::Introducing, node(false, 1), node(true, 1)),
            (CaStage::Moving, node(true, 1), node(true, 2)),
            (CaStage::Moving, node(true, 0), node(false, 2)),
            (CaStage::Returning, node(true, 2), node(true, 1)),
        ] {
            assert!(stage.waits_for(waits, (1, 2)), "{stage:?}");
            assert!(!stage.waits_for(goes_on, (1, 2)), "{stage:?}");
        }
        assert!(!CaStage::Single.waits_for(node(false, 0), (1, 1)));
    }
}
