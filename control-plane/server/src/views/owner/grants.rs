//! The role-grant set and its grants.

use rap_authority::AdmittedRoleGrants;
use rap_contract::RoleGrantTerms;
use rap_types::Wall;
use rap_wire::v1;

/// The newest set as this replica has verified it.
pub(crate) fn set(admitted: &AdmittedRoleGrants) -> v1::GrantSetAnswer {
    let terms = admitted.grants().set();
    v1::GrantSetAnswer {
        set: admitted.envelope().to_vec(),
        sequence: terms.sequence,
        digest: terms.digest.to_vec(),
        issued_at_ms: terms.issued_at.0,
        expires_at_ms: terms.expires_at.0,
    }
}

pub(crate) fn view(admitted: &AdmittedRoleGrants, terms: &RoleGrantTerms, now: Wall) -> v1::PlatformGrant {
    let revocation = admitted.grants().revocations().iter().find(|one| one.revokes == Some(terms.digest));
    let state = match revocation {
        Some(_) => "revoked",
        None if terms.holds_at(now) => "live",
        None => "ended",
    };
    v1::PlatformGrant {
        digest: terms.digest.to_vec(),
        name: terms.name.clone(),
        subject_key: terms.subject.to_vec(),
        platform_role: terms.role.to_string(),
        state: state.to_owned(),
        issued_at_ms: terms.issued_at.0,
        expires_at_ms: terms.expires_at.map_or(0, |end| end.0),
        revoked_at_ms: revocation.map_or(0, |one| one.issued_at.0),
        taken_up: terms.taken_up,
        set_sequence: admitted.at().sequence,
    }
}
