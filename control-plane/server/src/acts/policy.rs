//! Writes the policies of a cluster.
//!
//! Owns that every cluster has a row of each kind from the start. Refuses to own what a policy may say
//! (rap-authority).

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy, RowKeys};
use rap_store::{
    PgConnection, PolicyRow, audit_insert, cluster_hold, config_seq_allocate, outbox_append, policies_list,
    policy_insert, policy_upsert,
};
use rap_types::Reason;
use rap_wire::v1;
use serde::Serialize;
use serde_json::Value;

use crate::auth::actor::Actor;
use crate::database::audit_row::audit_row;
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
    connection: &mut PgConnection,
    actor: &Actor,
    cluster: &Cluster,
    values: &v1::MembershipPolicySetRequest,
    seen: &[String],
) -> Result<Filled, Failure> {
    cluster_hold(connection, &cluster.rows).await?;
    let rows = policies_list(connection, &cluster.rows).await?;
    let filled = Filled::of(&rows, values)?;
    if filled.kinds() != seen {
        let text = "other policies are missing than those that were shown: look again";
        return Err(Failure::new(Reason::RequestConflict, text));
    }
    for (kind, body) in &filled.missing {
        policy_insert(connection, &cluster.rows, kind, body).await?;
        let object = format!("cluster/{}", cluster.id);
        let (name, text) = (actor.audit_name(), format!("{kind} was gone: {body}"));
        let entry = audit_row(&name, "policy.restore", object, Some(cluster.id), None, &text, actor.call);
        audit_insert(connection, &actor.pen, &entry).await?;
    }
    if !filled.missing.is_empty() {
        let seq = config_seq_allocate(connection, cluster.id).await?;
        outbox_append(connection, cluster.id, seq, &["policy".to_owned()], false).await?;
    }
    Ok(filled)
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

pub(crate) async fn write_policy(
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
    let entry = audit_row(&name, action, object, Some(cluster.id), None, &text, actor.call);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(())
}
