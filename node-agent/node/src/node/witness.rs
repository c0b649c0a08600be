//! The node's part as witness of the audit log: what it is shown becomes an output.

use rap_trust::{KeptAudit, Pinned, Witness, Witnessed};
use rap_wire::v1;

use crate::{Node, Output};

/// The witness of a membership with these pins.
pub fn start(pinned: &Pinned, kept: KeptAudit) -> Witness {
    Witness::start(pinned.installation, pinned.installation_authority, pinned.accept_dev, kept)
}

impl Node {
    /// What this node holds of the audit log, for status.
    pub const fn audit(&self) -> &Witness {
        &self.witness
    }

    pub(super) fn shown_checkpoint(&mut self, shown: v1::AuditWitness) {
        match self.witness.judge(shown) {
            Witnessed::Keep(held) => self.outputs.push_back(Output::KeepCheckpoint(held)),
            Witnessed::Contradiction(evidence) => self.outputs.push_back(Output::AuditAlarm(evidence)),
            Witnessed::Known | Witnessed::Refused(_) => {}
        }
    }
}
