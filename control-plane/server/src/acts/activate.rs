//! Activates the installation: manifest, first owner, first session.

use rap_authority::{FloorOf, IssuedSession, RoleGrantChange, RowKeys, first_role_grant};
use rap_contract::ActivationTerms;
use rap_store::{
    AuditWriter, OperatorRow, StoreError, SystemTransaction, installation_activate, installation_read,
    operator_by_key,
};
use rap_types::{Digest, Reason, Wall};

use crate::acts::grant_role;
use crate::acts::operator_session::{begin, session_row};
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::role_grants::FLOOR_MISSING;
use crate::watch::handle::Watch;
use crate::watch::raise::alarm_about;

/// Grant 1 of set 1, for the activation that is about to be stored.
///
/// # Errors
/// `floor.missing` on a replica without floors; `floor.rollback`, with an alarm, if this replica has
/// seen a set already: the database was put back to before its activation.
pub(crate) async fn first_change(
    watch: &Watch,
    terms: &ActivationTerms,
    now: Wall,
) -> Result<RoleGrantChange, Failure> {
    let floor = watch.database.floors.current().and_then(|floors| floors.of(FloorOf::GrantSet));
    match floor {
        None => Err(Failure::new(Reason::FloorMissing, FLOOR_MISSING)),
        // Another call activated in this very moment.
        Some(_) if watch.keys.installation.activation().is_some() => {
            Err(Failure::new(Reason::ActivationReplayed, "this activation was already consumed"))
        }
        Some(floor) if floor.sequence > 0 => {
            let what = "the database was put back to before its activation";
            alarm_about(watch, Reason::FloorRollback, "role-grant-set", what).await;
            Err(Failure::new(Reason::FloorRollback, what))
        }
        Some(_) => {
            let scope = watch.keys.installation.role_grant_scope();
            Ok(first_role_grant(&scope, &terms.owner_name, terms.owner_key, now)?)
        }
    }
}

/// Of racing activations one stores its manifest; the others find it taken.
pub(crate) async fn consume(
    keys: &Keys,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    manifest: &[u8],
    first: &RoleGrantChange,
    session: &IssuedSession,
    now: Wall,
) -> Result<(), Failure> {
    // The verified manifest answers this nonce.
    let request_nonce = &keys.installation.facts.request_nonce;
    if !installation_activate(transaction, manifest, request_nonce).await? {
        return Err(Failure::new(Reason::ActivationReplayed, "this activation was already consumed"));
    }
    let operator = write_first(transaction, &keys.rows, acting, manifest, first, now).await?;
    begin(transaction, &session_row(session, &operator)).await
}

/// The first owner: grant 1 of set 1, the operator's row, the audit row.
async fn write_first(
    transaction: &mut SystemTransaction,
    rows: &RowKeys,
    acting: &Acting,
    manifest: &[u8],
    first: &RoleGrantChange,
    now: Wall,
) -> Result<OperatorRow, Failure> {
    grant_role::store_change(transaction, rows, first, now).await?;
    let change = Change::of("installation.activate", "installation").after(Digest::of(&[manifest]));
    change.record(transaction, acting).await?;
    Ok(operator_by_key(transaction, rows, first.terms.subject.as_bytes()).await?.ok_or(StoreError::Absent)?)
}

/// Activates a development installation with the manifest its own root signed.
pub(crate) async fn activate_dev(
    transaction: &mut SystemTransaction,
    rows: &RowKeys,
    pen: &AuditWriter,
    manifest: &[u8],
    first: &RoleGrantChange,
    now: Wall,
) -> Result<(), Failure> {
    let row = installation_read(transaction)
        .await?
        .ok_or_else(|| Failure::new(Reason::ConfigInvalid, "the database has no installation"))?;
    if !installation_activate(transaction, manifest, &row.installation.activation_nonce).await? {
        return Err(Failure::new(Reason::ActivationReplayed, "already activated"));
    }
    let owner = format!("operator:{}", first.terms.name);
    write_first(transaction, rows, &Acting::alone(&owner, pen.clone(), now), manifest, first, now).await?;
    Ok(())
}
