//! Grants and revokes a platform role.

use std::sync::Arc;

use rap_authority::{
    AdmittedRoleGrants, FloorOf, Permission, RoleGrantChange, RoleGrantOrder, RowKeys, add_role_grant, ids,
    permission_to_grant, revoke_role_grant,
};
use rap_contract::RoleGrantTerms;
use rap_store::{
    OperatorRow, StoreError, SystemTransaction, operator_put, operator_shut_out, role_grant_insert,
    role_grant_set_insert,
};
use rap_types::{OperatorId, Reason, Wall};
use rap_wire::v1;

use crate::auth::actor::Actor;
use crate::database::change::Change;
use crate::failure::Failure;
use crate::serve::handle::Serving;
use crate::serve::role_grants;

/// Stores a grant or revocation with its set, and what follows for the operator's row, in the caller's
/// transaction.
///
/// # Errors
/// A transient one if another replica stored a set of this sequence meanwhile: read and decide again.
pub async fn store_change(
    transaction: &mut SystemTransaction,
    rows: &RowKeys,
    change: &RoleGrantChange,
    now: Wall,
) -> Result<(), Failure> {
    let RoleGrantChange { terms, grant, set } = change;
    if !role_grant_set_insert(transaction, set.at.sequence, set.at.digest, &set.envelope).await? {
        return Err(StoreError::Contended("role_grant_sets".to_owned()).into());
    }
    transaction.effects.signed.push((FloorOf::GrantSet, set.at));
    role_grant_insert(transaction, terms.digest, terms.subject.as_bytes(), terms.role, grant).await?;
    if terms.revokes.is_some() {
        // The grant is what counts: an altered row of the operator must not keep it from being revoked.
        return match operator_shut_out(transaction, rows, terms.subject.as_bytes()).await {
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
    Ok(operator_put(transaction, rows, &operator).await?)
}

pub(crate) async fn write_grant(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    actor: &Actor,
    order: &RoleGrantOrder,
) -> Result<(RoleGrantTerms, Arc<AdmittedRoleGrants>), Failure> {
    let admitted = role_grants::current(serving).await?;
    let now = serving.watch.clock.now().wall;
    let by = admitted.allow(&actor.key, permission_to_grant(order.role), now)?;
    let change =
        add_role_grant(&serving.keys.installation.role_grant_scope(), admitted.grants(), by, order, now)?;
    store_change(transaction, &serving.keys.rows, &change, now).await?;
    let acting = actor.acting(format!("{} for {}", order.role, order.subject.id()));
    let entry = Change::of("grant.add", format!("operator/{}", order.name)).after(change.terms.digest);
    entry.record(transaction, &acting).await?;
    Ok((change.terms, role_grants::judge(serving, transaction).await?))
}

pub(crate) async fn write_grant_revocation(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    actor: &Actor,
    request: &v1::GrantRevokeRequest,
) -> Result<(RoleGrantTerms, Arc<AdmittedRoleGrants>), Failure> {
    let admitted = role_grants::current(serving).await?;
    let now = serving.watch.clock.now().wall;
    let by = admitted.allow(&actor.key, Permission::GrantChange, now)?;
    let grant = live(&admitted, &request.grant)
        .ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such live grant"))?;
    let scope = serving.keys.installation.role_grant_scope();
    let change = revoke_role_grant(&scope, admitted.grants(), by, grant.digest, now)?;
    store_change(transaction, &serving.keys.rows, &change, now).await?;
    let entry = Change::of("grant.revoke", format!("operator/{}", grant.name));
    let entry = entry.before(grant.digest).after(change.terms.digest);
    entry.record(transaction, &actor.acting(&request.reason)).await?;
    Ok((grant.clone(), role_grants::judge(serving, transaction).await?))
}

/// By digest, else by key, else by name: an operator may be called like another's digest.
pub(crate) fn named<'a, I: Iterator<Item = &'a RoleGrantTerms>>(
    of: impl Fn() -> I,
    text: &str,
) -> Option<&'a RoleGrantTerms> {
    of().find(|terms| terms.digest.to_string() == text)
        .or_else(|| of().find(|terms| terms.subject.id().to_string() == text))
        .or_else(|| of().find(|terms| terms.name == text))
}

pub(crate) fn live<'a>(admitted: &'a AdmittedRoleGrants, text: &str) -> Option<&'a RoleGrantTerms> {
    named(|| admitted.grants().live().iter(), text)
}
