//! A cluster's policies for operators: shown, changed, and written for a new cluster.

use std::sync::Arc;

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy, PolicyError, RowKeys};
use rap_store::{
    PgConnection, PolicyRow, audit_insert, cluster_hold, config_seq_allocate, outbox_append, policies_list,
    policy_upsert,
};
use rap_types::Reason;
use rap_wire::v1;
use serde::Serialize;

use crate::adoption;
use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::{Actor, Failure, audit};

pub(super) fn to_wire((policy, degraded): (NodeLifecyclePolicy, DegradedPolicy)) -> v1::MembershipPolicy {
    v1::MembershipPolicy {
        ephemeral_after_ms: policy.ephemeral_after_ms,
        wireguard_key_max_age_ms: policy.wireguard_key_max_age_ms,
        identity_key_max_age_ms: policy.identity_key_max_age_ms,
        keep_ids: policy.keep_ids,
        degraded_ends: degraded.ends,
        survive_forever_roles: degraded.survive_forever_roles,
    }
}

/// The policies among a cluster's rows.
///
/// # Errors
/// [`PolicyError::Missing`], [`PolicyError::Unreadable`].
pub fn policies_of(rows: &[PolicyRow]) -> Result<(NodeLifecyclePolicy, DegradedPolicy), PolicyError> {
    let entries = || rows.iter().map(PolicyRow::entry);
    Ok((NodeLifecyclePolicy::among(entries())?, DegradedPolicy::among(entries())?))
}

/// Writes the policies that a new cluster begins with, unless it has some.
pub async fn first_policies(connection: &mut PgConnection, keys: &RowKeys) -> Result<(), Failure> {
    let present = policies_list(connection, keys).await?;
    let defaults = [
        (NodeLifecyclePolicy::KIND, body(&NodeLifecyclePolicy::default())?),
        (DegradedPolicy::KIND, body(&DegradedPolicy::default())?),
    ];
    for (kind, body) in defaults {
        if !present.iter().any(|policy| policy.kind == kind) {
            policy_upsert(connection, keys, kind, &body).await?;
        }
    }
    Ok(())
}

pub(super) fn body(policy: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(policy).map_err(|error| Failure::new(Reason::ServerInternal, error.to_string()))
}

/// The stored membership policy of a cluster.
pub async fn read_policy(
    connection: &mut PgConnection,
    cluster: &Cluster,
) -> Result<NodeLifecyclePolicy, Failure> {
    let rows = policies_list(connection, &cluster.rows).await?;
    Ok(NodeLifecyclePolicy::among(rows.iter().map(PolicyRow::entry))?)
}

pub(super) async fn show(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::ClusterRef,
) -> Result<v1::MembershipPolicy, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let mut transaction = control.store.system().begin().await?;
    let rows = policies_list(&mut transaction, &cluster.rows).await?;
    Ok(to_wire(policies_of(&rows)?))
}

pub(super) async fn set(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::MembershipPolicySetRequest,
) -> Result<v1::MembershipPolicy, Failure> {
    let cluster = adoption::first_act(control, actor, &request.cluster).await?;
    let done: Result<_, Failure> = rap_store::transact!(control.store.system(), |connection| {
        write(connection, actor, &cluster, &request).await
    });
    let policies = done?;
    control.changed(&cluster).await;
    control.absence.notify_one();
    Ok(to_wire(policies))
}

async fn write(
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &Cluster,
    request: &v1::MembershipPolicySetRequest,
) -> Result<(NodeLifecyclePolicy, DegradedPolicy), Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let rows = policies_list(connection, &cluster.rows).await?;
    let (present, present_degraded) = policies_of(&rows)?;
    let (policy, degraded) = (present.changed(request), present_degraded.changed(request)?);
    policy.check()?;
    let said = says_degraded(request);
    if said {
        put(connection, actor, cluster, (DegradedPolicy::KIND, "policy.degraded"), &degraded).await?;
    }
    if says_membership(request) || !said {
        put(connection, actor, cluster, (NodeLifecyclePolicy::KIND, "policy.membership"), &policy).await?;
    }
    let seq = config_seq_allocate(connection, cluster.id).await?;
    outbox_append(connection, cluster.id, seq, &["policy".to_owned()], false).await?;
    Ok((policy, degraded))
}

/// Whether a request has a value of the policy of kind `degraded`.
pub(super) fn says_degraded(request: &v1::MembershipPolicySetRequest) -> bool {
    request.degraded_ends.is_some() || request.survive_forever_roles.is_some()
}

/// Whether a request has a value of the policy of kind `membership`.
pub(super) fn says_membership(request: &v1::MembershipPolicySetRequest) -> bool {
    let ages = v1::MembershipPolicySetRequest {
        cluster: String::new(),
        degraded_ends: None,
        survive_forever_roles: None,
        ..request.clone()
    };
    ages != v1::MembershipPolicySetRequest::default()
}

/// Writes one kind of policy, and that it was written.
async fn put(
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &Cluster,
    (kind, action): (&str, &str),
    policy: &impl Serialize,
) -> Result<(), Failure> {
    let body = body(policy)?;
    policy_upsert(connection, &cluster.rows, kind, &body).await?;
    let object = format!("cluster/{}", cluster.id);
    let (name, text) = (actor.audit_name(), body.to_string());
    let entry = audit(&name, action, object, Some(cluster.id), None, &text, actor.call);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(())
}
