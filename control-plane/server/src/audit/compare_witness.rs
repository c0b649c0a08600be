//! What a node shows of the audit log, compared with what is here.
//!
//! A node keeps the largest checkpoint it verified. If that is ours and larger than the database, or
//! of another history, the database was put back or rewritten: nothing more is signed.

use rap_contract::Checkpoint;
use rap_types::NodeId;

use crate::audit::alarm::alarm;
use crate::audit::follow::follow;
use crate::audit::log::AuditFinding;
use crate::audit::log::AuditLog;
use crate::failure::Failure;
use crate::watch::handle::Watch;

/// Compares a note that a node holds; returns its (generation, size) if it may be continued from.
///
/// # Errors
/// What the database answers, as [`StoreError`](rap_store::StoreError) or its reason.
pub async fn compare_witness(
    watch: &Watch,
    log: &AuditLog,
    node: NodeId,
    note: &[u8],
) -> Result<Option<(u64, u64)>, Failure> {
    let Some((generation, size)) = Checkpoint::peek(note) else {
        tracing::warn!(%node, "a node shows a checkpoint that does not read");
        return Ok(None);
    };
    let known = || {
        let newest = log.keys().map_or(0, |keys| keys.newest().generation);
        newest >= generation && log.root(size).is_some()
    };
    if !known() {
        // Another replica may have signed it a moment ago.
        follow(watch, log).await?;
    }
    let Some(keys) = log.keys() else { return Ok(None) };
    if generation < keys.newest().generation {
        // Of a life of the log that ended; the node walks on by the key records.
        return Ok(Some((generation, size)));
    }
    match Checkpoint::open(note, &keys) {
        Ok(shown) => match log.root(shown.size) {
            Some(root) if root == shown.root => Ok(Some((generation, size))),
            Some(_) => {
                alarm(
                    watch,
                    log,
                    AuditFinding::inconsistent("a node holds a signed checkpoint of another history"),
                );
                Ok(None)
            }
            None => {
                alarm(
                    watch,
                    log,
                    AuditFinding::rollback("a node holds a signed checkpoint above the database"),
                );
                Ok(None)
            }
        },
        Err(reject) => {
            tracing::warn!(%node, reason = %reject.reason, "a node shows a checkpoint that does not verify");
            Ok(None)
        }
    }
}
