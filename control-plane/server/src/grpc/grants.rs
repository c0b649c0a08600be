//! The service of grants: who may operate the platform, and changes to that.

use rap_authority::{RoleGrantOrder, permission_to_grant};
use rap_contract::PublicKey;
use rap_rpc::v1::grants_server::Grants;
use rap_types::{PlatformRole, Reason};
use rap_wire::v1;

use crate::acts::change::commit;
use crate::acts::grant_role::{live, named, write_grant, write_grant_revocation};
use crate::auth::actor::Actor;
use crate::auth::authorize::authorize;
use crate::auth::call::Call;
use crate::failure::Failure;
use crate::grpc::answer::{Answer, service, told};
use crate::grpc::once;
use crate::replica::Replica;
use crate::serve::role_grants;
use crate::views::owner::grants::{set, view};

service! {
    /// Grants of `rap.fabric.v1`.
    GrantsService: Grants {
        newest_set(GrantSetRequest) -> GrantSetAnswer: open newest_set;
        list(GrantListRequest) -> GrantListAnswer: GrantRead list;
        show(GrantRef) -> PlatformGrant: GrantRead show;
        add(GrantAddRequest) -> PlatformGrant: open add;
        revoke(GrantRevokeRequest) -> PlatformGrant: GrantChange revoke;
    }
}

async fn newest_set(replica: &Replica, _: &Call, _: v1::GrantSetRequest) -> Answer<v1::GrantSetAnswer> {
    role_grants::current(&replica.serving).await.map(|admitted| set(&admitted))
}

async fn list(replica: &Replica, _: &Actor, _: v1::GrantListRequest) -> Answer<v1::GrantListAnswer> {
    let admitted = role_grants::current(&replica.serving).await?;
    let now = replica.watch.clock.now().wall;
    let granted = admitted.documents().iter().filter(|terms| terms.revokes.is_none());
    Ok(v1::GrantListAnswer {
        grants: granted.map(|terms| view(&admitted, terms, now)).collect(),
        set: Some(set(&admitted)),
    })
}

async fn show(replica: &Replica, _: &Actor, request: v1::GrantRef) -> Answer<v1::PlatformGrant> {
    let text = &request.grant;
    let admitted = role_grants::current(&replica.serving).await?;
    // The live one of a name, or the newest that had it.
    let documents = admitted.documents();
    let gone = || documents.iter().filter(|terms| terms.revokes.is_none()).rev();
    let found = live(&admitted, text).or_else(|| named(gone, text));
    let found = found.ok_or_else(|| Failure::new(Reason::ResourceNotFound, "no such grant"))?;
    Ok(view(&admitted, found, replica.watch.clock.now().wall))
}

/// What is needed depends on the role that is granted, so the request is read first.
async fn add(replica: &Replica, call: &Call, request: v1::GrantAddRequest) -> Answer<v1::PlatformGrant> {
    let role: PlatformRole = request.platform_role.parse()?;
    let mut actor = authorize(&replica.serving, call, permission_to_grant(role)).await?;
    actor.claim = once::claim_of(call, &actor, &request);
    if let Some(first) = once::replayed(&replica.serving, &actor.claim).await? {
        return Ok(first);
    }
    let granted = grant(replica, &actor, role, request).await;
    let answer = once::kept(&replica.serving, &actor.claim, granted).await;
    told(&replica.watch, call, &actor, permission_to_grant(role), answer).await
}

async fn grant(
    replica: &Replica,
    actor: &Actor,
    role: PlatformRole,
    request: v1::GrantAddRequest,
) -> Result<v1::PlatformGrant, Failure> {
    let order = RoleGrantOrder {
        subject: PublicKey::from_slice(&request.subject_key)?,
        name: request.name,
        role,
        valid_for: (request.valid_for_ms != 0)
            .then(|| std::time::Duration::from_millis(request.valid_for_ms)),
    };
    let (added, admitted) = commit!(&replica.serving, &actor.acting(""), |transaction| {
        write_grant(&replica.serving, transaction, actor, &order).await
    })?;
    tracing::warn!(
        operator = %added.name, role = %added.role, by = %actor.name, "a platform role was granted"
    );
    Ok(view(&admitted, &added, replica.watch.clock.now().wall))
}

async fn revoke(
    replica: &Replica,
    actor: &Actor,
    request: v1::GrantRevokeRequest,
) -> Answer<v1::PlatformGrant> {
    let (revoked, admitted) = commit!(&replica.serving, &actor.acting(""), |transaction| {
        write_grant_revocation(&replica.serving, transaction, actor, &request).await
    })?;
    tracing::warn!(
        operator = %revoked.name, role = %revoked.role, by = %actor.name, "a platform role was revoked"
    );
    Ok(view(&admitted, &revoked, replica.watch.clock.now().wall))
}
