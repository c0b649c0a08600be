//! The sequencer: one replica at a time gives entries their places and signs checkpoints.
//!
//! The order of places is that of commits as far as anybody can tell: an entry whose transaction ended
//! before another one drew its number has the lower place. Every committed row without a place is
//! looked for at each step, whatever its number, so a row that commits late is placed late and never
//! skipped. Owns the lease. Refuses to sign what it did not read again from committed rows.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::{Checkpoint, Signer, audit_leaf_hash};
use rap_store::{
    CheckpointInsert, CheckpointRow, PgConnection, audit_checkpoint_insert, audit_lease_end,
    audit_lease_renew, audit_lease_seize, audit_lease_take, audit_sequence, audit_unsequenced, log_keys,
};
use rap_types::Reason;

use super::follow::{check_row, follow_in_turn, sweep};
use super::generation;
use super::log::{Finding, Signed, alarm, raise_floor};
use crate::control::Control;
use crate::custody::Sealed;
use crate::grpc::Failure;

/// The lease of this replica on the sequence, and the key it signs with.
#[derive(Debug)]
pub(super) struct Holder {
    id: [u8; 16],
    fence: Option<u64>,
    key: Option<LogKey>,
}

impl Holder {
    pub(super) fn new() -> Self {
        Self { id: rap_authority::ids::random(&mut rand::rng()), fence: None, key: None }
    }

    /// The fence, whoever has the lease now.
    pub(super) async fn seize(&mut self, control: &Control) -> Result<u64, Failure> {
        let id = self.id;
        let fence: Result<u64, Failure> =
            rap_store::transact!(control.store.system(), |connection| audit_lease_seize(
                connection, id, LEASE
            )
            .await
            .map_err(Failure::from));
        let fence = fence?;
        self.fence = Some(fence);
        Ok(fence)
    }

    /// The fence, if this replica has or gets the lease.
    pub(super) async fn hold(&mut self, control: &Control) -> Result<Option<u64>, Failure> {
        let (id, held) = (self.id, self.fence);
        let fence: Result<Option<u64>, Failure> =
            rap_store::transact!(control.store.system(), |connection| {
                held_or_taken(connection, id, held).await
            });
        self.fence = fence?;
        control.audit.state().sequencer = self.fence.is_some();
        Ok(self.fence)
    }

    /// Gives the lease back.
    pub(super) async fn release(&mut self, control: &Control) {
        let (id, Some(fence)) = (self.id, self.fence.take()) else { return };
        let ended: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
            audit_lease_end(connection, id, fence).await.map_err(Failure::from)
        });
        control.audit.state().sequencer = false;
        if let Err(failure) = ended {
            tracing::debug!(reason = %failure.reason, "the sequencer's lease runs out by itself");
        }
    }
}

async fn held_or_taken(
    connection: &mut PgConnection,
    id: [u8; 16],
    held: Option<u64>,
) -> Result<Option<u64>, Failure> {
    if let Some(fence) = held
        && audit_lease_renew(connection, id, fence, LEASE).await?
    {
        return Ok(Some(fence));
    }
    Ok(audit_lease_take(connection, id, LEASE).await?)
}

