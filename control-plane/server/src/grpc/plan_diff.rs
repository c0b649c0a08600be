//! Shows which nodes would receive what if an act was done. Nothing is signed, written or sent.

use rap_authority::Permission;
use rap_runtime::output::bounded;
use rap_types::Reason;
use rap_wire::v1;
use v1::plan_diff_request::Act;

use crate::acts::policy::write_policy;
use crate::acts::remove_node::{NodeRemoval, write_named_removal};
use crate::acts::update_node::write_update;
use crate::auth::actor::Actor;
use crate::database::change::{Acting, REASON_CAP};
use crate::failure::Failure;
use crate::grpc::admin::nodes::wanted;
use crate::grpc::answer::Answer;
use crate::publish::preview::Preview;
use crate::replica::Replica;
use crate::serve::cluster::Cluster;
use crate::views::cluster::plan_diff::to_wire;

/// The permission that the act itself takes.
pub(super) fn permission(request: &v1::PlanDiffRequest) -> Permission {
    match &request.act {
        Some(Act::PolicySet(_)) => Permission::PolicyChange,
        Some(Act::NodeRevoke(_)) => Permission::NodeRevoke,
        Some(Act::NodeUpdate(_)) | None => Permission::NodeUpdate,
    }
}

pub(super) async fn show(
    replica: &Replica,
    actor: &Actor,
    request: v1::PlanDiffRequest,
) -> Answer<v1::PlanDiff> {
    let act = request.act.ok_or_else(|| Failure::new(Reason::RequestInvalid, "no act is named"))?;
    let (Act::NodeUpdate(v1::NodeUpdateRequest { cluster, .. })
    | Act::PolicySet(v1::MembershipPolicySetRequest { cluster, .. })
    | Act::NodeRevoke(v1::NodeRevokeRequest { cluster, .. })) = &act;
    let cluster = replica.serving.cluster_named(cluster).await?;
    let mut preview = Preview::begin(&replica.serving, &cluster, replica.config.loopback).await?;
    let deadline = preview.deadline;
    let shown =
        tokio::time::timeout_at(deadline, planned(replica, actor, &cluster, &mut preview, &act)).await;
    preview.end().await;
    let late = |_| Failure::new(Reason::RequestTimeout, "the plan was not made in time, nothing was changed");
    let diff = shown.map_err(late)??;
    let records = |one: &v1::PlannedDelivery| one.appear.len() + one.change.len() + one.disappear.len();
    if diff.deliveries.iter().map(records).sum::<usize>() > RECORDS_MOST {
        return Err(Failure::new(Reason::RequestTooLarge, "the difference is too large to be shown"));
    }
    Ok(diff)
}

/// More than an act brings about, unless it lets in nodes that had no room: then the answer could exceed 4 MiB.
const RECORDS_MOST: usize = 50_000;

/// Runs the write half of the act between two plans.
async fn planned(
    replica: &Replica,
    actor: &Actor,
    cluster: &Cluster,
    preview: &mut Preview<'_>,
    act: &Act,
) -> Result<v1::PlanDiff, Failure> {
    let before = preview.plan_before().await?;
    let acting = |reason: &str| Acting { dry_run: true, ..actor.acting(reason) };
    let transaction = &mut preview.transaction;
    let supposed = match act {
        Act::NodeUpdate(request) => {
            write_update(transaction, &acting(""), cluster, &request.node, &wanted(request)?).await?;
            None
        }
        Act::PolicySet(request) => {
            write_policy(transaction, &acting(""), cluster, request, None).await?;
            None
        }
        Act::NodeRevoke(request) => {
            let acting = acting(&bounded(&request.reason, REASON_CAP));
            let removal = NodeRemoval::by_operator(request.evict);
            let node = &request.node;
            let (_, removed) =
                write_named_removal(&replica.serving, transaction, &acting, cluster, node, removal).await?;
            Some(removed.known.chain)
        }
    };
    let after = preview.plan_after(Some(&before), supposed).await?;
    Ok(to_wire(&before, &after))
}
