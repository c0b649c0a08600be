//! Writes the policies of a cluster.
//!
//! Owns that every cluster has a row of each kind from the start. Refuses to own what a policy may say
//! (rap-authority).

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy, RowKeys};
use rap_store::{
    PgConnection, PolicyRow, SystemTransaction, cluster_hold, policies_list, policy_insert, policy_upsert,
};
use rap_types::Reason;
use rap_wire::v1;
use serde::Serialize;
use serde_json::Value;

use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::serve::policies::policies_of;

/// The policies of a cluster with those filled in that it lacks.
pub(crate) struct Filled {
    pub(crate) policy: NodeLifecyclePolicy,
    pub(crate) degraded: DegradedPolicy,
    /// What it lacks, and what fills it in.
    missing: Vec<(&'static str, Value)>,
}

impl Filled {
    /// Takes what `values` say, and the default of what they do not, for each kind without a row.
    ///
    /// # Errors
    /// `row.tampered` for a row that is there and does not read; `request.invalid` for a value that cannot
    /// be set, or of a kind that is there.
    pub(crate) fn of(rows: &[PolicyRow], values: &v1::MembershipPolicySetRequest) -> Result<Self, Failure> {
        let lacks = |kind: &str| !rows.iter().any(|row| row.kind == kind);
        let there = |kind: &str| {
            let text = format!("the {kind} policy is there: it is changed without restoring what is missing");
            Err(Failure::new(Reason::RequestInvalid, text))
        };
        let mut missing = Vec::new();
        let policy = if lacks(NodeLifecyclePolicy::KIND) {
            let policy = NodeLifecyclePolicy::default().changed(values);
            policy.check()?;
            missing.push((NodeLifecyclePolicy::KIND, body(&policy)?));
            policy
        } else {
            let policy = NodeLifecyclePolicy::among(rows.iter().map(PolicyRow::entry))?;
            if says_membership(values) {
                return there(NodeLifecyclePolicy::KIND);
            }
            policy
        };
        let degraded = if lacks(DegradedPolicy::KIND) {
            let degraded = DegradedPolicy::default().changed(values)?;
            missing.push((DegradedPolicy::KIND, body(&degraded)?));
            degraded
        } else {
            let degraded = DegradedPolicy::among(rows.iter().map(PolicyRow::entry))?;
            if says_degraded(values) {
                return there(DegradedPolicy::KIND);
            }
            degraded
        };
        Ok(Self { policy, degraded, missing })
    }

    /// The kinds it lacks.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.missing.iter().map(|(kind, _)| *kind).collect()
    }
}

/// Writes what is missing, if that is what was `seen`.
pub(crate) async fn write_missing(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    values: &v1::MembershipPolicySetRequest,
    seen: &[String],
) -> Result<Filled, Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let rows = policies_list(transaction, &cluster.rows).await?;
    let filled = Filled::of(&rows, values)?;
    if filled.kinds() != seen {
        let text = "other policies are missing than those that were shown: look again";
        return Err(Failure::new(Reason::RequestConflict, text));
    }
    for (index, (kind, body)) in filled.missing.iter().enumerate() {
        policy_insert(transaction, &cluster.rows, kind, body).await?;
        let change = changed(cluster, "policy.restore", index + 1 == filled.missing.len());
        change.because(format!("{kind} was gone: {body}")).record(transaction, acting).await?;
    }
    Ok(filled)
}

/// Writes the policies that a new cluster begins with, unless it has some.
pub(crate) async fn first_policies(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
) -> Result<(), Failure> {
    let present = policies_list(transaction, keys).await?;
    let defaults = [
        (NodeLifecyclePolicy::KIND, body(&NodeLifecyclePolicy::default())?),
        (DegradedPolicy::KIND, body(&DegradedPolicy::default())?),
    ];
    for (kind, body) in defaults {
        if !present.iter().any(|policy| policy.kind == kind) {
            policy_upsert(transaction, keys, kind, &body).await?;
        }
    }
    Ok(())
}

pub(super) fn body(policy: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(policy).map_err(|error| Failure::new(Reason::ServerInternal, error.to_string()))
}

/// The stored membership policy of a cluster.
pub(crate) async fn read_policy(
    connection: &mut PgConnection,
    cluster: &Cluster,
) -> Result<NodeLifecyclePolicy, Failure> {
    let rows = policies_list(connection, &cluster.rows).await?;
    Ok(NodeLifecyclePolicy::among(rows.iter().map(PolicyRow::entry))?)
}

pub(crate) async fn write_policy(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    request: &v1::MembershipPolicySetRequest,
) -> Result<(NodeLifecyclePolicy, DegradedPolicy), Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let rows = policies_list(transaction, &cluster.rows).await?;
    let (present, present_degraded) = policies_of(&rows)?;
    let (policy, degraded) = (present.changed(request), present_degraded.changed(request)?);
    policy.check()?;
    let (says_degraded, says_membership) = (says_degraded(request), says_membership(request));
    let both = says_degraded && says_membership;
    if says_degraded {
        let change = changed(cluster, "policy.degraded", !both);
        put(transaction, acting, cluster, DegradedPolicy::KIND, &degraded, change).await?;
    }
    if says_membership || !says_degraded {
        let change = changed(cluster, "policy.membership", true);
        put(transaction, acting, cluster, NodeLifecyclePolicy::KIND, &policy, change).await?;
    }
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
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    kind: &str,
    policy: &impl Serialize,
    change: Change,
) -> Result<(), Failure> {
    let body = body(policy)?;
    policy_upsert(transaction, &cluster.rows, kind, &body).await?;
    change.because(body.to_string()).record(transaction, acting).await?;
    Ok(())
}

/// A change of the cluster's policies. The `last` one of an act makes the version.
fn changed(cluster: &Cluster, action: &'static str, last: bool) -> Change {
    let change = Change::of(action, format!("cluster/{}", cluster.id)).inside(cluster.id);
    if last { change.touches(cluster.id, ["policy"], false) } else { change }
}
