//! Chunks: content-addressed pieces of configuration, one scope each.

use prost::Message as _;
use rap_types::{Digest, NodeId, OrganizationId, Reason};
use rap_wire::v1;
use v1::chunk::Body;

use crate::Reject;

/// Cap on one encoded chunk, bytes.
pub const CHUNK_CAP: usize = 64 * 1024;
/// Slot of the trust set.
pub const TRUST_SLOT: &str = "trust";
/// Slot of the cluster policy.
pub const POLICY_SLOT: &str = "policy";
/// Slot of the node's own assignment.
pub const ASSIGNMENT_SLOT: &str = "assignment";

/// How the slot of a peer's record begins; its node id follows.
const PEER_PREFIX: &str = "peer/";

/// How the slot of the relays of one owner begins; `platform` or the organization's id follows.
const RELAYS_PREFIX: &str = "relays/";
const PLATFORM: &str = "platform";

/// Most relays in one chunk.
pub const RELAYS_MAX: usize = 64;

/// Slot of the relays of the platform (`None`) or of an organization.
pub fn relays_slot(owner: Option<OrganizationId>) -> String {
    match owner {
        None => format!("{RELAYS_PREFIX}{PLATFORM}"),
        Some(organization) => format!("{RELAYS_PREFIX}{organization}"),
    }
}

/// Whose relays a slot holds; `None` for a slot of another kind.
pub(crate) fn relays_of_slot(slot: &str) -> Option<Option<OrganizationId>> {
    match slot.strip_prefix(RELAYS_PREFIX)? {
        PLATFORM => Some(None),
        organization => organization.parse().ok().map(Some),
    }
}

/// Slot of one peer's record.
pub fn peer_slot(node: NodeId) -> String {
    format!("{PEER_PREFIX}{node}")
}

/// The node whose record a slot holds; `None` for a slot of another kind.
pub fn peer_of_slot(slot: &str) -> Option<NodeId> {
    slot.strip_prefix(PEER_PREFIX)?.parse().ok()
}

/// SHA-256("rap.chunk.v1\0" || encoded chunk).
pub fn chunk_id(bytes: &[u8]) -> Digest {
    Digest::of(&[b"rap.chunk.v1\0", bytes])
}

/// A chunk's content with its fields in range.
#[derive(Debug, Clone, PartialEq)]
pub enum ParsedChunk {
    /// Cluster CA and revocations.
    Trust(v1::TrustChunk),
    /// Cluster-wide limits.
    Policy(v1::PolicyChunk),
    /// One peer.
    Peer(NodeId, Box<v1::PeerRecord>),
    /// The node's own duties and addresses.
    Assignment(Box<v1::NodeAssignment>),
    /// The relays of the platform (`None`) or of an organization.
    Relays(Option<OrganizationId>, v1::RelaysChunk),
    /// A kind this version does not know. Signed, kept, not used.
    Unknown,
}

/// Reads the chunk that fills `slot`. The caller has checked its hash.
///
/// # Errors
/// `snapshot.chunk_invalid` if it does not decode, names another slot or a field is out of range.
pub fn parse_chunk(slot: &str, bytes: &[u8]) -> Result<ParsedChunk, Reject> {
    let invalid = |what| Reject::new(Reason::SnapshotChunkInvalid, what);
    Reject::when(bytes.len() > CHUNK_CAP, Reason::SnapshotTooLarge, "chunk")?;
    let chunk = v1::Chunk::decode(bytes).map_err(|_| invalid("does not decode"))?;
    if chunk.slot != slot {
        return Err(invalid("fills another slot"));
    }
    match chunk.body {
        Some(Body::Trust(trust)) if slot == TRUST_SLOT => check_trust(trust),
        Some(Body::Policy(policy)) if slot == POLICY_SLOT => check_policy(policy),
        Some(Body::Assignment(assignment)) if slot == ASSIGNMENT_SLOT => check_assignment(assignment),
        Some(Body::Peer(peer)) => check_peer(slot, peer),
        Some(Body::Relays(relays)) => check_relays(slot, relays),
        Some(_) => Err(invalid("kind does not belong in its slot")),
        None if [TRUST_SLOT, POLICY_SLOT, ASSIGNMENT_SLOT].contains(&slot)
            || slot.starts_with(PEER_PREFIX)
            || slot.starts_with(RELAYS_PREFIX) =>
        {
            Err(invalid("kind does not belong in its slot"))
        }
        None => Ok(ParsedChunk::Unknown),
    }
}

