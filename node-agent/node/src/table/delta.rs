//! What makes one table of another.

use std::collections::BTreeMap;

use rap_wire::v1::{TableDelta, TablePeer, TableRevoked};

use super::forwarding::ForwardingTable;

impl ForwardingTable {
    /// The change that makes this table of `base`. `None` if only a whole table can: a revocation of `base` is gone.
    pub(super) fn change_of(&self, base: &Self) -> Option<TableDelta> {
        let before = generations(&base.revoked);
        let after = generations(&self.revoked);
        if before.iter().any(|(node, generation)| after.get(node).is_none_or(|now| now < generation)) {
            return None;
        }
        let known: BTreeMap<&[u8], &TablePeer> =
            base.peers.iter().map(|peer| (&*peer.node_id, peer)).collect();
        let wanted: BTreeMap<&[u8], &TablePeer> =
            self.peers.iter().map(|peer| (&*peer.node_id, peer)).collect();
        let changed = wanted.iter().filter(|(node, peer)| known.get(*node) != Some(*peer));
        let removed = known.keys().filter(|node| !wanted.contains_key(*node));
        let header = (self.header != base.header).then(|| self.header.clone());
        Some(TableDelta {
            base_version: base.version(),
            version: self.version(),
            header,
            peers: changed.map(|(_, peer)| (*peer).clone()).collect(),
            removed: removed.map(|node| node.to_vec()).collect(),
            revoked: self.revoked_since(&before),
        })
    }

    /// Revocations that `told` does not have, or has for a lower generation.
    pub(super) fn revoked_since(&self, told: &BTreeMap<Vec<u8>, u64>) -> Vec<TableRevoked> {
        let untold = |revoked: &&TableRevoked| {
            told.get(&revoked.node_id).is_none_or(|generation| *generation < revoked.key_generation)
        };
        self.revoked.iter().filter(untold).cloned().collect()
    }
}

/// Highest revoked key generation by node.
pub(super) fn generations(revoked: &[TableRevoked]) -> BTreeMap<Vec<u8>, u64> {
    let mut all = BTreeMap::new();
    for TableRevoked { node_id, key_generation } in revoked {
        let highest = all.entry(node_id.clone()).or_insert(*key_generation);
        *highest = (*highest).max(*key_generation);
    }
    all
}
