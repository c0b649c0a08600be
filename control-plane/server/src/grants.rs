//! The role-grant set this replica goes by.
//!
//! Owns reading it from the database, judged against signatures and the floor each time its rows
//! changed, and storing the next one. Refuses to own the rules (rap-authority). What the database holds
//! is never believed for being there: only what was signed, is at or above the floor, and is complete.

use std::sync::{Arc, Mutex, PoisonError};

use rap_authority::{
    AdmittedGrants, Floor, FloorOf, GrantChange, GrantScope, GrantVerifier, RowKeys, SignedSet, StoredGrant,
    first_grant, ids, renew_set, renewal_is_due,
};
use rap_contract::ActivationTerms;
use rap_store::{
    GrantRow, OperatorRow, PgConnection, StoreError, audit_insert, grant_insert, grant_set_insert,
    grant_sets_from, grants_list, operator_put, operator_shut_out,
};
use rap_types::{Digest, OperatorId, Reason, RequestId, Wall};

use crate::control::Control;
use crate::findings::alarm_about;
use crate::grpc::{Failure, audit};
use crate::installation::Installation;

/// What was admitted last, and the exact rows that led to it.
#[derive(Debug, Default)]
pub struct GrantMemory(Mutex<Option<(Digest, Arc<AdmittedGrants>)>>);

impl GrantMemory {
    fn of(&self, rows: Digest) -> Option<Arc<AdmittedGrants>> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.as_ref().filter(|(known, _)| *known == rows).map(|(_, admitted)| admitted.clone())
    }

    fn keep(&self, rows: Digest, admitted: Arc<AdmittedGrants>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((rows, admitted));
    }
}

impl Installation {
    /// For whom and by what grants are signed.
    pub fn grant_scope(&self) -> GrantScope<'_> {
        GrantScope { installation: self.facts.id, dev: self.facts.dev, authority: &self.authority }
    }

    /// What verifies them.
    pub fn grant_verifier(&self) -> GrantVerifier {
        GrantVerifier { installation: self.facts.id, authority: self.facts.authority, dev: self.facts.dev }
    }
}

/// The set in force.
///
/// # Errors
/// `floor.missing`, `activation.required`; and, with an alarm, `floor.rollback`, `floor.equivocation`,
/// `chain.broken` and those of verification.
pub async fn read(control: &Control) -> Result<Arc<AdmittedGrants>, Failure> {
    let mut attempt = 1;
    loop {
        let admitted = judge(control).await?;
        match control.floors.raise(FloorOf::GrantSet, admitted.at()).await {
            Ok(()) => return Ok(admitted),
            // Another call of this replica was faster and went by a newer set: so does this one.
            Err(failure) if failure.reason == Reason::FloorRollback && attempt < ATTEMPTS => attempt += 1,
            Err(failure) => return Err(failure),
        }
    }
}

/// Judges what the database holds now. The floor is read first: its set was committed before the floor
/// was raised to it, so that a state read afterwards holds it, unless somebody took it out.
async fn judge(control: &Control) -> Result<Arc<AdmittedGrants>, Failure> {
    let floors = control.floors.current();
    let Some(floor) = floors.as_ref().and_then(|floors| floors.of(FloorOf::GrantSet)) else {
        return Err(Failure::new(Reason::FloorMissing, FLOOR_MISSING));
    };
    let mut snapshot = control.store.system().begin_snapshot().await?;
    let sets = grant_sets_from(&mut snapshot, floor.sequence.max(1)).await?;
    let rows = grants_list(&mut snapshot).await?;
    drop(snapshot);
    let content = content(floor, &sets, &rows);
    let admitted = match control.grants.of(content) {
        Some(admitted) => admitted,
        None => {
            let verifier = control.installation.grant_verifier();
            let admitted = match verifier.admit(floors.as_ref(), &sets, &stored(&rows)) {
                Ok(Some(admitted)) => Arc::new(admitted),
                Ok(None) => {
                    return Err(Failure::new(Reason::ActivationRequired, "there is no role-grant set yet"));
                }
                Err(reject) => {
                    alarm_about(control, reject.reason, "role-grant-set", reject.what).await;
                    return Err(reject.into());
                }
            };
            control.grants.keep(content, admitted.clone());
            admitted
        }
    };
    for digest in admitted.tampered() {
        let object = format!("platform_role_grants/{digest}");
        alarm_about(control, Reason::RowTampered, &object, "no row of the signed set").await;
    }
    Ok(admitted)
}