fn check_trust(trust: v1::TrustChunk) -> Result<ParsedChunk, Reject> {
    let invalid = |what| Reject::new(Reason::SnapshotChunkInvalid, what);
    if trust.cluster_ca.is_empty() {
        return Err(invalid("cluster_ca"));
    }
    if trust.next_ca_issues && trust.next_cluster_ca.is_empty() {
        return Err(invalid("next_ca_issues"));
    }
    for revoked in &trust.revoked {
        NodeId::from_slice(&revoked.node_id).map_err(|_| invalid("revoked node_id"))?;
    }
    if !trust.revoked.windows(2).all(|pair| pair[0].node_id < pair[1].node_id) {
        return Err(invalid("revocations are not sorted"));
    }
    if trust.revocation_digest.len() != if trust.revocation_sequence == 0 { 0 } else { 32 } {
        return Err(invalid("revocation_digest"));
    }
    Ok(ParsedChunk::Trust(trust))
}

fn check_policy(policy: v1::PolicyChunk) -> Result<ParsedChunk, Reject> {
    let invalid = |what| Reject::new(Reason::SnapshotChunkInvalid, what);
    if !(576..=9000).contains(&policy.mtu) {
        return Err(invalid("mtu"));
    }
    if policy.leaf_lifetime_ms == 0 || policy.degraded_for_ms > policy.leaf_lifetime_ms / 2 {
        return Err(invalid("degraded_for exceeds half of leaf_lifetime"));
    }
    Ok(ParsedChunk::Policy(policy))
}

fn check_assignment(assignment: v1::NodeAssignment) -> Result<ParsedChunk, Reject> {
    let invalid = |what| Reject::new(Reason::SnapshotChunkInvalid, what);
    NodeId::from_slice(&assignment.node_id).map_err(|_| invalid("assignment node_id"))?;
    for prefix in [&assignment.overlay_ipv4, &assignment.overlay_ipv6] {
        let (address, length) = prefix.split_once('/').ok_or(invalid("assignment overlay address"))?;
        let family: std::net::IpAddr = address.parse().map_err(|_| invalid("assignment overlay address"))?;
        let length: u8 = length.parse().map_err(|_| invalid("assignment overlay address"))?;
        if length > if family.is_ipv4() { 32 } else { 128 } {
            return Err(invalid("assignment overlay address"));
        }
    }
    if assignment.node_key_sha256.len() != 32 || assignment.wireguard_public_key.len() != 32 {
        return Err(invalid("assignment keys"));
    }
    Ok(ParsedChunk::Assignment(Box::new(assignment)))
}

fn check_peer(slot: &str, peer: v1::PeerRecord) -> Result<ParsedChunk, Reject> {
    let invalid = |what| Reject::new(Reason::SnapshotChunkInvalid, what);
    let node = NodeId::from_slice(&peer.node_id).map_err(|_| invalid("peer node_id"))?;
    if peer_of_slot(slot) != Some(node) {
        return Err(invalid("kind does not belong in its slot"));
    }
    check_peer_record(&peer)?;
    Ok(ParsedChunk::Peer(node, Box::new(peer)))
}

fn check_relays(slot: &str, chunk: v1::RelaysChunk) -> Result<ParsedChunk, Reject> {
    let invalid = |what| Reject::new(Reason::SnapshotChunkInvalid, what);
    let owner = relays_of_slot(slot).ok_or(invalid("kind does not belong in its slot"))?;
    if chunk.relays.is_empty() || chunk.relays.len() > RELAYS_MAX {
        return Err(invalid("number of relays"));
    }
    if chunk.relays.iter().any(|relay| NodeId::from_slice(&relay.node_id).is_err() || relay.region.len() > 63)
    {
        return Err(invalid("relay node_id or region"));
    }
    if !chunk.relays.windows(2).all(|pair| pair[0].node_id < pair[1].node_id) {
        return Err(invalid("relays are not sorted"));
    }
    Ok(ParsedChunk::Relays(owner, chunk))
}

