//! The difference of two plans, with the names of the nodes in it.

use std::collections::BTreeSet;

use rap_contract::peer_of_slot;
use rap_planner::Plan;
use rap_types::NodeId;
use rap_wire::v1;

pub(crate) fn to_wire(before: &Plan, after: &Plan) -> v1::PlanDiff {
    let diff = before.diff(after);
    let mut nodes: BTreeSet<NodeId> = diff.cut_off.iter().copied().collect();
    let mut deliveries = Vec::new();
    for (records, receivers) in diff.receivers {
        let slots = [&records.appear, &records.change, &records.disappear];
        nodes.extend(slots.into_iter().flatten().filter_map(|slot| peer_of_slot(slot)));
        nodes.extend(&receivers);
        deliveries.push(v1::PlannedDelivery {
            node_ids: receivers.iter().map(|node| node.to_vec()).collect(),
            appear: records.appear,
            change: records.change,
            disappear: records.disappear,
        });
    }
    let named = |node: &NodeId| v1::PlannedNode {
        node_id: node.to_vec(),
        name: after.name(*node).or_else(|| before.name(*node)).unwrap_or_default(),
    };
    v1::PlanDiff {
        cluster_id: after.cluster.to_vec(),
        incarnation: after.incarnation.0,
        version: after.version.0,
        follows: before.version.0,
        deliveries,
        cut_off: diff.cut_off.iter().map(|node| node.to_vec()).collect(),
        nodes: nodes.iter().map(named).collect(),
    }
}