/// Follows the log, and sequences it while this replica has the lease, until the group is cancelled.
pub async fn keep_audit(control: Arc<Control>) {
    let shutdown = control.tasks.token();
    loop {
        if let Err(failure) = step(&control).await {
            tracing::warn!(reason = %failure.reason, "the audit log waits: {}", failure.message);
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    control.audit.turn.lock().await.release(&control).await;
}

/// One round: at most one checkpoint is signed in it.
async fn step(control: &Control) -> Result<(), Failure> {
    let mut holder = control.audit.turn.lock().await;
    let fence = holder.hold(control).await?;
    follow_in_turn(control).await?;
    if let Some(fence) = fence
        && control.audit.finding().is_none()
    {
        place_all(control, fence).await?;
        if control.audit.finding().is_none() && control.audit.keys().is_none() {
            generation::begin(control, fence, "the log begins").await?;
        }
        if control.audit.finding().is_none() {
            sign(control, fence, &mut holder.key).await?;
        }
    }
    sweep(control).await?;
    control.audit.round_ended();
    Ok(())
}

/// Gives every committed entry its place, and reads each again from its committed row.
pub(super) async fn place_all(control: &Control, fence: u64) -> Result<(), Failure> {
    loop {
        let placed: Result<Result<usize, Finding>, Failure> =
            rap_store::transact!(control.store.system(), |connection| place(control, connection, fence)
                .await);
        match placed? {
            Err(finding) => {
                alarm(control, finding);
                return Ok(());
            }
            Ok(0) => return Ok(()),
            Ok(_) => follow_in_turn(control).await?,
        }
        if control.audit.finding().is_some() {
            return Ok(());
        }
    }
}

async fn place(
    control: &Control,
    connection: &mut PgConnection,
    fence: u64,
) -> Result<Result<usize, Finding>, Failure> {
    let rows = audit_unsequenced(connection, BATCH).await?;
    if rows.is_empty() {
        return Ok(Ok(0));
    }
    let begun = control.audit.keys().is_some();
    let (size, mut frontier) = {
        let state = control.audit.state();
        let size = state.tree.size();
        let frontier = state.tree.frontier(size);
        (size, frontier.ok_or_else(|| Failure::new(Reason::ServerInternal, "frontier"))?)
    };
    for row in &rows {
        if let Err(finding) = check_row(control, row, begun) {
            return Ok(Err(finding));
        }
        frontier.push(audit_leaf_hash(&row.entry.encode()));
    }
    let numbers: Vec<u64> = rows.iter().map(|row| row.entry.entry).collect();
    if audit_sequence(connection, fence, size, &numbers, frontier.hashes()).await? {
        Ok(Ok(rows.len()))
    } else {
        Err(fenced())
    }
}

/// The key of a generation.
#[derive(Debug)]
struct LogKey {
    generation: u64,
    signer: Signer,
}

/// Signs for what was followed, if that is more than the newest checkpoint covers.
async fn sign(control: &Control, fence: u64, key: &mut Option<LogKey>) -> Result<(), Failure> {
    let Some(keys) = control.audit.keys() else { return Ok(()) };
    let generation = keys.newest().generation;
    let (checkpoint, newest) = {
        let state = control.audit.state();
        let size = state.tree.size();
        let Some(root) = state.tree.root(size) else { return Ok(()) };
        (Checkpoint { generation, size, root }, state.newest.clone())
    };
    if newest.is_some_and(|newest| newest.checkpoint >= checkpoint) {
        return Ok(());
    }
    if key.as_ref().is_none_or(|key| key.generation != generation) {
        *key = Some(open_key(control, generation).await?);
    }
    let Some(LogKey { signer, .. }) = key else { return Ok(()) };
    if signer.public() != keys.newest().key {
        alarm(control, Finding::tampered("the stored log key is another one"));
        return Ok(());
    }
    let facts = &control.installation.facts;
    let note = checkpoint.sign(facts.id, signer);
    let row = CheckpointRow { generation, size: checkpoint.size, root: checkpoint.root, note };
    let inserted: Result<CheckpointInsert, Failure> =
        rap_store::transact!(control.store.system(), |connection| {
            audit_checkpoint_insert(connection, fence, &row).await.map_err(Failure::from)
        });
    match inserted? {
        CheckpointInsert::Inserted => {
            raise_floor(control, &checkpoint).await?;
            control.metrics.checkpoint_signed();
            control.audit.adopt(Signed { checkpoint, note: row.note });
        }
        // This replica was killed between the write and its answer, or another signed first.
        CheckpointInsert::Present(present) if present.root == checkpoint.root => {}
        CheckpointInsert::Present(_) => alarm(control, Finding::tampered("two roots for one size")),
        CheckpointInsert::Fenced => return Err(fenced()),
    }
    Ok(())
}

async fn open_key(control: &Control, generation: u64) -> Result<LogKey, Failure> {
    let mut transaction = control.store.system().begin().await?;
    let rows = log_keys(&mut transaction).await?;
    let row = rows.iter().find(|row| row.generation == generation);
    let row = row.ok_or_else(|| Failure::new(Reason::AuditRollback, "the audit log key is gone"))?;
    let installation = control.installation.facts.id;
    let seed = Sealed::LogKey(generation).open32(&control.kek, installation, &row.sealed_private_key)?;
    Ok(LogKey { generation, signer: Signer::from_seed(&seed) })
}

pub(super) fn fenced() -> Failure {
    Failure::new(Reason::AuditFenced, "another replica took over the audit log")
}

/// Rows that get their places in one transaction.
const BATCH: u32 = 1000;
/// Between two rounds, and so the least time between two checkpoints.
const EVERY: Duration = Duration::from_secs(1);
/// Life of the lease.
const LEASE: Duration = Duration::from_secs(5);
