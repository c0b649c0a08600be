//! The cluster head: the one signed record per cluster version.

use rap_types::{Digest, HeadOrder, Reason, Wall};
use rap_wire::v1;

use crate::{Audience, Expectation, KeySet, Reject, Verified, verify};

/// Largest tree a head may name.
const TREE_SIZE_CAP: u64 = 1 << 24;

/// A head's values, typed and in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFacts {
    /// (incarnation, version, refresh).
    pub order: HeadOrder,
    /// Leaves in the tree, a power of two.
    pub tree_size: u64,
    /// Merkle root.
    pub root: Digest,
    /// Digest of the previous refresh-0 head, if there was one.
    pub previous: Option<Digest>,
    /// When it was signed.
    pub issued_at: Wall,
    /// Until when the node counts as informed. Sets a state, never a refusal.
    pub fresh_until: Wall,
}

impl HeadFacts {
    /// Verifies an encoded head and reads its facts.
    ///
    /// # Errors
    /// Those of [`verify`], `payload.malformed`.
    pub fn open(
        bytes: &[u8],
        keys: &KeySet,
        expect: &Expectation<'_>,
    ) -> Result<(Verified<v1::ClusterHead>, Self), Reject> {
        let head: Verified<v1::ClusterHead> = verify(bytes, keys, expect)?;
        let facts = Self::read(&head)?;
        Ok((head, facts))
    }

    fn read(head: &Verified<v1::ClusterHead>) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
        let header = head.header();
        if header.audience != Audience::Cluster(header.cluster) {
            return Err(Reject::new(Reason::HeaderAudience, "audience"));
        }
        if header.sequence != head.version || header.incarnation != head.incarnation {
            return Err(malformed("header sequence or incarnation"));
        }
        if header.expires_at.is_some() {
            return Err(malformed("a head does not expire"));
        }
        if !head.tree_size.is_power_of_two() || head.tree_size > TREE_SIZE_CAP {
            return Err(malformed("tree_size"));
        }
        let fresh_until = Wall(head.fresh_until_ms);
        if fresh_until <= header.issued_at {
            return Err(malformed("fresh_until"));
        }
        let previous = match head.previous_head.as_slice() {
            [] => None,
            bytes => Some(Digest::from_slice(bytes).map_err(|_| malformed("previous_head"))?),
        };
        Ok(Self {
            order: HeadOrder::new(head.incarnation, head.version, head.refresh),
            tree_size: head.tree_size,
            root: Digest::from_slice(&head.root).map_err(|_| malformed("root"))?,
            previous,
            issued_at: header.issued_at,
            fresh_until,
        })
    }
}
