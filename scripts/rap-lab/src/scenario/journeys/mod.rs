//! Three journeys through the shipped programs, compared with docs/develop/the-way-of-a-change.md: which modules a change passes, in
//! which order. Owns the journeys; the page owns what is expected.

mod page;
mod record;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Scenario;
use crate::check::{Finding, Report};
use crate::fabric::{Control, Node, Pace, SETTLE};
use crate::lab::Lab;
use crate::wait::wait_until;

use page::{Journey, Step};
use record::{Place, Recording};

/// See the module.
pub const JOURNEYS: Scenario = Scenario {
    name: "journeys",
    shows: "a change passes the modules that docs/develop/the-way-of-a-change.md names, in that order",
    needs_programs: true,
    run,
};

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    let control = Control::start_strict_with(lab, "cp", &variables())?;
    // Nothing but the change itself may pass the modules: heads are signed again only after an hour.
    control.create_cluster(CLUSTER, Pace { refresh_every: HOUR / 4, fresh_for: HOUR })?;
    let one = node(lab, "n1")?;
    one.join(&control.create_token(CLUSTER, "--auto-approve")?)?;
    one.run()?;
    one.wait_healthy()?;
    let mut two = None;
    report.check("token_to_contract", || token_to_contract(lab, &control));
    report.check("approve_to_packet", || approve_to_packet(lab, &control, &one, &mut two));
    report.check("revocation_to_closed_link", || {
        revocation_to_closed_link(lab, &control, &one, two.as_ref().context("the second node did not join")?)
    });
    Ok(())
}

/// A token is made, a host uses it, and has its contract on disk. The new version is published beside the answer to the applicant.
fn token_to_contract(lab: &Lab, control: &Control) -> Result<Finding> {
    let host = node(lab, "t1")?;
    let recording = Recording::begin(&[Place::control_plane(control, lab)?]);
    let token = control.create_token(CLUSTER, "--auto-approve")?;
    let joined = host.join(&token)?;
    let passed = recording.end_with(&[("join", joined.stderr.as_str())])?;
    compare("From a token to a contract", &without(passed, is_publication))
}

/// A request is approved; then a packet of another node reaches the new one.
fn approve_to_packet(lab: &Lab, control: &Control, one: &Node, second: &mut Option<Node>) -> Result<Finding> {
    let token = control.create_token(CLUSTER, "")?;
    let two = node(lab, "n2")?;
    let passed = std::thread::scope(|scope| {
        let join = scope.spawn(|| two.join(&token));
        wait_until(SETTLE, "the request waits for approval", || {
            ensure!(!join.is_finished(), "the join ended before it was approved");
            let pending = control.ask(&format!("node list --pending --cluster {CLUSTER}"))?;
            Ok(pending["pending"].as_array().is_some_and(|pending| !pending.is_empty()).then_some(()))
        })?;
        let recording = Recording::begin(&places(control, one, lab)?);
        control.rapctl(&format!("node approve --all-pending --yes --cluster {CLUSTER}"))?;
        join.join().map_err(|_| anyhow::anyhow!("panic while joining"))??;
        two.run()?;
        two.wait_healthy()?;
        wait_linked(one, &two)?;
        one.wait_answer(&two)?;
        recording.end_with(&[(OTHER, Place::data_plane(&two).text()?.as_str())])
    })?;
    *second = Some(two);
    // The new node makes the same way for its own table; here it is only where the packet arrives.
    let mut passed = without(passed, |step| step.place == OTHER && step.module != ARRIVAL);
    let arrived = passed.iter().position(|step| step.module == ARRIVAL);
    passed.truncate(arrived.map_or(passed.len(), |index| index + 1));
    compare("From an approval to a packet", &passed)
}

