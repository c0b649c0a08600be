//! Alarms of a publisher: raised once per finding, lowered when it is put right.

use rap_planner::Plan;
use rap_types::{ClusterId, Reason};

use crate::watch::alarms::By;
use crate::watch::handle::Watch;
use crate::watch::raise::alarm_of_cluster;

/// Once per finding, however often the round is tried again. `effect` says what follows from it.
pub(crate) fn raise(watch: &Watch, cluster: ClusterId, reason: Reason, what: &str, effect: &str) {
    if watch.alarms.raise(Some(cluster), By::Publisher, reason, what, watch.clock.now().wall) {
        alarm_of_cluster(watch, cluster, reason, &format!("{what}; {effect}"));
    }
}

/// An alarm while something is left out of the plan, because a node's scope would be too large.
pub(crate) fn tell_left_out(watch: &Watch, cluster: ClusterId, planned: &Plan) {
    let reason = Reason::PlannerScopeTooLarge;
    let Some((node, _)) = planned.left_out.first_key_value() else {
        return watch.alarms.lower(cluster, By::Publisher, reason);
    };
    let what = format!("node {node} and what else exceeds the limits of a node's scope");
    raise(watch, cluster, reason, &what, "left out of what is published");
}

/// An alarm while a row holds what makes no sense: it is left out of the record that other nodes get.
pub(crate) fn tell_senseless(watch: &Watch, cluster: ClusterId, planned: &Plan) {
    let reason = Reason::PlannerFactInvalid;
    let Some((node, why)) = planned.senseless.first_key_value() else {
        return watch.alarms.lower(cluster, By::Publisher, reason);
    };
    let more = match planned.senseless.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} nodes more"),
    };
    raise(watch, cluster, reason, &format!("node {node}: {why}{more}"), "left out of what is published");
}
