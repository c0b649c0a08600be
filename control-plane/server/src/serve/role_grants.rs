//! The role-grant set this replica goes by.
//!
//! Owns reading it from the database, judged against signatures and the floor each time its rows
//! changed, and storing the next one. Refuses to own the rules (rap-authority). What the database holds
//! is never believed for being there: only what was signed, is at or above the floor, and is complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use rap_authority::{
    AdmittedRoleGrants, Floor, FloorOf, SignedRoleGrantSet, StoredRoleGrant, renew_role_grant_set,
    renewal_is_due,
};
use rap_store::{
    PgConnection, RoleGrantRow, SignedCopy, SystemTransaction, restore_newest, role_grant_set_insert,
    role_grant_sets_from, role_grants_list,
};
use rap_types::{Digest, Reason};

use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::handle::Serving;
use crate::serve::told::tell;
use crate::watch::handle::Watch;
use crate::watch::raise::alarm_about;

/// The set in force.
///
/// # Errors
/// `floor.missing`, `activation.required`; and, with an alarm, `floor.rollback`, `floor.equivocation`,
/// `chain.broken` and those of verification.
pub(crate) async fn read(serving: &Serving) -> Result<Arc<AdmittedRoleGrants>, Failure> {
    let mut attempt = 1;
    loop {
        let mut snapshot = serving.database.store.system().begin_snapshot().await?;
        let admitted = judge(serving, &mut snapshot).await?;
        drop(snapshot);
        match serving.database.floors.raise(FloorOf::GrantSet, admitted.at()).await {
            Ok(()) => return Ok(admitted),
            // Another call of this replica was faster and went by a newer set: so does this one.
            Err(failure) if failure.reason == Reason::FloorRollback && attempt < ATTEMPTS => attempt += 1,
            Err(failure) => return Err(failure),
        }
    }
}

/// Judges what a transaction sees. The floor is read first: its set was committed before the floor
/// was raised to it, so that a state read afterwards holds it, unless somebody took it out.
///
/// # Errors
/// As [`read`].
pub(crate) async fn judge(
    serving: &Serving,
    connection: &mut PgConnection,
) -> Result<Arc<AdmittedRoleGrants>, Failure> {
    let floors = serving.database.floors.current();
    let Some(floor) = floors.as_ref().and_then(|floors| floors.of(FloorOf::GrantSet)) else {
        return Err(Failure::new(Reason::FloorMissing, FLOOR_MISSING));
    };
    let sets = role_grant_sets_from(connection, floor.sequence.max(1)).await?;
    let rows = role_grants_list(connection).await?;
    let content = content(floor, &sets, &rows);
    let admitted = match serving.grants.of(content) {
        Some(admitted) => admitted,
        None => {
            let verifier = serving.keys.installation.role_grant_verifier();
            let admitted = match verifier.admit(floors.as_ref(), &sets, &stored(&rows)) {
                Ok(Some(admitted)) => Arc::new(admitted),
                Ok(None) => {
                    return Err(Failure::new(Reason::ActivationRequired, "there is no role-grant set yet"));
                }
                Err(reject) => match with_copies(serving, connection, floor, &sets, &rows).await? {
                    Some(admitted) => Arc::new(admitted),
                    None => {
                        alarm_about(&serving.watch, reject.reason, "role-grant-set", reject.what).await;
                        return Err(reject.into());
                    }
                },
            };
            serving.grants.keep(content, admitted.clone());
            admitted
        }
    };
    for digest in admitted.tampered() {
        let object = format!("platform_role_grants/{digest}");
        alarm_about(&serving.watch, Reason::RowTampered, &object, "no row of the signed set").await;
    }
    Ok(admitted)
}

