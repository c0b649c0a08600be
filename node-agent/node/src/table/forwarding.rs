//! A forwarding table and its limits.

use prost::Message as _;
use rap_types::{Reason, limits};
use rap_wire::v1;
use zeroize::Zeroize as _;

use crate::endpoint_names::EndpointNames;

/// A forwarding table. Carries private keys: prints only its version and is wiped when dropped.
#[derive(Clone, PartialEq)]
pub struct ForwardingTable {
    version: u64,
    /// Everything but version, peers and revoked.
    pub(super) header: v1::ForwardingTable,
    pub(super) peers: Vec<v1::TablePeer>,
    pub(super) revoked: Vec<v1::TableRevoked>,
}

impl ForwardingTable {
    /// A table of these parts; `header` has neither version nor peers nor revocations.
    pub(super) const fn new(
        version: u64,
        header: v1::ForwardingTable,
        peers: Vec<v1::TablePeer>,
        revoked: Vec<v1::TableRevoked>,
    ) -> Self {
        Self { version, header, peers, revoked }
    }

    /// The peers of the table.
    pub(crate) fn peers(&self) -> &[v1::TablePeer] {
        &self.peers
    }

    /// The same, with the addresses of every name among the endpoints of its peers.
    pub(crate) fn with_addresses(mut self, names: &EndpointNames) -> Self {
        for peer in &mut self.peers {
            peer.link_endpoints = names.with_addresses(std::mem::take(&mut peer.link_endpoints));
            peer.wireguard_endpoints = names.with_addresses(std::mem::take(&mut peer.wireguard_endpoints));
        }
        self
    }

    /// The version of the table; above that of every table before it.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The whole table as one message, whatever its size.
    pub fn message(&self) -> v1::ForwardingTable {
        let (peers, revoked) = (self.peers.clone(), self.revoked.clone());
        v1::ForwardingTable { version: self.version, peers, revoked, ..self.header.clone() }
    }

    /// Whether a data plane that speaks `protocol` takes it.
    ///
    /// # Errors
    /// `dataplane.table_too_large`.
    pub(super) fn check(&self, protocol: u32) -> Result<(), Reason> {
        let in_parts = protocol >= PROTOCOL_OF_CHANGES;
        let peers = if in_parts { limits::TABLE_PEERS_MAX } else { limits::TABLE_PEERS_MAX_V1 };
        let fits = self.peers.len() <= peers && self.revoked.len() <= limits::TABLE_REVOKED_MAX;
        if fits && (in_parts || self.fits_one_message()) {
            Ok(())
        } else {
            Err(Reason::DataplaneTableTooLarge)
        }
    }

    pub(super) fn fits_one_message(&self) -> bool {
        let peers: usize = self.peers.iter().map(|peer| peer.encoded_len() + ENTRY).sum();
        let revoked: usize = self.revoked.iter().map(|revoked| revoked.encoded_len() + ENTRY).sum();
        self.header.encoded_len() + peers + revoked <= MESSAGE_ROOM
    }

    /// This table with the revocations of `other` in addition, under the version of `other`.
    pub(super) fn restricted_by(&self, other: &Self) -> Self {
        let mut table = self.clone();
        table.version = other.version;
        table.revoked.extend(other.revoked.iter().cloned());
        table
    }
}

impl Drop for ForwardingTable {
    fn drop(&mut self) {
        self.header.wireguard_private_key.zeroize();
        if let Some(identity) = &mut self.header.identity {
            identity.private_key.zeroize();
        }
        for peer in &mut self.peers {
            peer.preshared_key.zeroize();
        }
    }
}

rap_types::debug_as!(
    ForwardingTable,
    |table| "ForwardingTable(version {}, {} peers)",
    table.version,
    table.peers.len()
);

/// The first protocol with parts, changes and commands for revocations.
pub(super) const PROTOCOL_OF_CHANGES: u32 = 2;
/// Bytes for a table in one message; the rest is for what is around it.
pub(super) const MESSAGE_ROOM: usize = limits::DATAPLANE_FRAME_MAX - 1024;
/// Bytes of an entry's tag and length.
pub(super) const ENTRY: usize = 8;
