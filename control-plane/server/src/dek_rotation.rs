//! Rotation of a cluster's data key, while it is served.
//!
//! Owns the order: a new version is added; every secret and then every row is verified under the old key
//! and sealed under the new one; the old version is removed when nothing is under it. Each step is a
//! transaction of its own under the cluster's lock, both versions open meanwhile, and what was done is
//! seen in the rows: cut off anywhere, the next run goes on. No replica has to be told: whoever meets a
//! row under a key that it does not know reads the keys in that same transaction (rap-store). Refuses to
//! seal what it did not verify.

use rap_authority::{DataKeys, RowKeys, SealingKey};
use rap_store::{
    AuditPen, PgConnection, Resealing, RowsSeen, StoreError, audit_insert, cluster_hold, dek_hold,
    dek_insert, deks_delete_older, installation_hold, rows_look, rows_reseal_next,
};
use rap_types::{ClusterId, Reason, RequestId};

use crate::control::Control;
use crate::data_keys::Keyring;
use crate::grpc::{Failure, audit};
use crate::keys::require_current;
use crate::secrets::{SecretsOf, reseal_secrets};

/// How far a rotation goes; every stage may be the last before a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The new version is stored, and seals.
    Added,
    /// Every secret of the cluster is under it.
    Secrets,
    /// So is every row.
    Rows,
    /// The old version is gone.
    Retired,
}

/// On whose behalf, for the audit log.
#[derive(Debug, Clone)]
pub struct Author {
    /// Who.
    pub actor: String,
    /// What the audit rows are written with.
    pub pen: AuditPen,
    /// The call.
    pub call: RequestId,
    /// In whose words why.
    pub reason: String,
}

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
/// `row.tampered` with an alarm, naming the row, which stays as it is; `secret.unseal`; `request.conflict`
/// if rows keep appearing under the old key.
pub async fn rotate(
    control: &Control,
    id: ClusterId,
    author: &Author,
    until: Stage,
) -> Result<Rotated, Failure> {
    let rotated = run(control, id, author, until).await;
    if let Err(failure) = &rotated
        && failure.reason == Reason::RowTampered
    {
        let now = control.clock.now().wall;
        if control.alarms.raise(Some(id), Reason::RowTampered, &failure.message, now) {
            let text = format!("rotation of the data key of cluster {id} stopped: {}", failure.message);
            control.alarm(Reason::RowTampered, &text);
        }
    }
    rotated
}

async fn run(control: &Control, id: ClusterId, author: &Author, until: Stage) -> Result<Rotated, Failure> {
    look_first(control, id).await?;
    let fresh = SealingKey::generate(&mut rand::rng());
    let added: Result<Rotated, Failure> = rap_store::transact!(control.store.system(), |connection| {
        add(control, connection, id, &fresh, author).await
    });
    let mut rotated = added?;
    tell(control, id).await;
    if until == Stage::Added {
        return Ok(rotated);
    }
    for _ in 0..PASSES {
        rotated.secrets += secrets(control, id).await?;
        if until == Stage::Secrets {
            return Ok(rotated);
        }
        rotated.rows += rows(control, id).await?;
        if until == Stage::Rows {
            return Ok(rotated);
        }
        let retired: Result<bool, Failure> = rap_store::transact!(control.store.system(), |connection| {
            retire(control, connection, id, author).await
        });
        if retired? {
            tell(control, id).await;
            return Ok(rotated);
        }
    }
    Err(Failure::new(Reason::RequestConflict, "rows keep appearing under the old key; run it again"))
}

/// Nothing is begun on a cluster with a row that would stop it.
async fn look_first(control: &Control, id: ClusterId) -> Result<(), Failure> {
    let mut snapshot = control.store.system().begin_snapshot().await?;
    let keyring = control.keyring();
    let keys = keyring.read(&mut snapshot, id).await?;
    Ok(whole(&rows_look(&mut snapshot, &keyring.rows(id, &keys)).await?)?)
}

/// The cluster's keys once its row is locked: nobody adds or retires one until the transaction ends.
async fn hold(
    keyring: &Keyring,
    connection: &mut PgConnection,
    id: ClusterId,
) -> Result<(DataKeys, RowKeys), Failure> {
    let before = keyring.read(connection, id).await?;
    let unknown = || Failure::new(Reason::ResourceNotFound, "no such cluster");
    cluster_hold(connection, &keyring.rows(id, &before)).await?.ok_or_else(unknown)?;
    let keys = keyring.read(connection, id).await?;
    let rows = keyring.rows(id, &keys);
    Ok((keys, rows))
}

