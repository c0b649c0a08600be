//! The leaf keys of nodes, made from their ids.
//!
//! Stands for certificates: a leaf is the id of a node and its key, and no CA vouches for any other pair.

use std::collections::BTreeMap;
use std::convert::Infallible;

use rap_contract::{LeafKey, LeafTrust, PathInstall, PublicKey, Reject, Signer, sign_by_leaf};
use rap_types::{Digest, NodeId, Reason, Wall};

use crate::control::{CLUSTER, INSTALLATION};

/// A key and the leaf over it.
pub struct Leaf {
    pub signer: Signer,
    pub text: Vec<u8>,
}

impl Leaf {
    pub fn of(node: NodeId) -> Self {
        let signer = Signer::from_seed(Digest::of(&[b"leaf", node.as_bytes()]).as_bytes());
        let text = [node.as_bytes(), signer.public().as_bytes().as_slice()].concat();
        Self { signer, text }
    }

    /// The install of one hop, signed.
    pub fn sign(&self, install: &PathInstall, hop: NodeId) -> Vec<u8> {
        let key = self.signer.public();
        let install = install.to_wire(INSTALLATION, CLUSTER, hop, &key);
        let Ok(envelope) = sign_by_leaf(&install, &key, |text| Ok::<_, Infallible>(self.signer.sign(text)));
        envelope
    }
}

/// Every leaf that was issued, as a node judges it.
pub struct Leaves<'a> {
    pub issued: &'a BTreeMap<NodeId, Leaf>,
    /// Highest revoked key generation of each node that this node knows of.
    pub revoked: &'a BTreeMap<NodeId, u64>,
    pub not_after: Wall,
}

impl LeafTrust for Leaves<'_> {
    fn check(&self, leaf: &[u8]) -> Result<LeafKey, Reject> {
        let invalid = Reject::new(Reason::CertificateInvalid, "leaf");
        let (node, key) = leaf.split_first_chunk::<16>().ok_or(invalid)?;
        let (node, key) = (NodeId::from_bytes(*node), PublicKey::from_slice(key).map_err(|_| invalid)?);
        if self.issued.get(&node).is_none_or(|issued| issued.text != leaf) {
            return Err(invalid);
        }
        if self.revoked.contains_key(&node) {
            return Err(Reject::new(Reason::NodeRevoked, "leaf"));
        }
        Ok(LeafKey { node, key_generation: 1, key, not_after: self.not_after })
    }
}