/// The sets and grants of the database with those of this replica's copies that it lacks, which are put back then.
async fn with_copies(
    serving: &Serving,
    connection: &mut PgConnection,
    floor: Floor,
    sets: &[Vec<u8>],
    rows: &[RoleGrantRow],
) -> Result<Option<AdmittedRoleGrants>, Failure> {
    let verifier = serving.keys.installation.role_grant_verifier();
    let (mut sets_by_sequence, mut all) = (BTreeMap::new(), rows.to_vec());
    for copy in serving.database.copies.since(restore_newest(connection).await?) {
        match (&copy, RoleGrantRow::of_copy(&copy)) {
            (SignedCopy::RoleGrantSet { sequence, envelope, .. }, _) if *sequence == floor.sequence => {
                sets_by_sequence.insert(*sequence, envelope.clone());
            }
            (_, Some(grant)) if !all.iter().any(|row| row.digest == grant.digest) => all.push(grant),
            _ => {}
        }
    }
    for set in sets {
        let Ok(opened) = verifier.open_set(set) else { continue };
        if opened.sequence >= floor.sequence {
            sets_by_sequence.entry(opened.sequence).or_insert_with(|| set.clone());
        }
    }
    let sets: Vec<Vec<u8>> = sets_by_sequence.into_values().collect();
    let admitted = verifier.admit(serving.database.floors.current().as_ref(), &sets, &stored(&all));
    let admitted = admitted.ok().flatten();
    if admitted.is_some() {
        serving.heal.notify_one();
    }
    Ok(admitted)
}

/// The set in force, signed again first if its time came.
///
/// # Errors
/// As [`read`].
pub async fn current(serving: &Serving) -> Result<Arc<AdmittedRoleGrants>, Failure> {
    let admitted = read(serving).await?;
    if !renewal_is_due(admitted.grants().set(), serving.watch.clock.now().wall) {
        return Ok(admitted);
    }
    renew(&serving.watch, &admitted).await?;
    read(serving).await
}

/// Signs the verified set for another day. Of racing replicas one stores its set; all then read that.
async fn renew(watch: &Watch, admitted: &AdmittedRoleGrants) -> Result<(), Failure> {
    let now = watch.clock.now().wall;
    let set =
        renew_role_grant_set(&watch.keys.installation.role_grant_scope(), admitted.grants().set(), now)?;
    let acting = Acting::alone("system", watch.keys.pen.clone(), now);
    let stored: Result<bool, Failure> = rap_store::transact!(watch.database.store.system(), |connection| {
        store_renewal(&watch.keys, connection, &acting, &set).await
    });
    if stored? {
        tracing::info!(sequence = set.at.sequence, "the role-grant set is signed for another day");
    }
    Ok(())
}

async fn store_renewal(
    keys: &Keys,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    set: &SignedRoleGrantSet,
) -> Result<bool, Failure> {
    if !role_grant_set_insert(transaction, set.at.sequence, set.at.digest, &set.envelope).await? {
        return Ok(false);
    }
    let change = Change::of("grant_set.renew", format!("role-grant-set/{}", set.at.sequence));
    change.after(set.at.digest).record(transaction, acting).await?;
    let copies = std::mem::take(&mut transaction.effects.copies);
    tell(keys, transaction, (FloorOf::GrantSet, set.at), &copies).await?;
    Ok(true)
}

/// Stored rows as the authority judges them.
pub(crate) fn stored(rows: &[RoleGrantRow]) -> Vec<StoredRoleGrant<'_>> {
    rows.iter()
        .map(|row| StoredRoleGrant {
            digest: row.digest,
            subject_key: &row.subject_key,
            platform_role: &row.platform_role,
            envelope: &row.envelope,
        })
        .collect()
}

/// One digest of everything that a judgement depends on.
fn content(floor: Floor, sets: &[Vec<u8>], rows: &[RoleGrantRow]) -> Digest {
    let mut parts = vec![floor.sequence.to_be_bytes().to_vec(), floor.digest.to_vec()];
    let mut field = |bytes: &[u8]| {
        parts.push((bytes.len() as u64).to_be_bytes().to_vec());
        parts.push(bytes.to_vec());
    };
    sets.iter().for_each(|set| field(set));
    field(b"");
    for row in rows {
        field(row.digest.as_bytes());
        field(&row.subject_key);
        field(row.platform_role.as_bytes());
        field(&row.envelope);
    }
    Digest::of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

const ATTEMPTS: u32 = 8;

/// What a caller is told who needs a floor that is not there.
pub(crate) const FLOOR_MISSING: &str =
    "this replica has no floor of the role-grant set; see: rap-control-plane floors show";
