//! Findings about the audit log, and the floor that a checkpoint raises.

use rap_authority::{Floor, FloorOf};
use rap_contract::Checkpoint;

use crate::audit::log::AuditFinding;
use crate::audit::log::AuditLog;
use crate::database::handle::Database;
use crate::failure::Failure;
use crate::watch::handle::Watch;

/// Counts and logs a finding, once.
pub(crate) fn alarm(watch: &Watch, log: &AuditLog, finding: AuditFinding) {
    if log.found(finding) {
        watch.alarm(finding.reason, finding.what);
    }
}

/// A checkpoint's place among the floors of this replica: generations first, then sizes.
pub(crate) fn floor(checkpoint: &Checkpoint) -> (FloorOf, Floor) {
    let sequence = checkpoint.generation << GENERATION_SHIFT | checkpoint.size;
    (FloorOf::Checkpoint, Floor { sequence, digest: checkpoint.root })
}

/// Raises the floor to a checkpoint that is stored. A replica without floors stays without: it gets them
/// from a person, not from its database.
pub(crate) async fn raise_floor(database: &Database, checkpoint: &Checkpoint) -> Result<(), Failure> {
    if !database.floors.exists() {
        return Ok(());
    }
    let (of, at) = floor(checkpoint);
    database.floors.raise(of, at).await
}

/// The checkpoint that a floor stands for.
pub(crate) fn checkpoint_of(floor: &Floor) -> Checkpoint {
    Checkpoint {
        generation: floor.sequence >> GENERATION_SHIFT,
        size: floor.sequence & ((1 << GENERATION_SHIFT) - 1),
        root: floor.digest,
    }
}

/// Sizes have 48 bits: at a thousand entries a second that is nine thousand years.
const GENERATION_SHIFT: u32 = 48;

#[cfg(test)]
mod tests {
    use rap_types::Digest;

    use super::*;

    #[test]
    fn a_floor_stands_for_its_checkpoint_and_a_later_generation_is_higher() {
        let root = Digest::from_bytes([1; 32]);
        let first = Checkpoint { generation: 1, size: u64::from(u32::MAX), root };
        let second = Checkpoint { generation: 2, size: 0, root };
        assert_eq!(checkpoint_of(&floor(&first).1), first);
        assert_eq!(checkpoint_of(&floor(&second).1), second);
        assert!(floor(&second).1.sequence > floor(&first).1.sequence);
    }
}
