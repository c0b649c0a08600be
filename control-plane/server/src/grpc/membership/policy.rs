//! How long memberships and keys last: the policy of kind `membership`.

use std::sync::Arc;
use std::time::Duration;

use rap_store::{
    PgConnection, PolicyRow, audit_insert, cluster_hold, config_seq_allocate, outbox_append, policies_list,
    policy_upsert,
};
use rap_types::Reason;
use rap_wire::v1;
use serde::{Deserialize, Serialize};

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
    fn check(&self) -> Result<(), Failure> {
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

    fn to_wire(self) -> v1::MembershipPolicy {
        v1::MembershipPolicy {
            ephemeral_after_ms: self.ephemeral_after_ms,
            wireguard_key_max_age_ms: self.wireguard_key_max_age_ms,
            identity_key_max_age_ms: self.identity_key_max_age_ms,
            keep_ids: self.keep_ids,
        }
    }
}

/// The membership policy among a cluster's policies.
///
/// # Errors
/// `row.tampered` if it does not read.
pub fn policy_of(policies: &[PolicyRow]) -> Result<MembershipPolicy, Failure> {
    let Some(policy) = policies.iter().find(|policy| policy.kind == KIND) else {
        return Ok(MembershipPolicy::default());
    };
    serde_json::from_value(policy.body.clone())
        .map_err(|_| Failure::new(Reason::RowTampered, "membership policy"))
}

/// The stored membership policy of a cluster, or the default.
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
    Ok(read_policy(&mut transaction, &cluster).await?.to_wire())
}

pub(super) async fn set(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::MembershipPolicySetRequest,
) -> Result<v1::MembershipPolicy, Failure> {
    let cluster = adoption::first_act(control, actor, &request.cluster).await?;
    let done: Result<MembershipPolicy, Failure> =
        rap_store::transact!(control.store.system(), |connection| {
            write(connection, actor, &cluster, &request).await
        });
    let policy = done?;
    control.changed(&cluster).await;
    Ok(policy.to_wire())
}

async fn write(
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &Cluster,
    request: &v1::MembershipPolicySetRequest,
) -> Result<MembershipPolicy, Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let present = read_policy(connection, cluster).await?;
    let policy = MembershipPolicy {
        ephemeral_after_ms: request.ephemeral_after_ms.unwrap_or(present.ephemeral_after_ms),
        wireguard_key_max_age_ms: request
            .wireguard_key_max_age_ms
            .unwrap_or(present.wireguard_key_max_age_ms),
        identity_key_max_age_ms: request.identity_key_max_age_ms.unwrap_or(present.identity_key_max_age_ms),
        keep_ids: request.keep_ids.unwrap_or(present.keep_ids),
    };
    policy.check()?;
    let body = serde_json::to_value(policy)
        .map_err(|error| Failure::new(Reason::ServerInternal, error.to_string()))?;
    policy_upsert(connection, &cluster.rows, KIND, &body).await?;
    let seq = config_seq_allocate(connection, cluster.id).await?;
    outbox_append(connection, cluster.id, seq, &["policy".to_owned()], false).await?;
    let object = format!("cluster/{}", cluster.id);
    let entry = audit(
        &actor.audit_name(),
        "policy.membership",
        object,
        Some(cluster.id),
        None,
        &body.to_string(),
        actor.call,
    );
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(policy)
}

const KIND: &str = "membership";
const SHORTEST_ABSENCE_MS: u64 = 5_000;
const SHORTEST_AGE_MS: u64 = 10_000;
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