/// What every peer record must be, in a chunk or in a grant.
pub(crate) fn check_peer_record(peer: &v1::PeerRecord) -> Result<(), Reject> {
    let invalid = |what| Reject::new(Reason::SnapshotChunkInvalid, what);
    NodeId::from_slice(&peer.node_id).map_err(|_| invalid("peer node_id"))?;
    // Without a WireGuard key the peer has links and no tunnel.
    if peer.node_key_sha256.len() != 32 || ![0, 32].contains(&peer.wireguard_public_key.len()) {
        return Err(invalid("peer keys"));
    }
    if peer.overlay_ipv4.parse::<std::net::Ipv4Addr>().is_err()
        || peer.overlay_ipv6.parse::<std::net::Ipv6Addr>().is_err()
    {
        return Err(invalid("peer overlay address"));
    }
    let endpoints = peer.link_endpoints.len() + peer.wireguard_endpoints.len();
    if endpoints > 64 || peer.name.len() > 253 {
        return Err(invalid("peer endpoints or name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> v1::PolicyChunk {
        v1::PolicyChunk {
            mtu: 1280,
            leaf_lifetime_ms: 86_400_000,
            degraded_for_ms: 43_200_000,
            ..Default::default()
        }
    }

    fn encoded(slot: &str, body: Option<Body>) -> Vec<u8> {
        v1::Chunk { slot: slot.into(), body }.encode_to_vec()
    }

    #[test]
    fn a_chunk_fills_only_the_slot_it_names() {
        let bytes = encoded(POLICY_SLOT, Some(Body::Policy(policy())));
        assert_eq!(parse_chunk(POLICY_SLOT, &bytes), Ok(ParsedChunk::Policy(policy())));
        assert_eq!(parse_chunk(TRUST_SLOT, &bytes).unwrap_err().what, "fills another slot");
        let misplaced = encoded(TRUST_SLOT, Some(Body::Policy(policy())));
        assert_eq!(parse_chunk(TRUST_SLOT, &misplaced).unwrap_err().what, "kind does not belong in its slot");
        assert_eq!(
            parse_chunk(TRUST_SLOT, &encoded(TRUST_SLOT, None)).unwrap_err().reason,
            Reason::SnapshotChunkInvalid
        );
    }

    #[test]
    fn an_unknown_kind_in_a_new_slot_is_kept_unused() {
        assert_eq!(parse_chunk("qos", &encoded("qos", None)), Ok(ParsedChunk::Unknown));
    }

    #[test]
    fn degraded_for_above_half_the_leaf_lifetime_is_refused() {
        let long = v1::PolicyChunk { degraded_for_ms: 43_200_001, ..policy() };
        assert!(parse_chunk(POLICY_SLOT, &encoded(POLICY_SLOT, Some(Body::Policy(long)))).is_err());
    }

    #[test]
    fn relays_are_those_of_one_owner_sorted_and_not_too_many() {
        let relays = |ids: &[u8]| {
            let entry = |id: &u8| v1::RelayEntry { node_id: vec![*id; 16], ..Default::default() };
            v1::RelaysChunk { relays: ids.iter().map(entry).collect() }
        };
        let read = |slot: &str, ids: &[u8]| {
            parse_chunk(slot, &encoded(slot, Some(Body::Relays(relays(ids))))).map_err(|reject| reject.what)
        };
        let owner = Some(OrganizationId::from_bytes([5; 16]));
        assert_eq!(read(&relays_slot(None), &[1, 2]), Ok(ParsedChunk::Relays(None, relays(&[1, 2]))));
        assert_eq!(read(&relays_slot(owner), &[1]), Ok(ParsedChunk::Relays(owner, relays(&[1]))));
        let slot = relays_slot(None);
        assert_eq!(read(&slot, &[]), Err("number of relays"));
        assert_eq!(read(&slot, &(1..=65).collect::<Vec<u8>>()), Err("number of relays"));
        assert_eq!(read(&slot, &[2, 1]), Err("relays are not sorted"));
        assert_eq!(read(&slot, &[1, 1]), Err("relays are not sorted"));
        for wrong in ["relays/", "relays/somebody", "peer/platform", POLICY_SLOT] {
            assert_eq!(read(wrong, &[1]), Err("kind does not belong in its slot"), "{wrong}");
        }
        assert!(
            parse_chunk(&slot, &encoded(&slot, None)).is_err(),
            "a slot of a known kind without its kind"
        );
    }

    #[test]
    fn a_peer_record_in_another_peers_slot_is_refused() {
        let peer = v1::PeerRecord {
            node_id: NodeId::from_bytes([1; 16]).to_vec(),
            node_key_sha256: vec![0; 32],
            wireguard_public_key: vec![0; 32],
            overlay_ipv4: "100.96.0.2".into(),
            overlay_ipv6: "fd00::2".into(),
            ..Default::default()
        };
        let right = peer_slot(NodeId::from_bytes([1; 16]));
        let wrong = peer_slot(NodeId::from_bytes([2; 16]));
        assert!(parse_chunk(&right, &encoded(&right, Some(Body::Peer(peer.clone())))).is_ok());
        assert!(parse_chunk(&wrong, &encoded(&wrong, Some(Body::Peer(peer)))).is_err());
    }
}
