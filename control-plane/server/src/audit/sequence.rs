//! The sequencer: one replica at a time gives entries their places and signs checkpoints.
//!
//! The order of places is that of commits as far as anybody can tell: an entry whose transaction ended
//! before another one drew its number has the lower place. Every committed row without a place is
//! looked for at each step, whatever its number, so a row that commits late is placed late and never
//! skipped. Its term is owned by `audit/term`. Refuses to sign what it did not read again from committed rows.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::{Checkpoint, Signer, audit_leaf_hash};
use rap_store::{
    CheckpointInsert, CheckpointRow, PgConnection, audit_checkpoint_insert, audit_sequence,
    audit_unsequenced, log_keys,
};
use rap_types::Reason;
use tokio_util::sync::CancellationToken;

use crate::audit::alarm::{alarm, raise_floor};
use crate::audit::follow::{check_row, follow_in_turn, sweep};
use crate::audit::generation;
use crate::audit::log::{AuditFinding, AuditLog, Signed};
use crate::audit::term::{LogKey, fenced};
use crate::database::handle::{Database, transact};
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::keys::seal_context::Sealed;
use crate::watch::handle::Watch;

/// Follows the log, and sequences it while this replica has the lease, until the group is cancelled.
pub async fn keep_audit(watch: Arc<Watch>, log: Arc<AuditLog>, shutdown: CancellationToken) {
    loop {
        if let Err(failure) = step(&watch, &log).await {
            tracing::warn!(reason = %failure.reason, "the audit log waits: {}", failure.message);
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    log.turn.lock().await.release(&watch.database).await;
    log.state().sequencer = false;
}

/// One round: at most one checkpoint is signed in it.
async fn step(watch: &Watch, log: &AuditLog) -> Result<(), Failure> {
    let mut sequencer = log.turn.lock().await;
    let term = sequencer.hold(&watch.database).await?;
    log.state().sequencer = term.is_some();
    follow_in_turn(watch, log).await?;
    if let Some(term) = term
        && log.finding().is_none()
    {
        sequence_all(watch, log, term).await?;
        if log.finding().is_none() && log.keys().is_none() {
            generation::begin(watch, log, term, "the log begins").await?;
        }
        if log.finding().is_none() {
            sign(watch, log, term, &mut sequencer.key).await?;
        }
    }
    sweep(watch, log).await?;
    log.round_ended();
    Ok(())
}

/// Gives every committed entry its place, and reads each again from its committed row.
pub(super) async fn sequence_all(watch: &Watch, log: &AuditLog, term: u64) -> Result<(), Failure> {
    loop {
        let place =
            transact!(watch.database.store, |connection| { place(&watch.keys, log, connection, term).await });
        match place? {
            Err(finding) => {
                alarm(watch, log, finding);
                return Ok(());
            }
            Ok(0) => return Ok(()),
            Ok(_) => follow_in_turn(watch, log).await?,
        }
        if log.finding().is_some() {
            return Ok(());
        }
    }
}

async fn place(
    keys: &Keys,
    log: &AuditLog,
    connection: &mut PgConnection,
    term: u64,
) -> Result<Result<usize, AuditFinding>, Failure> {
    let rows = audit_unsequenced(connection, BATCH).await?;
    if rows.is_empty() {
        return Ok(Ok(0));
    }
    let begun = log.keys().is_some();
    let (size, mut frontier) = {
        let state = log.state();
        let size = state.tree.size();
        let frontier = state.tree.frontier(size);
        (size, frontier.ok_or_else(|| Failure::new(Reason::ServerInternal, "frontier"))?)
    };
    for row in &rows {
        if let Err(finding) = check_row(keys, row, begun) {
            return Ok(Err(finding));
        }
        frontier.push(audit_leaf_hash(&row.entry.encode()));
    }
    let numbers: Vec<u64> = rows.iter().map(|row| row.entry.entry).collect();
    if audit_sequence(connection, term, size, &numbers, frontier.hashes()).await? {
        Ok(Ok(rows.len()))
    } else {
        Err(fenced())
    }
}

/// Signs for what was followed, if that is more than the newest checkpoint covers.
async fn sign(watch: &Watch, log: &AuditLog, term: u64, key: &mut Option<LogKey>) -> Result<(), Failure> {
    let Some(keys) = log.keys() else { return Ok(()) };
    let generation = keys.newest().generation;
    let (checkpoint, newest) = {
        let state = log.state();
        let size = state.tree.size();
        let Some(root) = state.tree.root(size) else { return Ok(()) };
        (Checkpoint { generation, size, root }, state.newest.clone())
    };
    if newest.is_some_and(|newest| newest.checkpoint >= checkpoint) {
        return Ok(());
    }
    if key.as_ref().is_none_or(|key| key.generation != generation) {
        *key = Some(open_key(&watch.keys, &watch.database, generation).await?);
    }
    let Some(LogKey { signer, .. }) = key else { return Ok(()) };
    if signer.public() != keys.newest().key {
        alarm(watch, log, AuditFinding::tampered("the stored log key is another one"));
        return Ok(());
    }
    let facts = &watch.keys.installation.facts;
    let note = checkpoint.sign(facts.id, signer);
    let row = CheckpointRow { generation, size: checkpoint.size, root: checkpoint.root, note };
    let inserted = transact!(watch.database.store, |connection| {
        Ok(audit_checkpoint_insert(connection, term, &row).await?)
    });
    match inserted? {
        CheckpointInsert::Inserted => {
            raise_floor(&watch.database, &checkpoint).await?;
            watch.metrics.checkpoint_signed();
            log.adopt(Signed { checkpoint, note: row.note });
        }
        // This replica was killed between the write and its answer, or another signed first.
        CheckpointInsert::Present(present) if present.root == checkpoint.root => {}
        CheckpointInsert::Present(_) => alarm(watch, log, AuditFinding::tampered("two roots for one size")),
        CheckpointInsert::Fenced => return Err(fenced()),
    }
    Ok(())
}

async fn open_key(keys: &Keys, database: &Database, generation: u64) -> Result<LogKey, Failure> {
    let mut transaction = database.store.system().begin().await?;
    let rows = log_keys(&mut transaction).await?;
    let row = rows.iter().find(|row| row.generation == generation);
    let row = row.ok_or_else(|| Failure::new(Reason::AuditRollback, "the audit log key is gone"))?;
    let installation = keys.installation.facts.id;
    let seed = Sealed::LogKey(generation).open32(&keys.kek, installation, &row.sealed_private_key)?;
    Ok(LogKey { generation, signer: Signer::from_seed(&seed) })
}

/// Rows that get their places in one transaction.
const BATCH: u32 = 1000;

/// Between two rounds, and so the least time between two checkpoints.
const EVERY: Duration = Duration::from_secs(1);
