//! Rotation of a cluster's data key, while it is served.
//!
//! Owns the order: a new version is added; every secret and then every row is verified under the old key
//! and sealed under the new one; the old version is removed when nothing is under it. Each step is a
//! transaction of its own under the cluster's lock, both versions open meanwhile, and what was done is
//! seen in the rows: cut off anywhere, the next run goes on. No replica has to be told: whoever meets a
//! row under a key that it does not know reads the keys in that same transaction (rap-store). Refuses to
//! seal what it did not verify, and to call done what the database says is done: the version that it began
//! stays the newest to the end, and is this replica's floor before the old one's removal is committed.

use rap_authority::{DataKeys, FloorOf, RowKeys, SealingKey};
use rap_store::{
    PgConnection, Resealing, RowsSeen, StoreError, SystemTransaction, cluster_hold, dek_hold, dek_insert,
    deks_delete_older, deks_list, installation_hold, rows_look, rows_reseal_next,
};
use rap_types::{ClusterId, Reason};

use crate::acts::change::commit;
use crate::database::change::{Acting, Change};
use crate::database::handle::Database;
use crate::failure::{Failure, unknown_cluster};
use crate::keys::data_keys::DataKeyOpener;
use crate::keys::handle::Keys;
use crate::keys::key_encryption_key::require_current;
use crate::keys::key_ring::Stage;
use crate::keys::secrets::Secrets;
use crate::serve::handle::Serving;
use crate::watch::alarms::By;

/// What a rotation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// The version that seals.
    pub version: u32,
    /// The version it replaces.
    pub replaced: u32,
    /// Whether an earlier run had begun.
    pub resumed: bool,
    /// Secrets that this run sealed anew.
    pub secrets: u64,
    /// Rows that this run verified.
    pub rows: u64,
}

/// Replaces the data key of a cluster, up to `until`. Run again it goes on where it stopped.
///
/// # Errors
/// Each of these with an alarm: `row.tampered` naming the row, which stays as it is, also for a data key
/// that is not as it was stored; `secret.unseal`; `floor.rollback` and `floor.equivocation`;
/// `request.conflict` naming a row that is under the old key again after every pass.
pub async fn rotate(
    serving: &Serving,
    id: ClusterId,
    acting: &Acting,
    until: Stage,
) -> Result<Rotated, Failure> {
    let rotated = run(serving, id, acting, until).await;
    match &rotated {
        Err(failure) if STOPS.contains(&failure.reason) && !rap_store::Transient::is_transient(failure) => {
            let now = serving.watch.clock.now().wall;
            if serving.watch.alarms.raise(
                Some(id),
                By::DataKeyRotation,
                failure.reason,
                &failure.message,
                now,
            ) {
                let text = format!("rotation of the data key of cluster {id} stopped: {}", failure.message);
                serving.watch.alarm(failure.reason, &text);
            }
        }
        Ok(_) if until == Stage::Retired => {
            for reason in STOPS {
                serving.watch.alarms.lower(id, By::DataKeyRotation, reason);
            }
        }
        _ => {}
    }
    rotated
}

async fn run(serving: &Serving, id: ClusterId, acting: &Acting, until: Stage) -> Result<Rotated, Failure> {
    look_first(&serving.keys, &serving.database, id).await?;
    let fresh = SealingKey::generate(&mut rand::rng());
    let mut rotated = commit!(serving, acting, |transaction| {
        add(&serving.keys, &serving.database, transaction, id, &fresh, acting).await
    })?;
    let version = rotated.version;
    if until == Stage::Added {
        return Ok(rotated);
    }
    let mut left = String::new();
    for _ in 0..PASSES {
        rotated.secrets += commit!(serving, acting, |transaction| {
            let keyring = serving.keys.keyring(&serving.database.floors);
            let (held, rows) = hold(&keyring, transaction, id, version).await?;
            let secrets = Secrets::of_cluster(transaction, serving.keys.installation.facts.id, &rows).await?;
            secrets.reseal(transaction, (&held).into(), &rows).await
        })?;
        if until == Stage::Secrets {
            return Ok(rotated);
        }
        rotated.rows += rows(serving, id, acting, version).await?;
        if until == Stage::Rows {
            return Ok(rotated);
        }
        let left_over = commit!(serving, acting, |transaction| {
            retire(&serving.keys, &serving.database, transaction, id, acting, version).await
        })?;
        match left_over {
            None => return Ok(rotated),
            Some(row) => left = row,
        }
    }
    Err(Failure::new(Reason::RequestConflict, format!("{left} keeps being under the old key; run it again")))
}

/// Nothing is begun on a cluster with a row that would stop it.
async fn look_first(keys: &Keys, database: &Database, id: ClusterId) -> Result<(), Failure> {
    let mut snapshot = database.store.system().begin_snapshot().await?;
    let keyring = keys.keyring(&database.floors);
    let keys = keyring.read(&mut snapshot, id).await?;
    Ok(whole(&rows_look(&mut snapshot, &keyring.rows(id, &keys)).await?)?)
}

/// The cluster's keys once its row is locked: nobody adds or retires one until the transaction ends.
async fn hold(
    keyring: &DataKeyOpener,
    connection: &mut PgConnection,
    id: ClusterId,
    at_least: u32,
) -> Result<(DataKeys, RowKeys), Failure> {
    let before = keyring.read(connection, id).await?;
    cluster_hold(connection, &keyring.rows(id, &before)).await?.ok_or_else(unknown_cluster)?;
    let keys = keyring.read(connection, id).await?;
    if keys.newest().0 < at_least {
        return Err(not_as_stored(id, at_least));
    }
    let rows = keyring.rows(id, &keys);
    Ok((keys, rows))
}

