//! Authorises an operator's call.
//!
//! An operator's authority is what the newest signed role-grant set says of the key in the bearer, at or above
//! this replica's floor. The session's row only says that the bearer was given out and not taken back, and
//! nobody without the session key can make such a row.

use rap_authority::Permission;
use rap_contract::Reject;
use rap_store::session_read;
use rap_types::Reason;

use crate::auth::actor::Actor;
use crate::auth::call::Call;
use crate::auth::operator_row::{alarm_if_tampered, require_row_matches_grant};
use crate::database::claim::Claim;
use crate::failure::Failure;
use crate::serve::handle::Serving;
use crate::serve::role_grants;
use crate::watch::raise::tell_refusal;

/// Finds the operator behind a call and lets the call do what needs `permission`, or not.
///
/// # Errors
/// `session.missing`, `session.expired`, `activation.required`, `grant.missing`, `floor.missing`; and,
/// with an alarm, `row.tampered` and what [`read`](crate::serve::role_grants::read) refuses.
pub async fn authorize(serving: &Serving, call: &Call, permission: Permission) -> Result<Actor, Failure> {
    let missing = || Failure::new(Reason::SessionMissing, "no session");
    let claim = call.session.ok_or_else(missing)?;
    let now = serving.watch.clock.now().wall;
    let mut snapshot = serving.database.store.system().begin_snapshot().await?;
    let session = session_read(&mut snapshot, &serving.keys.rows, claim.hash).await;
    let session = alarm_if_tampered(&serving.watch, &claim.operator, session).await?;
    serving.keys.installation.refresh_activation(&mut snapshot).await?;
    let Some(session) = session else {
        serving.known.remove(&claim.hash);
        return Err(missing());
    };
    if !session.live || claim.expires_at <= now {
        return Err(Failure::new(Reason::SessionExpired, "the session ended"));
    }
    serving.keys.installation.activated()?;
    drop(snapshot);
    let mut admitted = role_grants::read(serving).await?;
    if now >= admitted.grants().set().expires_at {
        admitted = role_grants::current(serving).await?;
    }
    let pen = serving.keys.pen.of_device(call.device(Some(&claim.operator)));
    let grant = match admitted.allow(&claim.operator, permission, now) {
        Ok(grant) => grant,
        Err(reject) => {
            let failure = named(&reject, permission);
            let actor = format!("operator:{}", session.operator.name);
            let acting = call.acting(&serving.keys.pen, actor, Some(&claim.operator));
            tell_refusal(&serving.watch, &acting, &call.method, &failure).await;
            return Err(failure);
        }
    };
    require_row_matches_grant(&serving.watch, grant, &session.operator).await?;
    serving.known.insert(claim.hash, claim.expires_at, now);
    let (name, pending) = (grant.name.clone(), call.pending.clone());
    Ok(Actor {
        name,
        key: claim.operator,
        session: claim.hash,
        call: call.id,
        pen,
        pending,
        claim: Claim::default(),
    })
}

/// The refusal with who may do it, where it is the role that lacks the permission.
fn named(reject: &Reject, permission: Permission) -> Failure {
    if reject.reason != Reason::GrantMissing || reject.what != permission.name() {
        return Failure::from(*reject);
    }
    let roles: Vec<&str> = permission.roles().iter().map(|role| role.as_str()).collect();
    Failure::new(reject.reason, format!("{} takes the role {}", permission.name(), roles.join(" or ")))
}
