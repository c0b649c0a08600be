//! What this node pinned about itself and its cluster: when it joined, and by the authority records since.

use std::sync::Arc;

use rap_contract::{AuthorityChain, PublicKey, Reject, VerifiedSnapshot};
use rap_types::{ClusterId, Incarnation, InstallationId, KeyId, NodeId, Reason};

use crate::OwnAddresses;

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
    /// Keys that this node had before it last replaced some: versions of then are still its own.
    pub former: Option<FormerKeys>,
    /// Addresses that the bootstrap contract gave: they count while no snapshot has sensible ones.
    pub addresses: Option<OwnAddresses>,
    /// True if the membership was made in development mode.
    pub accept_dev: bool,
}

/// Keys of a node before a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerKeys {
    /// SHA-256 of the public identity key.
    pub node_key: KeyId,
    /// WireGuard public key.
    pub wireguard_key: [u8; 32],
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
        let is = |node_key: &KeyId, wireguard_key: &[u8; 32]| {
            assignment.node_key_sha256 == node_key.as_bytes()
                && assignment.wireguard_public_key == wireguard_key
        };
        let former = self.former.is_some_and(|former| is(&former.node_key, &former.wireguard_key));
        if !is(&self.node_key, &self.wireguard_key) && !former {
            return Err(Reject::new(Reason::SnapshotScope, "assignment names other keys"));
        }
        Ok(())
    }
}
