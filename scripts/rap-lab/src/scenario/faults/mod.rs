//! Faults that were found by use, each as a check of its own file: what the mend does, and a control that shows that the check can
//! fail.

mod ca_rotation;
mod database;
mod descriptors;
mod dials;
mod dual_stack_budget;
mod full_at_start;
mod held_open;
mod identities;
mod insensible_snapshot;
mod interface_put_right;
mod ipv6_off;
mod leaves_blind_replica;
mod names_as_endpoints;
mod no_false_divergence;
mod pool_overlaps_host;
mod presented_leaf;
mod readiness_is_writing;
mod replicas;
mod reserve_for_peers;
mod scene;
mod shown;
mod slow_reader_ended;
mod stored_files;
mod undone_commit_found;
mod unreachable_when_down;
mod weak_host;

use anyhow::Result;

use self::scene::{Scene, Size};
use super::Scenario;
use crate::check::{Finding, Report};
use crate::lab::Lab;
use crate::mode::Mode;
use crate::programs::have_test_hooks;

/// See the module.
pub const FAULTS: Scenario = Scenario {
    name: "faults",
    shows: "what was found by use stays mended, each with its effect and a control",
    needs_programs: true,
    run: |lab, report| run(lab, report, Size::Short, CHECKS),
};

/// The checks that take minutes at the size that was promised.
pub const FAULTS_LONG: Scenario = Scenario {
    name: "faults-long",
    shows: "the checks of faults that have a longer form",
    needs_programs: true,
    run: |lab, report| run(lab, report, Size::Full, LONG),
};

/// One check: its id, where it can be made, and what it does.
type Check = (&'static str, Where, fn(&Scene<'_>) -> Result<Finding>);

/// Where a check can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Hosts need interfaces and routes of their own.
    Namespaces,
    /// Programs take another wall clock: those of a debug build.
    TestHooks,
}

/// Every check, in the order in which they run. Each leaves the scene as it found it.
const CHECKS: &[Check] = &[
    ("descriptors", Where::Namespaces, descriptors::check),
    ("weak_host", Where::Namespaces, weak_host::check),
    ("pool_overlaps_host", Where::Namespaces, pool_overlaps_host::check),
    ("ipv6_off", Where::Namespaces, ipv6_off::check),
    ("interface_put_right", Where::Namespaces, interface_put_right::check),
    ("unreachable_when_down", Where::Namespaces, unreachable_when_down::check),
    ("names_as_endpoints", Where::Namespaces, names_as_endpoints::check),
    ("dual_stack_budget", Where::Namespaces, dual_stack_budget::check),
    ("ca_rotation", Where::Namespaces, ca_rotation::check),
    ("ca_rotation_slept_through", Where::Namespaces, ca_rotation::slept_through),
    ("cloned_node", Where::Namespaces, identities::cloned),
    ("rolled_back_node", Where::Namespaces, identities::rolled_back),
    ("reserve_for_peers", Where::Namespaces, reserve_for_peers::check),
    SLOW_READER_ENDED,
    ("full_at_start", Where::Namespaces, full_at_start::check),
    ("insensible_snapshot", Where::Namespaces, insensible_snapshot::check),
    ("foreign_leaf", Where::Namespaces, stored_files::foreign_leaf),
    ("floors_missing", Where::Namespaces, stored_files::floors_missing),
    ("clock_back", Where::TestHooks, stored_files::clock_back),
    ("alarm_lasts", Where::Namespaces, database::alarm_lasts),
    ("undone_commit_found", Where::Namespaces, undone_commit_found::check),
    ("done_is_done", Where::Namespaces, database::done_is_done),
    ("readiness_is_writing", Where::Namespaces, readiness_is_writing::check),
    LEAVES_BLIND_REPLICA,
    NO_FALSE_DIVERGENCE,
    ("orphan_postgres", Where::Namespaces, database::orphan_postgres),
];

/// Those with a longer form.
const LONG: &[Check] = &[SLOW_READER_ENDED, LEAVES_BLIND_REPLICA, NO_FALSE_DIVERGENCE];

const SLOW_READER_ENDED: Check = ("slow_reader_ended", Where::Namespaces, slow_reader_ended::check);

const LEAVES_BLIND_REPLICA: Check = ("leaves_blind_replica", Where::Namespaces, leaves_blind_replica::check);

const NO_FALSE_DIVERGENCE: Check = ("no_false_divergence", Where::Namespaces, no_false_divergence::check);

fn run(lab: &Lab, report: &mut Report, size: Size, checks: &[Check]) -> Result<()> {
    let scene = scene::prepare(lab, size)?;
    let hooks = have_test_hooks(lab)?;
    for (id, place, check) in checks {
        let possible = match place {
            Where::Namespaces => lab.mode() == Mode::Namespaces,
            Where::TestHooks => lab.mode() == Mode::Namespaces && hooks,
        };
        if !possible {
            continue;
        }
        report.check(id, || check(&scene));
    }
    // No check may leave the installation worse than it found it.
    scene.control.wait_answering()?;
    Ok(())
}
