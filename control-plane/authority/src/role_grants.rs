//! Platform role grants: the first grant, changes of the set, and its renewal by time.
//!
//! Owns the rules for granting and revoking, and the documents that are signed for them. Refuses to own storage: a
//! change consists of a grant and the next set, and the caller stores both or neither.

use std::time::Duration;

use rap_contract::{
    Audience, Expectation, HeaderTerms, PublicKey, ROLE_GRANT_SET_CAP, ROLE_GRANT_SET_LIFE, Reject,
    RoleGrantSet, RoleGrantTerms, RoleGrants, Signer, sign,
};
use rap_types::{ClusterId, Digest, InstallationId, PlatformRole, Reason, Wall};
use rap_wire::v1;

use crate::installation::{critical, known_features};
use crate::{Floor, Permission};

/// For whom grants are signed, and by what.
#[derive(Debug, Clone, Copy)]
pub struct RoleGrantScope<'a> {
    /// Installation.
    pub installation: InstallationId,
    /// True for a development installation.
    pub dev: bool,
    /// The installation authority.
    pub authority: &'a Signer,
}

/// What an operator asks for.
#[derive(Debug, Clone)]
pub struct RoleGrantOrder {
    /// Key of the new operator.
    pub subject: PublicKey,
    /// Name for audit and screens.
    pub name: String,
    /// What the operator may do.
    pub role: PlatformRole,
    /// How long; for ever if absent.
    pub valid_for: Option<Duration>,
}

/// A set that was just signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoleGrantSet {
    /// Its position and digest.
    pub at: Floor,
    /// The encoded envelope.
    pub envelope: Vec<u8>,
}

/// A grant or revocation that was just signed, and the set that takes it up. Stored together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleGrantChange {
    /// What the grant says.
    pub terms: RoleGrantTerms,
    /// The encoded grant.
    pub grant: Vec<u8>,
    /// The next set.
    pub set: SignedRoleGrantSet,
}

/// Grant 1 of set 1: the owner that the activation manifest names.
///
/// # Errors
/// None that a verified manifest leads to.
pub fn first_role_grant(
    scope: &RoleGrantScope<'_>,
    owner_name: &str,
    owner_key: PublicKey,
    now: Wall,
) -> Result<RoleGrantChange, Reject> {
    let order = RoleGrantOrder {
        subject: owner_key,
        name: owner_name.to_owned(),
        role: PlatformRole::Owner,
        valid_for: None,
    };
    let grant = sign_grant(scope, 1, &order, None, now);
    let terms = reopen(scope, &grant)?;
    let set = sign_set(scope, 1, None, vec![terms.digest], now)?;
    Ok(RoleGrantChange { terms, grant, set })
}

/// Signs a new grant and the next set, if the actor may and the order is sound.
///
/// # Errors
/// `grant.missing`, `request.invalid`, `resource.exists`.
pub fn add_role_grant(
    scope: &RoleGrantScope<'_>,
    current: &RoleGrants,
    actor: &RoleGrantTerms,
    order: &RoleGrantOrder,
    now: Wall,
) -> Result<RoleGrantChange, Reject> {
    permission_to_grant(order.role).check(actor.role)?;
    check_order(order)?;
    for grant in current.live().iter().filter(|grant| grant.holds_at(now)) {
        if grant.subject == order.subject {
            return Err(Reject::new(Reason::ResourceExists, "this key holds a grant; revoke that first"));
        }
        if grant.name == order.name {
            return Err(Reject::new(Reason::ResourceExists, "an operator of this name holds a grant"));
        }
    }
    let sequence = current.set().sequence + 1;
    let grant = sign_grant(scope, sequence, order, None, now);
    let terms = reopen(scope, &grant)?;
    let mut members = current.set().members.clone();
    members.push(terms.digest);
    let set = sign_set(scope, sequence, Some(current.set().digest), members, now)?;
    Ok(RoleGrantChange { terms, grant, set })
}

/// Signs the revocation of a live grant and the next set, which names the revocation in its place.
///
/// # Errors
/// `grant.missing`, `resource.not_found`, `grant.last_owner`.
pub fn revoke_role_grant(
    scope: &RoleGrantScope<'_>,
    current: &RoleGrants,
    actor: &RoleGrantTerms,
    digest: Digest,
    now: Wall,
) -> Result<RoleGrantChange, Reject> {
    Permission::GrantChange.check(actor.role)?;
    let grant = current
        .live()
        .iter()
        .find(|grant| grant.digest == digest)
        .ok_or(Reject::new(Reason::ResourceNotFound, "no such live grant"))?;
    // An owner whose grant ends some day does not count: nobody would be left after that day.
    let remains = |other: &RoleGrantTerms| {
        other.digest != digest && other.role == PlatformRole::Owner && other.expires_at.is_none()
    };
    if grant.role == PlatformRole::Owner && !current.live().iter().any(remains) {
        return Err(Reject::new(Reason::GrantLastOwner, "grant another owner first, without an end"));
    }
    let order = RoleGrantOrder {
        subject: grant.subject,
        name: grant.name.clone(),
        role: grant.role,
        valid_for: None,
    };
    let sequence = current.set().sequence + 1;
    let revocation = sign_grant(scope, sequence, &order, Some(digest), now);
    let terms = reopen(scope, &revocation)?;
    let mut members = current.set().members.clone();
    members.retain(|member| *member != digest);
    members.push(terms.digest);
    let set = sign_set(scope, sequence, Some(current.set().digest), members, now)?;
    Ok(RoleGrantChange { terms, grant: revocation, set })
}

