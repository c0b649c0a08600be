//! Break-glass grants on disk: those that were applied here, and which of them the control plane has.
//!
//! Owns the record. Refuses to judge a grant: `rap_trust::BreakGlass` verifies it again at every start.

use rap_runtime::Fault;
use rap_state::{MembershipDir, Record, SignedBytes};
use rap_trust::{StoredBreakGlass, StoredBreakGlassGrant};
use rap_types::{Digest, Wall};
use serde::{Deserialize, Serialize};

use super::records::Kept;

/// The file's contents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grants {
    held: Vec<Grant>,
    spent: Vec<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    file: SignedBytes,
    digest: Digest,
    applied_at: Wall,
    acknowledged: bool,
    /// Written only where it is true: a release before knows nothing of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dropped: bool,
}

impl Record for Grants {
    const SCHEMA: &'static str = "rap.break_glass.v1";
}

impl Kept for Grants {
    const FILE: &'static str = "break-glass.json";
}

/// The grants of a membership; none if none was ever applied. Damage to both copies is an error: a grant could be
/// applied twice. Blocks.
///
/// # Errors
/// An error of local state.
pub fn stored_grants(dir: &MembershipDir) -> Result<StoredBreakGlass, Fault> {
    let grants = Grants::read(dir)?.unwrap_or_default();
    let held = grants.held.into_iter().map(|grant| StoredBreakGlassGrant {
        file: grant.file.0,
        digest: grant.digest,
        applied_at: grant.applied_at,
        acknowledged: grant.acknowledged,
        dropped: grant.dropped,
    });
    Ok(StoredBreakGlass { held: held.collect(), spent: grants.spent })
}

/// Replaces what is stored; it is on disk when this returns. Blocks.
///
/// # Errors
/// An error of local state.
pub fn store_grants(dir: &MembershipDir, stored: StoredBreakGlass) -> Result<(), Fault> {
    let held = stored.held.into_iter().map(|grant| Grant {
        file: SignedBytes(grant.file),
        digest: grant.digest,
        applied_at: grant.applied_at,
        acknowledged: grant.acknowledged,
        dropped: grant.dropped,
    });
    Grants { held: held.collect(), spent: stored.spent }.replace(dir)
}
