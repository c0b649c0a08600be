//! The service of ends and returns: one file per noun; this one only routes.

use rap_rpc::v1::membership_server::Membership;
use rap_runtime::output::bounded;
use rap_store::{policies_list, revocations_from};
use rap_wire::v1;

use crate::acts::change::commit;
use crate::acts::policy::{Policies, write_policy};
use crate::acts::remove_node::{NodeRemoval, write_named_removal};
use crate::auth::actor::Actor;
use crate::database::change::REASON_CAP;
use crate::failure::Failure;
use crate::grpc::answer::{Answer, service};
use crate::grpc::plan_diff;
use crate::replica::Replica;
use crate::serve::policies::policies_of;
use crate::views::cluster::policy::to_wire;
use crate::views::cluster::rows::node as node_view;

service! {
    /// Membership of `rap.fabric.v1`.
    MembershipService: Membership {
        node_revoke(NodeRevokeRequest) -> NodeRevokeAnswer: NodeRevoke revoke_node;
        revocation_list(RevocationListRequest) -> RevocationListAnswer: NodeRead list_revocations;
        policy_show(ClusterRef) -> MembershipPolicy: ClusterRead show_policy;
        policy_set(MembershipPolicySetRequest) -> MembershipPolicy: PolicyChange set_policy;
        policy_missing(MembershipPolicySetRequest) -> MissingPolicies: ClusterRead look_at_missing;
        policy_restore(PolicyRestoreRequest) -> MissingPolicies: PolicyRestore restore_missing;
        show_plan_diff(PlanDiffRequest) -> PlanDiff: (plan_diff::permission) plan_diff::show;
    }
}

async fn show_policy(replica: &Replica, _: &Actor, request: v1::ClusterRef) -> Answer<v1::MembershipPolicy> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let mut transaction = replica.database.store.system().begin().await?;
    let rows = policies_list(&mut transaction, &cluster.rows).await?;
    Ok(to_wire(policies_of(&rows)?))
}

async fn set_policy(
    replica: &Replica,
    actor: &Actor,
    request: v1::MembershipPolicySetRequest,
) -> Answer<v1::MembershipPolicy> {
    let done = write(replica, actor, &request, None).await?;
    Ok(to_wire((done.policy, done.degraded)))
}

async fn write(
    replica: &Replica,
    actor: &Actor,
    values: &v1::MembershipPolicySetRequest,
    seen: Option<&[String]>,
) -> Result<Policies, Failure> {
    let cluster = replica.serving.cluster_named(&values.cluster).await?;
    let acting = actor.acting("");
    let policies = commit!(&replica.serving, &acting, |transaction| {
        write_policy(transaction, &acting, &cluster, values, seen).await
    })?;
    replica.serving.absence.notify_one();
    Ok(policies)
}

/// Most records of one answer.
const PAGE: u32 = 1000;

async fn list_revocations(
    replica: &Replica,
    _: &Actor,
    request: v1::RevocationListRequest,
) -> Answer<v1::RevocationListAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let known = cluster.revocations.known();
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let chain = replica.serving.revocations(&mut transaction, &cluster, &known).await?.chain;
    let from = request.after.saturating_add(1);
    let rows = revocations_from(&mut transaction, cluster.id, from, PAGE).await?;
    Ok(v1::RevocationListAnswer {
        records: rows.into_iter().map(|row| row.record).collect(),
        sequence: chain.sequence(),
        digest: chain.digest().map(rap_types::Digest::to_vec).unwrap_or_default(),
        authority_records: cluster.chain.envelopes(),
    })
}

async fn revoke_node(
    replica: &Replica,
    actor: &Actor,
    request: v1::NodeRevokeRequest,
) -> Answer<v1::NodeRevokeAnswer> {
    tracing::trace!(way = "an operator revokes a node");
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let acting = actor.acting(bounded(&request.reason, REASON_CAP));
    let removal = NodeRemoval::by_operator(request.evict);
    let (row, recorded) = commit!(&replica.serving, &acting, |transaction| {
        write_named_removal(&replica.serving, transaction, &acting, &cluster, &request.node, removal).await
    })?;
    replica.serving.sessions.end(cluster.id, row.node.node);
    Ok(v1::NodeRevokeAnswer {
        node: Some(node_view(&replica.serving, &cluster, &row)),
        revocation_sequence: recorded.known.chain.sequence(),
        version: recorded.version.unwrap_or(0),
        already: recorded.version.is_none(),
    })
}

/// What is missing, and what would be written.
async fn look_at_missing(
    replica: &Replica,
    _: &Actor,
    request: v1::MembershipPolicySetRequest,
) -> Answer<v1::MissingPolicies> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let mut transaction = replica.database.store.system().begin().await?;
    let rows = policies_list(&mut transaction, &cluster.rows).await?;
    Ok(missing(Policies::of(&rows, &request, true)?))
}

/// Writes what is missing.
async fn restore_missing(
    replica: &Replica,
    actor: &Actor,
    request: v1::PolicyRestoreRequest,
) -> Answer<v1::MissingPolicies> {
    let values = request.values.unwrap_or_default();
    Ok(missing(write(replica, actor, &values, Some(&request.kinds)).await?))
}

fn missing(policies: Policies) -> v1::MissingPolicies {
    let kinds = policies.missing.into_iter().map(str::to_owned).collect();
    v1::MissingPolicies { kinds, policy: Some(to_wire((policies.policy, policies.degraded))) }
}
