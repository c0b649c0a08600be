//! Break-glass grants on disk: those that were applied here, and which of them the control plane has.
//!
//! Owns the record. Refuses to judge a grant: `rap_trust::BreakGlass` verifies it again at every start.

use rap_runtime::Fault;
use rap_state::{Durable, MembershipDir, Record, SignedBytes};
use rap_trust::{StoredBreakGlass, StoredBreakGlassGrant};
use rap_types::{Digest, Wall};
use serde::{Deserialize, Serialize};

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
}

impl Record for Grants {
    const SCHEMA: &'static str = "rap.break_glass.v1";
}

/// The grants of one membership, on disk. Calls block.
#[derive(Debug)]
pub struct BreakGlassStore(Durable<Grants>);

impl BreakGlassStore {
    /// Reads the record; an absent one is empty. Damage to both copies is an error: a grant could be
    /// applied twice.
    ///
    /// # Errors
    /// Those of state.
    pub fn open(dir: &MembershipDir) -> Result<Self, Fault> {
        Durable::open(&dir.join("break-glass.json")).map(|(record, _)| Self(record)).map_err(Fault::from)
    }

    /// What is stored.
    pub fn stored(&self) -> StoredBreakGlass {
        let Some(grants) = self.0.value() else { return StoredBreakGlass::default() };
        let held = grants.held.iter().map(|grant| StoredBreakGlassGrant {
            file: grant.file.0.clone(),
            digest: grant.digest,
            applied_at: grant.applied_at,
            acknowledged: grant.acknowledged,
        });
        StoredBreakGlass { held: held.collect(), spent: grants.spent.clone() }
    }

    /// Replaces what is stored; it is on disk when this returns.
    ///
    /// # Errors
    /// Those of state.
    pub fn store(&mut self, stored: StoredBreakGlass) -> Result<(), Fault> {
        let held = stored.held.into_iter().map(|grant| Grant {
            file: SignedBytes(grant.file),
            digest: grant.digest,
            applied_at: grant.applied_at,
            acknowledged: grant.acknowledged,
        });
        self.0.store(Grants { held: held.collect(), spent: stored.spent }).map_err(Fault::from)
    }
}