/// True once half of the set's life is over.
pub fn renewal_is_due(set: &RoleGrantSet, now: Wall) -> bool {
    now >= set.issued_at.plus(ROLE_GRANT_SET_LIFE / 2)
}

/// Signs the set again for another day. Its members are those of the verified set, whatever rows say.
///
/// # Errors
/// None for a verified set.
pub fn renew_role_grant_set(
    scope: &RoleGrantScope<'_>,
    current: &RoleGrantSet,
    now: Wall,
) -> Result<SignedRoleGrantSet, Reject> {
    sign_set(scope, current.sequence + 1, Some(current.digest), current.members.clone(), now)
}

/// What granting `role` needs.
pub fn permission_to_grant(role: PlatformRole) -> Permission {
    match role {
        PlatformRole::Owner => Permission::GrantRestoreOwner,
        PlatformRole::Admin | PlatformRole::Recovery => Permission::GrantChange,
    }
}

fn check_order(order: &RoleGrantOrder) -> Result<(), Reject> {
    let invalid = |what| Err(Reject::new(Reason::RequestInvalid, what));
    let name = &order.name;
    if name.trim() != name || name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        return invalid("a name has 1 to 256 bytes, no control characters, no white space at its ends");
    }
    match order.valid_for {
        Some(life) if life < SHORTEST || life > LONGEST => {
            invalid("a grant lives from a minute to ten years")
        }
        _ => Ok(()),
    }
}

fn header(scope: &RoleGrantScope<'_>, sequence: u64, now: Wall, expires_at: Option<Wall>) -> v1::Header {
    HeaderTerms {
        sequence,
        expires_at,
        critical: critical(scope.dev),
        ..HeaderTerms::of_installation(scope.installation, scope.authority.id(), now)
    }
    .to_wire()
}

fn sign_grant(
    scope: &RoleGrantScope<'_>,
    sequence: u64,
    order: &RoleGrantOrder,
    revokes: Option<Digest>,
    now: Wall,
) -> Vec<u8> {
    let expires_at = order.valid_for.map(|life| now.plus(life));
    let grant = v1::RoleGrant {
        header: Some(header(scope, sequence, now, expires_at)),
        subject_key: order.subject.to_vec(),
        platform_role: order.role.to_string(),
        revoked: revokes.is_some(),
        subject_name: order.name.clone(),
        revokes_digest: revokes.map(Digest::to_vec).unwrap_or_default(),
    };
    sign(&grant, &[scope.authority])
}

fn sign_set(
    scope: &RoleGrantScope<'_>,
    sequence: u64,
    previous: Option<Digest>,
    mut members: Vec<Digest>,
    now: Wall,
) -> Result<SignedRoleGrantSet, Reject> {
    Reject::when(members.len() > ROLE_GRANT_SET_CAP, Reason::RequestTooLarge, "the role-grant set is full")?;
    members.sort_unstable();
    let set = v1::RoleGrantSet {
        header: Some(header(scope, sequence, now, Some(now.plus(ROLE_GRANT_SET_LIFE)))),
        grant_digests: members.into_iter().map(Digest::to_vec).collect(),
        previous_set_digest: previous.map(Digest::to_vec).unwrap_or_default(),
    };
    let envelope = sign(&set, &[scope.authority]);
    let authority = scope.authority.public();
    let (_, terms) = expecting(scope, |expect| RoleGrantSet::open(&envelope, &authority, expect))?;
    Ok(SignedRoleGrantSet { at: Floor { sequence, digest: terms.digest }, envelope })
}

fn reopen(scope: &RoleGrantScope<'_>, grant: &[u8]) -> Result<RoleGrantTerms, Reject> {
    let authority = scope.authority.public();
    expecting(scope, |expect| RoleGrantTerms::open(grant, &authority, expect)).map(|(_, terms)| terms)
}

fn expecting<T>(
    scope: &RoleGrantScope<'_>,
    open: impl FnOnce(&Expectation<'_>) -> Result<T, Reject>,
) -> Result<T, Reject> {
    let audience = [Audience::Installation(scope.installation)];
    let within = Expectation::within(scope.installation, ClusterId::ZERO, known_features(scope.dev));
    open(&within.for_one_of(&audience))
}

const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
