//! A cluster's policies for operators; and how long memberships and keys last, the policy of kind
//! `membership`.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::RowKeys;
use rap_store::{
    PgConnection, PolicyRow, audit_insert, cluster_hold, config_seq_allocate, outbox_append, policies_list,
    policy_upsert,
};
use rap_types::Reason;
use rap_wire::v1;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::DegradedPolicy;
use crate::adoption;
use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::{Actor, Failure, audit};

/// The policy as stored; absent fields have their default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MembershipPolicy {
    /// Absence after which an ephemeral node is removed, milliseconds.
    pub ephemeral_after_ms: u64,
    /// Age at which a node replaces its WireGuard key, milliseconds; 0 = never.
    pub wireguard_key_max_age_ms: u64,
    /// Age at which a node replaces its identity key, milliseconds; 0 = never.
    pub identity_key_max_age_ms: u64,
    /// An approved key that a gone node had gets that node's id again.
    pub keep_ids: bool,
}

impl Default for MembershipPolicy {
    fn default() -> Self {
        let ephemeral_after_ms = 600_000;
        Self { ephemeral_after_ms, wireguard_key_max_age_ms: 0, identity_key_max_age_ms: 0, keep_ids: false }
    }
}

impl MembershipPolicy {
    /// Refuses a policy under which nodes would vanish or rotate without a fault.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let invalid = |text: &str| Err(Failure::new(Reason::RequestInvalid, text));
        if self.ephemeral_after_ms < SHORTEST_ABSENCE_MS {
            return invalid("ephemeral nodes are removed after at least 5 s of absence");
        }
        let young = |age: u64| age != 0 && age < SHORTEST_AGE_MS;
        if young(self.wireguard_key_max_age_ms) || young(self.identity_key_max_age_ms) {
            return invalid("a maximum age of keys is at least 10 s, or 0 for none");
        }
        let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
        let all = [self.ephemeral_after_ms, self.wireguard_key_max_age_ms, self.identity_key_max_age_ms];
        if all.iter().any(|one| *one > longest) {
            return invalid("at most ten years");
        }
        Ok(())
    }

    pub(super) fn changed(mut self, request: &v1::MembershipPolicySetRequest) -> Self {
        let set = |into: &mut u64, wanted: Option<u64>| *into = wanted.unwrap_or(*into);
        set(&mut self.ephemeral_after_ms, request.ephemeral_after_ms);
        set(&mut self.wireguard_key_max_age_ms, request.wireguard_key_max_age_ms);
        set(&mut self.identity_key_max_age_ms, request.identity_key_max_age_ms);
        self.keep_ids = request.keep_ids.unwrap_or(self.keep_ids);
        self
    }
}

pub(super) fn to_wire((policy, degraded): (MembershipPolicy, DegradedPolicy)) -> v1::MembershipPolicy {
    v1::MembershipPolicy {
        ephemeral_after_ms: policy.ephemeral_after_ms,
        wireguard_key_max_age_ms: policy.wireguard_key_max_age_ms,
        identity_key_max_age_ms: policy.identity_key_max_age_ms,
        keep_ids: policy.keep_ids,
        degraded_ends: degraded.ends,
        survive_forever_roles: degraded.survive_forever_roles,
    }
}

/// The membership policy among a cluster's policies.
///
/// # Errors
/// `row.tampered` as [`stored`].
pub fn policy_of(policies: &[PolicyRow]) -> Result<MembershipPolicy, Failure> {
    stored(policies, KIND)
}

/// The policy of one kind. Every cluster has a row of each from the start, so that taking one away is
/// seen and does not bring the defaults back.
///
/// # Errors
/// `row.tampered` if it is gone or does not read.
pub(super) fn stored<P: DeserializeOwned>(policies: &[PolicyRow], kind: &str) -> Result<P, Failure> {
    let tampered = |how: &str| Failure::new(Reason::RowTampered, format!("the {kind} policy {how}"));
    let row = policies.iter().find(|policy| policy.kind == kind).ok_or_else(|| tampered(GONE))?;
    serde_json::from_value(row.body.clone()).map_err(|_| tampered("does not read"))
}

/// Writes the policies that a new cluster begins with, unless it has some.
pub async fn first_policies(connection: &mut PgConnection, keys: &RowKeys) -> Result<(), Failure> {
    let present = policies_list(connection, keys).await?;
    let defaults = [
        (KIND, body(&MembershipPolicy::default())?),
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
) -> Result<MembershipPolicy, Failure> {
    policy_of(&policies_list(connection, &cluster.rows).await?)
}

pub(super) async fn show(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::ClusterRef,
) -> Result<v1::MembershipPolicy, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let mut transaction = control.store.system().begin().await?;
    let rows = policies_list(&mut transaction, &cluster.rows).await?;
    Ok(to_wire((policy_of(&rows)?, DegradedPolicy::among(&rows)?)))
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
) -> Result<(MembershipPolicy, DegradedPolicy), Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let rows = policies_list(connection, &cluster.rows).await?;
    let (present, present_degraded) = (policy_of(&rows)?, DegradedPolicy::among(&rows)?);
    let (policy, degraded) = (present.changed(request), present_degraded.changed(request)?);
    policy.check()?;
    let said = says_degraded(request);
    if said {
        put(connection, actor, cluster, (DegradedPolicy::KIND, "policy.degraded"), &degraded).await?;
    }
    if says_membership(request) || !said {
        put(connection, actor, cluster, (KIND, "policy.membership"), &policy).await?;
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

pub(super) const KIND: &str = "membership";
const GONE: &str = "is gone (an owner writes it anew: rapctl cluster policy CLUSTER --restore-missing)";
const SHORTEST_ABSENCE_MS: u64 = 5_000;
const SHORTEST_AGE_MS: u64 = 10_000;
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
