//! Reads what the database holds of the audit log and compares it with what was verified before.
//!
//! Owns the checks. Every leaf is read and hashed by this replica itself; a stored hash is compared,
//! never believed.

use std::cmp::Ordering;

use rap_authority::{Floor, FloorOf, known_features};
use rap_contract::{AuditFrontier, Checkpoint, LogKeyChain, audit_leaf_hash};
use rap_store::{
    AuditRow, AuditTreeRow, CheckpointRow, LogKeyRow, audit_checkpoint_newest, audit_leaves, audit_tree_read,
    audit_waiting, log_keys,
};
use rap_types::Digest;

use crate::audit::alarm::{alarm, checkpoint_of, raise_floor};
use crate::audit::log::AuditLog;
use crate::audit::log::{AuditFinding, Signed, State};
use crate::database::handle::Database;
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::watch::handle::Watch;

/// Brings this replica's tree up to what is committed. What does not hold is an alarm, not an error.
///
/// # Errors
/// Those of the database, and of writing the floor.
pub async fn follow(watch: &Watch, log: &AuditLog) -> Result<(), Failure> {
    let _turn = log.turn.lock().await;
    follow_in_turn(watch, log).await
}

/// As [`follow`], by whoever has the turn.
pub(crate) async fn follow_in_turn(watch: &Watch, log: &AuditLog) -> Result<(), Failure> {
    // Taken first: what was signed before the rows are read is in them, unless they were put back.
    let held = watch.database.floors.current().and_then(|floors| floors.of(FloorOf::Checkpoint));
    let signed = match read(&watch.keys, &watch.database, log).await? {
        Ok(signed) => signed,
        Err(finding) => {
            alarm(watch, log, finding);
            return Ok(());
        }
    };
    if let Err(finding) = not_older(log, signed.as_ref(), held) {
        alarm(watch, log, finding);
    }
    if let Some(signed) = signed
        && log.finding().is_none()
    {
        raise_floor(&watch.database, &signed.checkpoint).await?;
        log.adopt(signed);
    }
    Ok(())
}

/// The newest checkpoint if everything holds.
pub(crate) async fn read(
    keys: &Keys,
    database: &Database,
    log: &AuditLog,
) -> Result<Result<Option<Signed>, AuditFinding>, Failure> {
    let mut transaction = database.store.system().begin_snapshot().await?;
    let waiting = audit_waiting(&mut transaction).await?;
    let tree = audit_tree_read(&mut transaction).await?;
    let newest = audit_checkpoint_newest(&mut transaction).await?;
    let chain = keys_of(keys, log, &log_keys(&mut transaction).await?);
    log.state().waiting = waiting;
    let chain = match chain {
        Ok(chain) => chain,
        Err(finding) => return Ok(Err(finding)),
    };
    // Below a signed size the root is the proof; above it each row's MAC is.
    let covered = newest.as_ref().map_or(0, |row| row.size);
    let mut known = log.state().tree.size();
    if tree.size < known {
        return Ok(Err(AuditFinding::rollback("the audit tree became shorter")));
    }
    while known < tree.size {
        let upto = tree.size.min(known + PAGE);
        let rows = audit_leaves(&mut transaction, known..upto).await?;
        if let Err(finding) = append(keys, log, known, upto, covered, chain.is_some(), &rows) {
            return Ok(Err(finding));
        }
        known = upto;
    }
    let mut state = log.state();
    let judged = judge(&state, &tree, chain.as_ref(), newest);
    if judged.is_ok() {
        state.keys = chain;
    }
    Ok(judged)
}

/// Adds rows to the tree: each at its place, each as it was written.
fn append(
    keys: &Keys,
    log: &AuditLog,
    from: u64,
    upto: u64,
    covered: u64,
    begun: bool,
    rows: &[AuditRow],
) -> Result<(), AuditFinding> {
    if rows.len() as u64 != upto - from {
        return Err(AuditFinding::tampered("an audit row is gone"));
    }
    let mut hashes = Vec::with_capacity(rows.len());
    for (place, row) in (from..upto).zip(rows) {
        if row.sequence != Some(place) {
            return Err(AuditFinding::tampered("an audit row was moved"));
        }
        if place >= covered {
            check_row(keys, row, begun)?;
        }
        hashes.push(audit_leaf_hash(&row.entry.encode()));
    }
    let mut state = log.state();
    hashes.into_iter().for_each(|hash| state.tree.push(hash));
    Ok(())
}

/// A row's MAC. Rows older than the log itself have none.
pub(crate) fn check_row(keys: &Keys, row: &AuditRow, begun: bool) -> Result<(), AuditFinding> {
    let altered = AuditFinding::tampered("an audit row is not what was written");
    match row.row_mac {
        Some(mac) => keys.pen.key().check(&row.entry, &mac).map_err(|_| altered),
        None if begun => Err(AuditFinding::tampered("an audit row has no MAC")),
        None => Ok(()),
    }
}

