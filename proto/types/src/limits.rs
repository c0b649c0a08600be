//! Sizes that more than one program must agree on: who makes a thing refuses it at the limit of who takes it.
//!
//! Owns the numbers. Refuses to own limits that one crate keeps alone.

/// Peers in one forwarding table, and so peers that one node may know. The planner refuses a scope above it; the
/// agent does not send, and the data plane does not take, a larger table (`dataplane.table_too_large`).
pub const TABLE_PEERS_MAX: usize = 8192;

/// The same towards a data plane that speaks protocol 1 only.
pub const TABLE_PEERS_MAX_V1: usize = 4096;

/// Peers that a node without a role may know. The planner refuses the node that would be one more.
pub const PLAIN_PEERS_MAX: usize = 2048;

/// Bytes of an update that brings a whole snapshot. The planner keeps every scope below it: the message with the
/// update must pass the 4 MiB that either side of a stream takes.
pub const UPDATE_BYTES_MAX: usize = 7 * 512 * 1024;

/// Revoked nodes in one forwarding table.
pub const TABLE_REVOKED_MAX: usize = 65_536;

/// Prefixes in one forwarding table that this node forwards for.
pub const TABLE_ROUTED_MAX: usize = 256;

/// Prefixes of one peer in a forwarding table.
pub const PEER_PREFIXES_MAX: usize = 256;

/// Peers that a node dials of its own accord. It accepts a link with every peer that its table marks.
pub const ACTIVE_SET_MAX: usize = 512;

/// Bytes of one message between agent and data plane. A table above it goes in parts.
pub const DATAPLANE_FRAME_MAX: usize = 1024 * 1024;