async fn add(
    control: &Control,
    connection: &mut PgConnection,
    id: ClusterId,
    fresh: &SealingKey,
    author: &Author,
) -> Result<Rotated, Failure> {
    // Held against a rotation of the key encryption key: what is wrapped here stays readable.
    installation_hold(connection).await?;
    require_current(connection, &control.kek).await?;
    let keyring = control.keyring();
    let (keys, rows) = hold(&keyring, connection, id).await?;
    SecretsOf::read(connection, &rows).await?.open_all(control.installation.facts.id, &keys)?;
    let (newest, _) = keys.newest();
    let begun = Rotated { version: newest, replaced: newest, resumed: false, secrets: 0, rows: 0 };
    if let Some(replaced) = keys.replaced_version() {
        return Ok(Rotated { replaced, resumed: true, ..begun });
    }
    let version = newest.checked_add(1).ok_or(StoreError::Range("key_version"))?;
    dek_insert(connection, &keyring.wrap(id, version, fresh)).await?;
    note(connection, author, "data_key.add", id, version).await?;
    Ok(Rotated { version, ..begun })
}

async fn secrets(control: &Control, id: ClusterId) -> Result<u64, Failure> {
    rap_store::transact!(control.store.system(), |connection| {
        let (keys, rows) = hold(&control.keyring(), connection, id).await?;
        reseal_secrets(connection, control.installation.facts.id, &keys, &rows).await
    })
}

/// One pass over every row, some in each transaction.
async fn rows(control: &Control, id: ClusterId) -> Result<u64, Failure> {
    let mut at = Resealing::default();
    loop {
        let next: Result<Option<Resealing>, Failure> =
            rap_store::transact!(control.store.system(), |connection| {
                let (_, rows) = hold(&control.keyring(), connection, id).await?;
                Ok(rows_reseal_next(connection, &rows, &at).await?)
            });
        match next? {
            Some(next) => at = next,
            None => return Ok(at.verified),
        }
    }
}

/// Removes the old version; false if something is under it.
async fn retire(
    control: &Control,
    connection: &mut PgConnection,
    id: ClusterId,
    author: &Author,
) -> Result<bool, Failure> {
    let (keys, rows) = hold(&control.keyring(), connection, id).await?;
    // Another run was quicker.
    let Some(replaced) = keys.replaced_version() else { return Ok(true) };
    // Waits for whoever adds a row under it and did not know of the newer one.
    if !dek_hold(connection, id, replaced.into()).await? {
        return Ok(true);
    }
    let seen = rows_look(connection, &rows).await?;
    whole(&seen)?;
    let secrets = SecretsOf::read(connection, &rows).await?;
    if seen.under_older_key > 0 || !secrets.are_under_newest(&keys) {
        return Ok(false);
    }
    secrets.open_all(control.installation.facts.id, &keys.newest_alone())?;
    deks_delete_older(connection, id, keys.newest().0.into()).await?;
    note(connection, author, "data_key.retire", id, replaced).await?;
    Ok(true)
}

/// # Errors
/// [`StoreError::Tampered`] for the first row that does not hold.
fn whole(seen: &RowsSeen) -> Result<(), StoreError> {
    match seen.tampered.first().or_else(|| seen.unsealed.first()) {
        None => Ok(()),
        Some(row) => Err(StoreError::Tampered { table: row.table, key: row.key.clone() }),
    }
}

/// This replica takes the keys over now, others by the doorbell or with the first row that needs them.
async fn tell(control: &Control, id: ClusterId) {
    if let Err(failure) = control.reload_cluster(id).await {
        tracing::warn!(reason = %failure.reason, cluster = %id, "the cluster's keys were not read again");
    }
    if let Some(cluster) = control.clusters.by_id(id) {
        control.changed(&cluster).await;
    }
}

async fn note(
    connection: &mut PgConnection,
    author: &Author,
    action: &str,
    id: ClusterId,
    version: u32,
) -> Result<(), Failure> {
    let reason = format!("version {version} {}", author.reason);
    let object = format!("cluster/{id}");
    let entry = audit(&author.actor, action, object, Some(id), None, reason.trim(), author.call);
    audit_insert(connection, &author.pen, &entry).await?;
    Ok(())
}

/// Only a replica that was cut off for the whole time of a pass leaves anything for another one.
const PASSES: u32 = 5;
