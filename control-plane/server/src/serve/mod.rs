//! What this replica serves: clusters, revocations in force, sessions, dial hints.
//!
//! Owns the state in memory and how it is read from rows. Refuses to change a row on behalf of a caller
//! (`acts`).

pub mod authority_chain;
pub mod cluster;
pub mod cluster_cas;
pub mod clusters;
pub mod confirmations;
pub mod contact_log;
pub mod contacts;
pub mod diagnose;
pub mod dial_hints;
pub mod errands;
pub mod feed;
pub mod grant_memory;
pub mod handle;
pub mod identities;
pub mod identity_doubts;
pub mod in_force;
pub mod known_revocations;
pub mod load;
pub mod node_reports;
pub mod operator_sessions;
pub mod policies;
pub mod revocations;
pub mod revoked_tokens;
pub mod role_grants;
pub mod sessions;
pub mod told;
pub mod wake;