/// Whether what is stored holds together: rows, tree, log keys, newest checkpoint.
fn judge(
    state: &State,
    tree: &AuditTreeRow,
    keys: Option<&LogKeyChain>,
    newest: Option<CheckpointRow>,
) -> Result<Option<Signed>, AuditFinding> {
    let stored = AuditFrontier::from_parts(tree.size, tree.frontier.clone());
    if stored.is_none() || stored != state.tree.frontier(tree.size) {
        return Err(AuditFinding::tampered("the stored audit tree is not that of the rows"));
    }
    for generation in keys.map(LogKeyChain::generations).unwrap_or_default() {
        if state.tree.root(generation.first_size) != Some(generation.first_root) {
            return Err(AuditFinding::tampered("the rows are not those that the log began with"));
        }
    }
    let signed = match (newest, keys) {
        (None, _) => None,
        (Some(_), None) => return Err(AuditFinding::rollback("the audit log keys are gone")),
        (Some(row), Some(keys)) => opened(row, keys)?,
    };
    if let Some(signed) = &signed {
        covers(state, &signed.checkpoint)?;
    }
    Ok(signed)
}

/// Whether what is stored is at least what this replica has seen signed, in this life or an earlier one.
fn not_older(log: &AuditLog, signed: Option<&Signed>, held: Option<Floor>) -> Result<(), AuditFinding> {
    let older = AuditFinding::rollback("the database is older than a signed checkpoint");
    let state = log.state();
    let seen = [state.newest.as_ref().map(|seen| seen.checkpoint), held.as_ref().map(checkpoint_of)];
    for before in seen.into_iter().flatten() {
        let generation = state.keys.as_ref().map_or(0, |keys| keys.newest().generation);
        match generation.cmp(&before.generation) {
            Ordering::Less => return Err(older),
            Ordering::Equal if signed.is_none_or(|signed| signed.checkpoint.size < before.size) => {
                return Err(older);
            }
            Ordering::Equal => covers(&state, &before)?,
            // The log began anew after it, which the installation authority vouches for.
            Ordering::Greater => {}
        }
    }
    Ok(())
}

fn covers(state: &State, checkpoint: &Checkpoint) -> Result<(), AuditFinding> {
    match state.tree.root(checkpoint.size) {
        Some(root) if root == checkpoint.root => Ok(()),
        Some(_) => Err(AuditFinding::tampered("the rows are not those that a checkpoint was signed for")),
        None => Err(AuditFinding::rollback("audit rows are gone that a checkpoint was signed for")),
    }
}

fn opened(row: CheckpointRow, keys: &LogKeyChain) -> Result<Option<Signed>, AuditFinding> {
    let newest = keys.newest().generation;
    if row.generation < newest {
        // The generation has no checkpoint yet.
        return Ok(None);
    }
    if row.generation > newest {
        return Err(AuditFinding::rollback("the audit log keys are gone"));
    }
    let checkpoint = Checkpoint::open(&row.note, keys)
        .map_err(|reject| AuditFinding::new(reject.reason, "a stored checkpoint"))?;
    if (checkpoint.size, checkpoint.root) != (row.size, row.root) {
        return Err(AuditFinding::tampered("a stored checkpoint is not what was signed"));
    }
    Ok(Some(Signed { checkpoint, note: row.note }))
}

fn keys_of(keys: &Keys, log: &AuditLog, stored: &[LogKeyRow]) -> Result<Option<LogKeyChain>, AuditFinding> {
    if stored.is_empty() {
        return match log.keys() {
            Some(_) => Err(AuditFinding::rollback("the audit log keys are gone")),
            None => Ok(None),
        };
    }
    let known = log.keys();
    let records: Vec<&[u8]> = stored.iter().map(|row| row.record.as_slice()).collect();
    if known.as_ref().is_some_and(|known| known.envelopes() == records) {
        return Ok(known);
    }
    let facts = &keys.installation.facts;
    let chain = LogKeyChain::verify(&records, &facts.authority, facts.id, known_features(facts.dev))
        .map_err(|reject| AuditFinding::new(reject.reason, "the stored audit log keys"))?;
    let continued = known.is_none_or(|known| chain.envelopes().starts_with(known.envelopes()));
    if continued { Ok(Some(chain)) } else { Err(AuditFinding::rollback("the audit log keys are others")) }
}

/// Compares leaves that were verified before with their rows, a page at a time, round and round.
///
/// # Errors
/// What the database answers, as [`StoreError`](rap_store::StoreError) or its reason.
pub(crate) async fn sweep(watch: &Watch, log: &AuditLog) -> Result<(), Failure> {
    let (from, upto, expected): (u64, u64, Vec<Digest>) = {
        let state = log.state();
        let from = if state.swept < state.tree.size() { state.swept } else { 0 };
        let upto = state.tree.size().min(from + PAGE);
        (from, upto, (from..upto).filter_map(|place| state.tree.leaf(place)).collect())
    };
    let mut transaction = watch.database.store.system().begin_snapshot().await?;
    let rows = audit_leaves(&mut transaction, from..upto).await?;
    drop(transaction);
    if rows.len() != expected.len() {
        alarm(watch, log, AuditFinding::tampered("an audit row is gone"));
    }
    for ((place, hash), row) in (from..).zip(&expected).zip(&rows) {
        if row.sequence != Some(place) || audit_leaf_hash(&row.entry.encode()) != *hash {
            alarm(watch, log, AuditFinding::tampered("an audit row was altered after it was signed for"));
        }
    }
    log.state().swept = upto;
    Ok(())
}

/// Rows that are read at once.
const PAGE: u64 = 1000;