/// The set in force, signed again first if its time came.
///
/// # Errors
/// As [`read`].
pub async fn current(control: &Control) -> Result<Arc<AdmittedGrants>, Failure> {
    let admitted = read(control).await?;
    if !renewal_is_due(admitted.grants().set(), control.clock.now().wall) {
        return Ok(admitted);
    }
    renew(control, &admitted).await?;
    read(control).await
}

/// Signs the verified set for another day. Of racing replicas one stores its set; all then read that.
async fn renew(control: &Control, admitted: &AdmittedGrants) -> Result<(), Failure> {
    let now = control.clock.now().wall;
    let set = renew_set(&control.installation.grant_scope(), admitted.grants().set(), now)?;
    let call = RequestId::from_parts(ids::millis(now), ids::random(&mut rand::rng()));
    let stored: Result<bool, Failure> = rap_store::transact!(control.store.system(), |connection| {
        store_renewal(control, connection, &set, call).await
    });
    if stored? {
        tracing::info!(sequence = set.at.sequence, "the role-grant set is signed for another day");
    }
    Ok(())
}

async fn store_renewal(
    control: &Control,
    connection: &mut PgConnection,
    set: &SignedSet,
    call: RequestId,
) -> Result<bool, Failure> {
    if !grant_set_insert(connection, set.at.sequence, set.at.digest, &set.envelope).await? {
        return Ok(false);
    }
    let object = format!("role-grant-set/{}", set.at.sequence);
    let entry = audit("system", "grant_set.renew", object, None, Some(set.at.digest), "", call);
    audit_insert(connection, &control.pen, &entry).await?;
    Ok(true)
}

/// Stores a grant or revocation with its set, and what follows for the operator's row, in the caller's
/// transaction.
///
/// # Errors
/// A transient one if another replica stored a set of this sequence meanwhile: read and decide again.
pub async fn store_change(
    connection: &mut PgConnection,
    rows: &RowKeys,
    change: &GrantChange,
    now: Wall,
) -> Result<(), Failure> {
    let GrantChange { terms, grant, set } = change;
    if !grant_set_insert(connection, set.at.sequence, set.at.digest, &set.envelope).await? {
        return Err(StoreError::Contended("role_grant_sets".to_owned()).into());
    }
    grant_insert(connection, terms.digest, terms.subject.as_bytes(), terms.role, grant).await?;
    if terms.revokes.is_some() {
        // The grant is what counts: an altered row of the operator must not keep it from being revoked.
        return match operator_shut_out(connection, rows, terms.subject.as_bytes()).await {
            Err(error) if error.reason() != Reason::RowTampered => Err(error.into()),
            _ => Ok(()),
        };
    }
    let operator = OperatorRow {
        operator: OperatorId::from_parts(ids::millis(now), ids::random(&mut rand::rng())),
        name: terms.name.clone(),
        public_key: *terms.subject.as_bytes(),
        platform_role: terms.role.to_string(),
        disabled_at: None,
    };
    Ok(operator_put(connection, rows, &operator).await?)
}

/// Grant 1 of set 1, for the activation that is about to be stored.
///
/// # Errors
/// `floor.missing` on a replica without floors; `floor.rollback`, with an alarm, if this replica has
/// seen a set already: the database was put back to before its activation.
pub async fn first_change(
    control: &Control,
    terms: &ActivationTerms,
    now: Wall,
) -> Result<GrantChange, Failure> {
    let floor = control.floors.current().and_then(|floors| floors.of(FloorOf::GrantSet));
    match floor {
        None => Err(Failure::new(Reason::FloorMissing, FLOOR_MISSING)),
        // Another call activated in this very moment.
        Some(_) if control.installation.activation().is_some() => {
            Err(Failure::new(Reason::ActivationReplayed, "this activation was already consumed"))
        }
        Some(floor) if floor.sequence > 0 => {
            let what = "the database was put back to before its activation";
            alarm_about(control, Reason::FloorRollback, "role-grant-set", what).await;
            Err(Failure::new(Reason::FloorRollback, what))
        }
        Some(_) => {
            let scope = control.installation.grant_scope();
            Ok(first_grant(&scope, &terms.owner_name, terms.owner_key, now)?)
        }
    }
}

/// Stored rows as the authority judges them.
pub fn stored(rows: &[GrantRow]) -> Vec<StoredGrant<'_>> {
    rows.iter()
        .map(|row| StoredGrant {
            digest: row.digest,
            subject_key: &row.subject_key,
            platform_role: &row.platform_role,
            envelope: &row.envelope,
        })
        .collect()
}

/// One digest of everything that a judgement depends on.
fn content(floor: Floor, sets: &[Vec<u8>], rows: &[GrantRow]) -> Digest {
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
pub const FLOOR_MISSING: &str =
    "this replica has no floor of the role-grant set; see: rap-control-plane floors show";
