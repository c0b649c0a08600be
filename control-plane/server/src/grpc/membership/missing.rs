//! Policies whose row is gone: shown, and written anew on an owner's word.
//!
//! Owns the one way back from a missing row. Whoever writes the database can take a row away, so no default
//! takes its place by itself: an owner sees what will be written and says so. Refuses to touch a row that is
//! there; one that does not hold stays `row.tampered`.

use std::sync::Arc;

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy};
use rap_store::{
    PgConnection, PolicyRow, audit_insert, cluster_hold, config_seq_allocate, outbox_append, policies_list,
    policy_insert,
};
use rap_types::Reason;
use rap_wire::v1;
use serde_json::Value;

use super::policy::{body, says_degraded, says_membership, to_wire};
use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::{Actor, Failure, audit};

/// The policies of a cluster with those filled in that it lacks.
struct Filled {
    policy: NodeLifecyclePolicy,
    degraded: DegradedPolicy,
    /// What it lacks, and what fills it in.
    missing: Vec<(&'static str, Value)>,
}

impl Filled {
    /// Takes what `values` say, and the default of what they do not, for each kind without a row.
    ///
    /// # Errors
    /// `row.tampered` for a row that is there and does not read; `request.invalid` for a value that cannot
    /// be set, or of a kind that is there.
    fn of(rows: &[PolicyRow], values: &v1::MembershipPolicySetRequest) -> Result<Self, Failure> {
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

    fn kinds(&self) -> Vec<&'static str> {
        self.missing.iter().map(|(kind, _)| *kind).collect()
    }

    fn into_wire(self) -> v1::MissingPolicies {
        let kinds = self.kinds().into_iter().map(str::to_owned).collect();
        v1::MissingPolicies { kinds, policy: Some(to_wire((self.policy, self.degraded))) }
    }
}

/// What is missing, and what would be written.
pub(super) async fn look(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::MembershipPolicySetRequest,
) -> Result<v1::MissingPolicies, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let mut transaction = control.store.system().begin().await?;
    let rows = policies_list(&mut transaction, &cluster.rows).await?;
    Ok(Filled::of(&rows, &request)?.into_wire())
}

/// Writes what is missing.
pub(super) async fn restore(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::PolicyRestoreRequest,
) -> Result<v1::MissingPolicies, Failure> {
    let values = request.values.unwrap_or_default();
    let cluster = control.cluster_named(&values.cluster).await?;
    let done: Result<_, Failure> = rap_store::transact!(control.store.system(), |connection| {
        write(connection, actor, &cluster, &values, &request.kinds).await
    });
    let filled = done?;
    control.changed(&cluster).await;
    control.absence.notify_one();
    Ok(filled.into_wire())
}

async fn write(
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
        let entry = audit(&name, "policy.restore", object, Some(cluster.id), None, &text, actor.call);
        audit_insert(connection, &actor.pen, &entry).await?;
    }
    if !filled.missing.is_empty() {
        let seq = config_seq_allocate(connection, cluster.id).await?;
        outbox_append(connection, cluster.id, seq, &["policy".to_owned()], false).await?;
    }
    Ok(filled)
}
