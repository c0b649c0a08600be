//! Which key generations of which nodes are revoked.
//!
//! Owns the union of what the table in force says and what came beside tables. A revocation is never refused: an
//! entry that is malformed is left out, the others count.

use std::collections::BTreeMap;

use rap_runtime::Fault;
use rap_types::{NodeId, limits};
use rap_wire::v1::TableRevoked;

use super::field::id;

/// Highest revoked key generation by node.
pub(crate) type Revoked = BTreeMap<NodeId, u64>;

/// Reads the list of a table.
pub(super) fn read(list: &[TableRevoked]) -> Result<Revoked, Fault> {
    let mut revoked = Revoked::new();
    for entry in list {
        let node = id(NodeId::from_slice(&entry.node_id), "revoked: node_id")?;
        add(&mut revoked, node, entry.key_generation);
    }
    Ok(revoked)
}

pub(super) fn add(revoked: &mut Revoked, node: NodeId, key_generation: u64) {
    let highest = revoked.entry(node).or_insert(key_generation);
    *highest = (*highest).max(key_generation);
}

/// What came beside tables and the table in force does not say.
#[derive(Debug, Default)]
pub(crate) struct LearnedRevocations(Revoked);

impl LearnedRevocations {
    /// Takes a command's list in. Above the limit the entries of nodes that `is_peer` denies are forgotten: these
    /// cannot link anyhow, and a table that names one of them as a peer also says what is revoked.
    pub(crate) fn learn(&mut self, list: &[TableRevoked], is_peer: impl Fn(NodeId) -> bool) {
        for entry in list {
            match NodeId::from_slice(&entry.node_id) {
                Ok(node) => add(&mut self.0, node, entry.key_generation),
                Err(error) => tracing::warn!(%error, "a revocation names no node"),
            }
        }
        if self.0.len() > limits::TABLE_REVOKED_MAX {
            self.0.retain(|node, _| is_peer(*node));
        }
    }

    /// A table is in force: what it says itself is forgotten here.
    pub(crate) fn forget(&mut self, said: &Revoked) {
        self.0.retain(|node, generation| said.get(node).is_none_or(|said| said < generation));
    }

    /// These and the table's.
    pub(crate) fn with(&self, said: &Revoked) -> Revoked {
        let mut all = said.clone();
        for (node, generation) in &self.0 {
            add(&mut all, *node, *generation);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32, key_generation: u64) -> TableRevoked {
        let mut node_id = vec![0; 12];
        node_id.extend_from_slice(&number.to_be_bytes());
        TableRevoked { node_id, key_generation }
    }

    #[test]
    fn what_is_malformed_is_left_out_and_the_highest_generation_counts() {
        let mut learned = LearnedRevocations::default();
        let bad = TableRevoked { node_id: vec![1], key_generation: 9 };
        learned.learn(&[entry(1, 3), bad, entry(1, 2), entry(2, 1)], |_| true);
        let said = read(&[entry(1, 4), entry(3, 1)]).unwrap();
        assert_eq!(learned.with(&said).into_values().collect::<Vec<_>>(), [4, 1, 1]);
        learned.forget(&said);
        assert_eq!(learned.0.len(), 1, "the table says more of node 1");
    }

    #[test]
    fn above_the_limit_only_those_of_peers_are_remembered() {
        let mut learned = LearnedRevocations::default();
        let many: Vec<_> = (0..=limits::TABLE_REVOKED_MAX as u32).map(|number| entry(number, 1)).collect();
        let peer = NodeId::from_slice(&entry(7, 1).node_id).unwrap();
        learned.learn(&many, |node| node == peer);
        assert_eq!(learned.0.keys().copied().collect::<Vec<_>>(), [peer]);
    }
}
