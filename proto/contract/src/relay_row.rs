//! relay-row: what a relay says of its links with other relays, signed by its leaf key.
//!
//! Owns the shape of a row and which figures make sense. Refuses to own how long a row counts, and who passes it on.

use std::collections::BTreeSet;

use rap_types::{ClusterId, InstallationId, NodeId, Reason, Wall};
use rap_wire::v1;

use crate::leaf::verify_by_leaf;
use crate::{Expectation, HeaderTerms, LeafKey, LeafTrust, PublicKey, Reject};

/// Most links of a row.
pub const RELAY_LINKS_MAX: usize = 64;

/// What a relay says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRow {
    /// Who says it.
    pub relay: NodeId,
    /// Rises with each row of the relay.
    pub sequence: u64,
    /// Its links, each to another relay and each once.
    pub links: Vec<RelayLink>,
    /// When it was signed.
    pub issued_at: Wall,
}

/// One link of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLink {
    /// The other end.
    pub node: NodeId,
    /// Median round trip in microseconds, 1 to 60,000,000; 0 if the link is down.
    pub rtt_us: u32,
    /// What is lost, per million; a million: the link is down.
    pub loss_ppm: u32,
}

impl RelayLink {
    /// A link that does not stand.
    pub const fn down(node: NodeId) -> Self {
        Self { node, rtt_us: 0, loss_ppm: DOWN_PPM }
    }

    /// True if it does not stand.
    pub const fn is_down(&self) -> bool {
        self.loss_ppm == DOWN_PPM
    }

    /// The wire form.
    pub fn to_wire(self) -> v1::RelayLink {
        v1::RelayLink { node: self.node.to_vec(), rtt_us: self.rtt_us, loss_ppm: self.loss_ppm }
    }
}

impl RelayRow {
    /// Verifies a row and reads it. Times are left to the receiver, which knows when the row arrived.
    ///
    /// # Errors
    /// `certificate.*`, `node.revoked`, `envelope.*`, `key.*`, `signature.*`, `header.*`, `relay.row_invalid`.
    pub fn open(
        bytes: &[u8],
        leaf: &[u8],
        trust: &dyn LeafTrust,
        (installation, cluster): (InstallationId, ClusterId),
    ) -> Result<(Self, LeafKey), Reject> {
        let expect = Expectation::within(installation, cluster, &[]);
        let (row, leaf) = verify_by_leaf::<v1::RelayRow>(bytes, leaf, trust, &expect)?;
        if row.header().expires_at.is_some() {
            return Err(invalid("expires_at: a row counts from its arrival"));
        }
        Ok((Self::read(&row, row.header().issued_at)?, leaf))
    }

    /// The wire form.
    pub fn to_wire(
        &self,
        installation: InstallationId,
        cluster: ClusterId,
        issuer: &PublicKey,
    ) -> v1::RelayRow {
        let header = HeaderTerms {
            sequence: self.sequence,
            ..HeaderTerms::of_cluster(installation, cluster, issuer.id(), self.issued_at)
        };
        v1::RelayRow {
            header: Some(header.to_wire()),
            relay: self.relay.to_vec(),
            sequence: self.sequence,
            links: self.links.iter().map(|link| link.to_wire()).collect(),
        }
    }

    fn read(row: &v1::RelayRow, issued_at: Wall) -> Result<Self, Reject> {
        let relay = NodeId::from_slice(&row.relay).map_err(|_| invalid("relay"))?;
        if row.links.len() > RELAY_LINKS_MAX {
            return Err(invalid("more than 64 links"));
        }
        let links = row.links.iter().map(read_link).collect::<Result<Vec<_>, _>>()?;
        let ends: BTreeSet<NodeId> = links.iter().map(|link| link.node).collect();
        if ends.len() < links.len() || ends.contains(&relay) {
            return Err(invalid("a link twice, or with itself"));
        }
        Ok(Self { relay, sequence: row.sequence, links, issued_at })
    }
}

fn read_link(link: &v1::RelayLink) -> Result<RelayLink, Reject> {
    let node = NodeId::from_slice(&link.node).map_err(|_| invalid("node"))?;
    let makes_sense = match link.loss_ppm {
        DOWN_PPM => link.rtt_us == 0,
        0..DOWN_PPM => (1..=RTT_MAX_US).contains(&link.rtt_us),
        _ => false,
    };
    makes_sense
        .then_some(RelayLink { node, rtt_us: link.rtt_us, loss_ppm: link.loss_ppm })
        .ok_or(invalid("round trip or loss"))
}

fn invalid(what: &'static str) -> Reject {
    Reject::new(Reason::RelayRowInvalid, what)
}

const DOWN_PPM: u32 = 1_000_000;
const RTT_MAX_US: u32 = 60_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(links: Vec<v1::RelayLink>) -> v1::RelayRow {
        v1::RelayRow { header: None, relay: vec![1; 16], sequence: 7, links }
    }

    fn link(number: u8, rtt_us: u32, loss_ppm: u32) -> v1::RelayLink {
        v1::RelayLink { node: vec![number; 16], rtt_us, loss_ppm }
    }

    fn read(links: Vec<v1::RelayLink>) -> Result<usize, Reason> {
        RelayRow::read(&wire(links), Wall(5)).map(|row| row.links.len()).map_err(|reject| reject.reason)
    }

    #[test]
    fn figures_that_make_no_sense_and_links_twice_are_refused() {
        assert_eq!(read(vec![link(2, 1, 0), link(3, 60_000_000, 999_999), link(4, 0, 1_000_000)]), Ok(3));
        assert_eq!(read(vec![]), Ok(0));
        let refused = Err(Reason::RelayRowInvalid);
        for links in [
            vec![link(2, 0, 0)],
            vec![link(2, 60_000_001, 0)],
            vec![link(2, 5, 1_000_000)],
            vec![link(2, 0, 1_000_001)],
            vec![link(2, 5, 0), link(2, 6, 0)],
            vec![link(1, 5, 0)],
            vec![v1::RelayLink { node: vec![2; 15], rtt_us: 5, loss_ppm: 0 }],
            (2..=66).map(|number| link(number, 5, 0)).collect(),
        ] {
            assert_eq!(read(links.clone()), refused, "{links:?}");
        }
        assert_eq!(read((2..=65).map(|number| link(number, 5, 0)).collect()), Ok(64));
    }
}