/// A node is revoked; another closes its link to it. The tunnel and the disk follow beside it.
fn revocation_to_closed_link(lab: &Lab, control: &Control, one: &Node, two: &Node) -> Result<Finding> {
    wait_linked(one, two)?;
    let recording = Recording::begin(&places(control, one, lab)?);
    control.rapctl(&format!("node revoke {} --cluster {CLUSTER} --yes --reason drill", two.name()))?;
    let name = format!("\"{}\"", two.name());
    one.wait_status("has dropped the revoked node", SETTLE, |_, status| {
        !status["peers"].to_string().contains(&name)
    })?;
    let passed = wait_until(SETTLE, "the link has ended", || {
        let passed = recording.end_with(&[])?;
        Ok(passed.iter().any(|step| step.module == LINK).then_some(passed))
    })?;
    let beside = |step: &Step| step.module == "rap_wireguard::device" || step.module.starts_with(DISK);
    compare("From a revocation to a closed link", &published_once(without(passed, beside)))
}

fn places(control: &Control, node: &Node, lab: &Lab) -> Result<[Place; 3]> {
    Ok([Place::control_plane(control, lab)?, Place::agent(node, lab)?, Place::data_plane(node)])
}

fn wait_linked(one: &Node, two: &Node) -> Result<()> {
    let name = serde_json::Value::from(two.name());
    let linked = one.wait_status("has a link to the other node", SETTLE, |_, status| {
        status["peers"]["active"]
            .as_array()
            .is_some_and(|peers| peers.iter().any(|peer| peer["name"] == name))
    });
    linked.map(drop)
}

fn without(passed: Vec<Step>, left_out: impl Fn(&Step) -> bool) -> Vec<Step> {
    passed.into_iter().filter(|step| !left_out(step)).collect()
}

/// The steps of publication, which the journey to a packet names one by one, as one step.
fn published_once(passed: Vec<Step>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for step in passed {
        let step = match is_publication(&step) {
            true => Step { module: "rap_control_plane::publish".to_owned(), ..step },
            false => step,
        };
        if steps.last() != Some(&step) {
            steps.push(step);
        }
    }
    steps
}

fn is_publication(step: &Step) -> bool {
    PUBLICATION.iter().any(|module| step.module.starts_with(module))
}

/// The steps themselves, if they were passed in this order and nothing but them was passed. Heads that are signed again, and versions
/// of before, pass some of the same modules meanwhile; they hide no step. Else every module where it was passed first.
fn along(steps: &[Step], passed: &[Step]) -> Vec<Step> {
    let mut rest = passed;
    for step in steps {
        match rest.iter().position(|one| one == step) {
            Some(at) => rest = &rest[at + 1..],
            None => return record::firsts(passed),
        }
    }
    let strange = passed.iter().any(|one| !steps.contains(one));
    if strange { record::firsts(passed) } else { steps.to_vec() }
}

fn compare(title: &str, passed: &[Step]) -> Result<Finding> {
    let journey = Journey::of_page(title)?;
    ensure!(
        journey.steps.len() <= journey.at_most,
        "the page has {} steps of at most {}",
        journey.steps.len(),
        journey.at_most
    );
    let passed = &along(&journey.steps, passed);
    let shown: Vec<String> = passed.iter().map(ToString::to_string).collect();
    let difference = journey.difference(passed);
    let ok = difference.is_none();
    let note = difference.unwrap_or_else(|| format!("{} steps, as on the page", passed.len()));
    Ok(Finding::new(ok, json!({ "steps": passed.len(), "passed": shown }), note))
}

fn node(lab: &Lab, name: &str) -> Result<Node> {
    Node::configure_strict_with(lab, name, &variables())
}

/// Every module of the product logs what passes it, one JSON object per line.
fn variables() -> Vec<(&'static str, String)> {
    vec![
        ("RAP_LOG", record::FILTER.to_owned()),
        ("RAP_LOG_FORMAT", "json".to_owned()),
        ("RAP_DATAPLANE_LOG_FORMAT", "json".to_owned()),
    ]
}

const PUBLICATION: [&str; 4] = [
    "rap_control_plane::publish",
    "rap_control_plane::serve::feed",
    "rap_planner",
    "rap_control_plane::grpc::sync",
];
const OTHER: &str = "the other data plane";
const ARRIVAL: &str = "rap_wireguard::inbound";
const LINK: &str = "rap_mesh::pump";
const DISK: &str = "rap_node_agent::run::writing";
const CLUSTER: &str = "journeys";
const HOUR: Duration = Duration::from_secs(3600);
