//! Compares an operator's row with the signed grant.

use rap_authority::AdmittedRoleGrants;
use rap_contract::{PublicKey, RoleGrantTerms};
use rap_store::{OperatorRow, StoreError};
use rap_types::Reason;

use crate::failure::Failure;
use crate::watch::handle::Watch;
use crate::watch::raise::alarm_about;

/// What was read of an operator's row, unless its MAC does not hold.
///
/// # Errors
/// Those of reading; `row.tampered` with an alarm.
pub async fn alarm_if_tampered<T>(
    watch: &Watch,
    operator: &PublicKey,
    read: Result<T, StoreError>,
) -> Result<T, Failure> {
    if let Err(error) = &read
        && error.reason() == Reason::RowTampered
    {
        let object = format!("operator/{}", operator.id());
        alarm_about(watch, Reason::RowTampered, &object, "the operator's row was altered").await;
    }
    Ok(read?)
}

/// The operator's row must repeat the signed grant.
///
/// # Errors
/// `row.tampered`, with an alarm.
pub async fn require_row_matches_grant(
    watch: &Watch,
    grant: &RoleGrantTerms,
    row: &OperatorRow,
) -> Result<(), Failure> {
    let checked = AdmittedRoleGrants::check_operator(grant, &row.name, &row.platform_role);
    if let Err(reject) = checked {
        let object = format!("operator/{}", grant.name);
        alarm_about(watch, reject.reason, &object, "the operator's row is not what was granted").await;
        return Err(reject.into());
    }
    Ok(())
}
