//! What this node pinned about itself and its cluster: when it joined, and by the authority records since.

use std::sync::Arc;

use rap_contract::{AuthorityChain, PublicKey, Reject, VerifiedSnapshot};
use rap_types::{ClusterId, Incarnation, InstallationId, KeyId, NodeId, Reason};

/// The pins of one membership.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// Installation of the cluster.
    pub installation: InstallationId,
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// SHA-256 of this node's public identity key.
    pub node_key: KeyId,
    /// This node's WireGuard public key.
    pub wireguard_key: [u8; 32],
    /// Key that makes and recovers cluster authorities.
    pub installation_authority: PublicKey,
    /// Verified authority records; the key of the last one signs heads.
    pub chain: Arc<AuthorityChain>,
    /// True if the membership was made in development mode.
    pub accept_dev: bool,
}

impl Pinned {
    /// Incarnation that the newest authority record starts.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.chain.incarnation())
    }

    /// True if the key that speaks now signed this snapshot's head.
    pub(super) fn is_by_present_authority(&self, snapshot: &VerifiedSnapshot) -> bool {
        snapshot.head_document().signers() == [self.chain.active().id()]
    }

    /// Refuses a snapshot whose assignment is for other keys than this node's.
    pub(super) fn check(&self, snapshot: &VerifiedSnapshot) -> Result<(), Reject> {
        let assignment = &snapshot.contents().assignment;
        if assignment.node_key_sha256 != self.node_key.as_bytes()
            || assignment.wireguard_public_key != self.wireguard_key
        {
            return Err(Reject::new(Reason::SnapshotScope, "assignment names other keys"));
        }
        Ok(())
    }
}