/// A data key that was stored is gone, is another one, or will not go.
fn not_as_stored(id: ClusterId, version: u32) -> Failure {
    StoreError::Tampered { table: "cluster_deks", key: format!("{id}/{version}") }.into()
}

async fn add(
    keys: &Keys,
    database: &Database,
    transaction: &mut SystemTransaction,
    id: ClusterId,
    fresh: &SealingKey,
    acting: &Acting,
) -> Result<Rotated, Failure> {
    // Held against a rotation of the key encryption key: what is wrapped here stays readable.
    installation_hold(transaction).await?;
    require_current(transaction, &keys.kek).await?;
    let (keyring, installation) = (keys.keyring(&database.floors), keys.installation.facts.id);
    let (keys, rows) = hold(&keyring, transaction, id, 0).await?;
    Secrets::of_cluster(transaction, installation, &rows).await?.open_all((&keys).into())?;
    let (newest, _) = keys.newest();
    let begun = Rotated { version: newest, replaced: newest, resumed: false, secrets: 0, rows: 0 };
    if let Some(replaced) = keys.replaced_version() {
        return Ok(Rotated { replaced, resumed: true, ..begun });
    }
    // A removal was cut off once it was remembered, or somebody put one back: it counts for nothing.
    for gone in deks_list(transaction, id).await?.iter().filter(|dek| dek.key_version < newest.into()) {
        note(transaction, acting, "data_key.retire", id, gone.key_version).await?;
    }
    deks_delete_older(transaction, id, newest.into()).await?;
    let version = newest.checked_add(1).ok_or(StoreError::Range("key_version"))?;
    dek_insert(transaction, &keyring.wrap(id, version, fresh)).await?;
    let stored = keyring.read(transaction, id).await?;
    if stored.newest().0 != version || stored.newest().1.expose() != fresh.expose() {
        return Err(not_as_stored(id, version));
    }
    note(transaction, acting, "data_key.add", id, version.into()).await?;
    Ok(Rotated { version, ..begun })
}

/// One pass over every row, some in each transaction.
async fn rows(serving: &Serving, id: ClusterId, acting: &Acting, version: u32) -> Result<u64, Failure> {
    let mut at = Resealing::default();
    loop {
        let next = commit!(serving, acting, |transaction| {
            let keyring = serving.keys.keyring(&serving.database.floors);
            let (_, rows) = hold(&keyring, transaction, id, version).await?;
            Ok(rows_reseal_next(transaction, &rows, &at).await?)
        })?;
        match next {
            Some(next) => at = next,
            None => return Ok(at.verified),
        }
    }
}

/// Removes the old version; if something is under it, the answer is what.
async fn retire(
    keys: &Keys,
    database: &Database,
    transaction: &mut SystemTransaction,
    id: ClusterId,
    acting: &Acting,
    version: u32,
) -> Result<Option<String>, Failure> {
    let installation = keys.installation.facts.id;
    let (keys, rows) = hold(&keys.keyring(&database.floors), transaction, id, version).await?;
    let replaced = keys.replaced_version();
    if let Some(replaced) = replaced {
        // Waits for whoever adds a row under it and did not know of the newer one. Only who removes a data
        // key by other means takes it away meanwhile: the cluster is locked.
        if !dek_hold(transaction, id, replaced.into()).await? {
            return Err(not_as_stored(id, replaced));
        }
    }
    let seen = rows_look(transaction, &rows).await?;
    whole(&seen)?;
    if let Some(row) = seen.first_under_older_key {
        return Ok(Some(format!("row {} of table {}", row.key, row.table)));
    }
    let secrets = Secrets::of_cluster(transaction, installation, &rows).await?;
    if !secrets.are_under_newest((&keys).into()) {
        return Ok(Some("a secret".to_owned()));
    }
    let alone = keys.newest_alone();
    secrets.open_all((&alone).into())?;
    let newest = keys.newest().0;
    if let Some(replaced) = replaced {
        deks_delete_older(transaction, id, newest.into()).await?;
        let left = deks_list(transaction, id).await?;
        if let Some(other) = left.iter().find(|dek| dek.key_version != u64::from(newest)) {
            return Err(not_as_stored(id, u32::try_from(other.key_version).unwrap_or(replaced)));
        }
        if left.len() != 1 {
            return Err(not_as_stored(id, newest));
        }
        note(transaction, acting, "data_key.retire", id, replaced.into()).await?;
    }
    // Nothing needs the old version any more, whether or not this commits. From here on it opens nothing
    // at this replica, whatever the database does with its row.
    match database.floors.raise(FloorOf::DataKey(id), alone.floor()).await {
        // Another run was quicker.
        Err(failure) if failure.reason == Reason::FloorRollback => {}
        raised => raised?,
    }
    Ok(None)
}

/// # Errors
/// [`StoreError::Tampered`] for the first row that does not hold.
fn whole(seen: &RowsSeen) -> Result<(), StoreError> {
    match seen.tampered.first().or_else(|| seen.unsealed.first()) {
        None => Ok(()),
        Some(row) => Err(StoreError::Tampered { table: row.table, key: row.key.clone() }),
    }
}

async fn note(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    action: &'static str,
    id: ClusterId,
    version: u64,
) -> Result<(), Failure> {
    let change = Change::of(action, format!("cluster/{id}")).inside(id);
    let reason = format!("version {version} {}", acting.reason);
    change.because(reason.trim()).record(transaction, acting).await?;
    Ok(())
}

/// Only a replica that was cut off for the whole time of a pass leaves anything for another one.
const PASSES: u32 = 5;

/// What stops a rotation until an operator looks.
const STOPS: [Reason; 5] = [
    Reason::RowTampered,
    Reason::SecretUnseal,
    Reason::FloorRollback,
    Reason::FloorEquivocation,
    Reason::RequestConflict,
];
