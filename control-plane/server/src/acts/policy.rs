//! Writes the policies of a cluster.
//!
//! Owns that every cluster has a row of each kind from the start. Refuses to own what a policy may say
//! (rap-authority).

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy, RowKeys};
use rap_store::{PgConnection, PolicyRow, SystemTransaction, cluster_hold, policies_list, policy_upsert};
use rap_types::Reason;
use rap_wire::v1;
use serde::Serialize;
use serde_json::Value;

use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::Cluster;

/// The policies of a cluster as a request makes them.
pub(crate) struct Policies {
    pub(crate) policy: NodeLifecyclePolicy,
    pub(crate) degraded: DegradedPolicy,
    /// The kinds that had no row.
    pub(crate) missing: Vec<&'static str>,
    /// The kinds that are written.
    written: Vec<(&'static str, Value)>,
}

impl Policies {
    /// Takes what `values` say, and leaves the rest. To `restore` is to make the kinds that have no row, and no other:
    /// from their defaults.
    ///
    /// # Errors
    /// `row.tampered` for a row that is gone, unless it is restored, or that does not read; `request.invalid` for a
    /// value that cannot be set, or of a kind that is there and is to be restored.
    pub(crate) fn of(
        rows: &[PolicyRow],
        values: &v1::MembershipPolicySetRequest,
        restore: bool,
    ) -> Result<Self, Failure> {
        let mut made = Vec::from(defaults()?);
        made.retain(|(kind, _)| restore && !rows.iter().any(|row| row.kind == *kind));
        let entries =
            || rows.iter().map(PolicyRow::entry).chain(made.iter().map(|(kind, body)| (*kind, body)));
        let policy = NodeLifecyclePolicy::among(entries())?.changed(values);
        policy.check()?;
        let degraded = DegradedPolicy::among(entries())?.changed(values)?;
        let missing: Vec<&str> = made.iter().map(|(kind, _)| *kind).collect();
        let mut written = Vec::new();
        let says_degraded = says_degraded(values);
        let says_membership = says_membership(values);
        for (kind, says, body) in [
            (NodeLifecyclePolicy::KIND, says_membership, body(&policy)?),
            (DegradedPolicy::KIND, says_degraded, body(&degraded)?),
        ] {
            let is_missing = missing.contains(&kind);
            if restore && says && !is_missing {
                let text =
                    format!("the {kind} policy is there: it is changed without restoring what is missing");
                return Err(Failure::new(Reason::RequestInvalid, text));
            }
            // A request that says nothing writes the first kind as it is.
            let says = says || kind == NodeLifecyclePolicy::KIND && !says_degraded;
            if is_missing || !restore && says {
                written.push((kind, body));
            }
        }
        Ok(Self { policy, degraded, missing, written })
    }
}

/// What a new cluster begins with.
fn defaults() -> Result<[(&'static str, Value); 2], Failure> {
    Ok([
        (NodeLifecyclePolicy::KIND, body(&NodeLifecyclePolicy::default())?),
        (DegradedPolicy::KIND, body(&DegradedPolicy::default())?),
    ])
}

/// Writes the policies that a new cluster begins with, unless it has some.
pub(crate) async fn first_policies(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
) -> Result<(), Failure> {
    let present = policies_list(transaction, keys).await?;
    for (kind, body) in defaults()? {
        if !present.iter().any(|policy| policy.kind == kind) {
            policy_upsert(transaction, keys, kind, &body).await?;
        }
    }
    Ok(())
}

fn body(policy: &impl Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(policy).map_err(Failure::of(Reason::ServerInternal))
}

/// The stored membership policy of a cluster.
pub(crate) async fn read_policy(
    connection: &mut PgConnection,
    cluster: &Cluster,
) -> Result<NodeLifecyclePolicy, Failure> {
    let rows = policies_list(connection, &cluster.rows).await?;
    Ok(NodeLifecyclePolicy::among(rows.iter().map(PolicyRow::entry))?)
}

/// Writes what a request changes. With the kinds that were `seen` missing it writes those anew, and no other.
///
/// # Errors
/// Those of [`Policies::of`]; `request.conflict` if other kinds are missing than were seen.
pub(crate) async fn write_policy(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    values: &v1::MembershipPolicySetRequest,
    seen: Option<&[String]>,
) -> Result<Policies, Failure> {
    cluster_hold(transaction, &cluster.rows).await?;
    let rows = policies_list(transaction, &cluster.rows).await?;
    let policies = Policies::of(&rows, values, seen.is_some())?;
    if seen.is_some_and(|seen| policies.missing != seen) {
        let text = "other policies are missing than those that were shown: look again";
        return Err(Failure::new(Reason::RequestConflict, text));
    }
    for (index, (kind, body)) in policies.written.iter().enumerate() {
        policy_upsert(transaction, &cluster.rows, kind, body).await?;
        let (action, reason) = match (seen, *kind) {
            (Some(_), _) => ("policy.restore", format!("{kind} was gone: {body}")),
            (None, DegradedPolicy::KIND) => ("policy.degraded", body.to_string()),
            (None, _) => ("policy.membership", body.to_string()),
        };
        let change = Change::of(action, format!("cluster/{}", cluster.id)).inside(cluster.id).because(reason);
        let is_last = index + 1 == policies.written.len();
        let change = if is_last { change.touches(cluster.id, ["policy"], false) } else { change };
        change.record(transaction, acting).await?;
    }
    Ok(policies)
}

/// Whether a request has a value of the policy of kind `degraded`.
fn says_degraded(request: &v1::MembershipPolicySetRequest) -> bool {
    request.degraded_ends.is_some() || request.survive_forever_roles.is_some()
}

/// Whether a request has a value of the policy of kind `membership`.
fn says_membership(request: &v1::MembershipPolicySetRequest) -> bool {
    let ages = v1::MembershipPolicySetRequest {
        cluster: String::new(),
        degraded_ends: None,
        survive_forever_roles: None,
        ..request.clone()
    };
    ages != v1::MembershipPolicySetRequest::default()
}
