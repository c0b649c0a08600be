//! What is remembered of one peer and of one route, as bytes of a cache.
//!
//! Owns the form. Nothing in a row is believed by itself: identity, endpoints, roles and region come from the verified
//! snapshot, and a row of another identity is dropped.

use rap_types::{Digest, NodeId, OrganizationId, Wall};

/// What is remembered of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRow {
    /// When a link with it stood last.
    pub last_success_at: Wall,
    /// Round trip, microseconds; 0 is none.
    pub last_latency_us: u32,
    /// Lost probes, per million.
    pub packet_loss_ppm: u32,
    /// Share of the attempts that gave a link, per thousand, the latest counting most.
    pub reliability_permille: u16,
    /// Digest of the identity that the snapshot had.
    pub fingerprint: Digest,
    /// The organization that the snapshot had; `None`: the platform.
    pub scope: Option<OrganizationId>,
    /// Version of the snapshot.
    pub last_seen_config_version: u64,
    /// The endpoint that worked last; empty if the peer dialled. At most 255 bytes.
    pub endpoint: String,
}

/// What is remembered of the route to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRow {
    /// When traffic passed last.
    pub used_at: Wall,
    /// Relays from this node on, at most 3; none: directly.
    pub relays: Vec<NodeId>,
}

impl PeerRow {
    /// The row as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let scope = self.scope.map_or([0; 16], |scope| *scope.as_bytes());
        let end = (0..=self.endpoint.len().min(255)).rev().find(|at| self.endpoint.is_char_boundary(*at));
        let endpoint = self.endpoint.get(..end.unwrap_or_default()).unwrap_or_default();
        [
            &[FORM][..],
            &self.last_success_at.0.to_be_bytes(),
            &self.last_latency_us.to_be_bytes(),
            &self.packet_loss_ppm.to_be_bytes(),
            &self.reliability_permille.to_be_bytes(),
            self.fingerprint.as_bytes(),
            &scope,
            &self.last_seen_config_version.to_be_bytes(),
            endpoint.as_bytes(),
        ]
        .concat()
    }

    /// The row in these bytes; `None` if they are of another form.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORM])?;
        let row = Self {
            last_success_at: Wall(i64::from_be_bytes(take(&mut rest)?)),
            last_latency_us: u32::from_be_bytes(take(&mut rest)?),
            packet_loss_ppm: u32::from_be_bytes(take(&mut rest)?),
            reliability_permille: u16::from_be_bytes(take(&mut rest)?),
            fingerprint: Digest::from_bytes(take(&mut rest)?),
            scope: Some(take(&mut rest)?).filter(|id| *id != [0; 16]).map(OrganizationId::from_bytes),
            last_seen_config_version: u64::from_be_bytes(take(&mut rest)?),
            endpoint: String::from_utf8(rest.to_vec()).ok().filter(|text| text.len() <= 255)?,
        };
        let sane = row.packet_loss_ppm <= 1_000_000 && row.reliability_permille <= 1000;
        sane.then_some(row)
    }
}

impl RouteRow {
    /// The row as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let relays = self.relays.iter().take(RELAYS).flat_map(|relay| *relay.as_bytes());
        [FORM].into_iter().chain(self.used_at.0.to_be_bytes()).chain(relays).collect()
    }

    /// The row in these bytes; `None` if they are of another form.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORM])?;
        let used_at = Wall(i64::from_be_bytes(take(&mut rest)?));
        let (relays, []) = rest.as_chunks::<16>() else { return None };
        let relays: Vec<NodeId> = relays.iter().map(|relay| NodeId::from_bytes(*relay)).collect();
        (relays.len() <= RELAYS).then_some(Self { used_at, relays })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

const FORM: u8 = 1;
const RELAYS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_and_no_other_bytes_are_a_row() {
        let row = PeerRow {
            last_success_at: Wall(1_700_000_000_000),
            last_latency_us: 12_000,
            packet_loss_ppm: 3_000,
            reliability_permille: 990,
            fingerprint: Digest::of(&[b"x"]),
            scope: Some(OrganizationId::from_bytes([7; 16])),
            last_seen_config_version: 9,
            endpoint: "[2001:db8::1]:7443".into(),
        };
        let bytes = row.encode();
        assert_eq!(PeerRow::decode(&bytes), Some(row.clone()));
        assert_eq!(PeerRow::decode(&PeerRow { scope: None, ..row.clone() }.encode()).unwrap().scope, None);
        let fixed = bytes.len() - row.endpoint.len();
        assert!((0..fixed).all(|length| PeerRow::decode(&bytes[..length]).is_none()));
        assert_eq!(PeerRow::decode(&[&[2], &bytes[1..]].concat()), None, "another form");
        assert_eq!(PeerRow::decode(&PeerRow { packet_loss_ppm: 1_000_001, ..row }.encode()), None);

        let relays = vec![NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16])];
        let route = RouteRow { used_at: Wall(5), relays };
        let bytes = route.encode();
        assert_eq!(RouteRow::decode(&bytes), Some(route.clone()));
        assert_eq!(RouteRow::decode(&bytes[..bytes.len() - 1]), None);
        let many = RouteRow { relays: vec![NodeId::ZERO; 4], ..route };
        assert_eq!(RouteRow::decode(&many.encode()).unwrap().relays.len(), 3);
        assert_eq!(RouteRow::decode(&[&bytes[..9], &[1; 64]].concat()), None, "too many relays");
    }
}
