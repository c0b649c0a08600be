//! Signed documents of RAP Fabric Core: build, sign, verify.
//!
//! Owns the envelope, keys and their purposes, every signed object, and stateless verification of a
//! snapshot. Refuses to own floors, freshness state and storage (rap-trust, rap-state), key custody
//! (rap-authority), and any I/O.

#![cfg_attr(
    not(test),
    warn(clippy::wildcard_enum_match_arm, clippy::unwrap_used, clippy::await_holding_lock)
)]

mod activation;
mod audit_entry;
mod audit_export;
mod audit_tree;
mod authority;
mod bootstrap;
mod break_glass;
mod checkpoint;
mod chunk;
mod chunks_by_id;
mod contents;
mod document;
mod envelope;
mod export;
mod head;
mod header;
mod key_file;
mod keys;
mod keyset;
mod known_revocations;
mod leaf;
mod log_key;
mod manifest;
mod merkle;
mod path_install;
mod possession;
mod relay_row;
mod revocation;
mod revocation_chain;
mod role_grants;
mod shared_map;
mod snapshot;
mod token;
mod verify;

pub use activation::{ActivationTerms, open_activation_request, sign_activation};
pub use audit_entry::{AuditEntry, ENTRY_CAP};
pub use audit_export::{AUDIT_EXPORT_CAP, VerifiedAuditExport, encode_audit_export, open_audit_export};
pub use audit_tree::{
    AuditFrontier, AuditTree, audit_leaf_hash, check_audit_consistency, check_audit_inclusion,
};
pub use authority::AuthorityChain;
pub use bootstrap::{BootstrapExpectation, VerifiedBootstrap, open_bootstrap};
pub use break_glass::{
    BreakGlassExpectation, BreakGlassOrder, BreakGlassSigner, BreakGlassText, VerifiedBreakGlass,
    sign_break_glass,
};
pub use checkpoint::Checkpoint;
pub use chunk::{
    ASSIGNMENT_SLOT, CHUNK_CAP, POLICY_SLOT, ParsedChunk, RELAYS_MAX, TRUST_SLOT, chunk_id, parse_chunk,
    peer_of_slot, peer_slot, relays_slot,
};
pub use chunks_by_id::ChunksById;
pub use contents::SnapshotContents;
pub use document::Document;
pub use envelope::{Envelope, pre_authentication_encoding, sign};
pub use export::{EXPORT_CAP, ExportSummary, VerifiedExport, encode_export, open_export};
pub use head::HeadFacts;
pub use header::{Audience, HeaderTerms};
pub use key_file::{KEY_FILE_SCHEMA, KeyFile, Protection, PublicKeyFile};
pub use keys::{PublicKey, Signer};
pub use keyset::{KeySet, KeyState};
pub use known_revocations::KnownRevocations;
pub use leaf::{LEAF_CAP, LeafDocument, LeafKey, LeafTrust, sign_by_leaf};
pub use log_key::{LogGeneration, LogKeyChain, LogKeyTerms, sign_log_key};
pub use manifest::{Manifest, ManifestPreimage, SLOTS_CAP, slot_bucket};
pub use merkle::{MerkleTree, leaf_hash, root_from_proof};
pub use path_install::{PATH_HOPS_MAX, PATH_LIFETIME, PathInstall, PathInstallExpectation, PathNext};
pub use possession::{
    CERTIFICATE_PROOF, EXPORTER_LABEL, JOIN_PROOF, LEAVE_PROOF, LOGIN_PROOF, POLL_PROOF, ROTATE_KEY_PROOF,
    check_possession, sign_possession,
};
pub use rap_types::Reject;
pub use relay_row::{RELAY_LINKS_MAX, RelayLink, RelayRow};
pub use revocation::{Revocation, RevocationKind};
pub use revocation_chain::{RevocationChain, Standing};
pub use role_grants::{ROLE_GRANT_SET_CAP, ROLE_GRANT_SET_LIFE, RoleGrantSet, RoleGrantTerms, RoleGrants};
pub use shared_map::SharedMap;
pub use snapshot::{HeldParts, RootedSnapshot, SnapshotParts, VerifiedSnapshot};
pub use token::{JoinTokenText, join_secret_hash};
pub use verify::{Expectation, Verified, verify};

/// Critical feature of everything a development installation signs.
pub const FEATURE_DEV: &str = "dev";
