//! The compromise drill: an attacker owns PostgreSQL, then a control-plane process without the keys, then one enrolled node. Each
//! step shows what is refused, what is alarmed, and that traffic goes on.

mod grants;
mod history;
mod node;
mod replica;
mod rows;

use anyhow::{Context, Result};
use serde_json::json;

use super::Scenario;
use crate::check::{Finding, Report};
use crate::fabric::{Control, Intruder, Node, Pace, Watch};
use crate::lab::Lab;

/// See the module.
pub const COMPROMISE: Scenario = Scenario {
    name: "compromise",
    shows: "whoever owns the database, a replica without keys, or one node gains nothing by it, is noticed, and stops no traffic",
    needs_programs: true,
    run,
};

/// A strict installation with three nodes, and somebody inside its database.
pub struct Scene<'a> {
    pub lab: &'a Lab,
    pub control: Control,
    pub intruder: Intruder,
    pub nodes: [Node; 3],
}

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    let scene = prepare(lab)?;
    let [one, two, _] = &scene.nodes;
    let watch = one.watch(lab, two)?;

    report.check("role_edit_refused", || grants::role_edit(&scene));
    report.check("copied_grant_refused", || grants::copied_grant(&scene));
    report.check("old_grants_refused", || grants::old_copy(&scene));
    report.check("widened_token_refused", || rows::widened_token(&scene));
    report.check("replaced_node_key_refused", || rows::replaced_key(&scene));
    report.check("added_node_refused", || rows::added_node(&scene));
    report.check("planted_cluster_refused", || rows::planted_cluster(&scene));
    report.check("edited_policy_refused", || rows::edited_policy(&scene));
    report.check("deleted_policy_refused", || rows::deleted_policy(&scene));
    report.check("unrevoked_node_refused", || rows::unrevoked(&scene));
    report.check("deleted_heads_refused", || history::deleted_heads(&scene));
    report.check("edited_audit_found", || history::edited_audit(&scene));
    scene.intruder.leave()?;
    report.check("old_database_refused", || history::old_database(&scene));
    report.check("traffic_went_on_database", || traffic(watch));

    report.check("replica_without_keys_refused", || replica::without_keys(&scene));
    report.check("impostor_refused", || replica::impostor(&scene));

    report.check("spoofed_source_dropped", || node::spoofed_source(&scene));
    report.check("stolen_identity_revoked", || node::stolen_identity(&scene));
    Ok(())
}

fn prepare(lab: &Lab) -> Result<Scene<'_>> {
    let control = Control::start_strict(lab, "cp")?;
    control.create_cluster(CLUSTER, Pace::default())?;
    let token = control.create_token(CLUSTER, "--role relay-node --auto-approve --uses 3")?;
    let nodes = ["n1", "n2", "n3"].map(|name| enrolled(lab, name, &token));
    let [one, two, three] = nodes;
    let nodes = [one?, two?, three?];
    for node in &nodes {
        node.wait_healthy()?;
    }
    let intruder = Intruder::into_database_of(&control)?;
    Ok(Scene { lab, control, intruder, nodes })
}

fn enrolled(lab: &Lab, name: &str, token: &[u8]) -> Result<Node> {
    let node = Node::configure_strict(lab, name)?;
    node.join(token).with_context(|| format!("{name} joins"))?;
    node.run()?;
    Ok(node)
}

fn traffic(watch: Watch) -> Result<Finding> {
    watch.wait_answers(20)?;
    let pings = watch.end()?;
    let value = json!({ "pings": pings.sent, "lost": pings.lost() });
    Ok(Finding::new(
        pings.lost() == 0,
        value,
        "pings between two nodes during the whole drill inside the database",
    ))
}

impl Scene<'_> {
    /// The id of a node by its name.
    pub fn id_of(&self, name: &str) -> Result<String> {
        let node = self.control.ask(&format!("node show {name} --cluster {CLUSTER}"))?;
        Ok(node["node_id"].as_str().context("node id")?.to_owned())
    }

    /// The version that every node has verified by now.
    pub fn version(&self) -> Result<u64> {
        let (_, status) = self.nodes[0].status()?;
        status["active"]["sequence"].as_u64().context("no active snapshot")
    }

    /// A change by an operator that every node must come to know: shows that publication works.
    pub fn publishes(&self) -> Result<()> {
        let before = self.version()?;
        let region = format!("r{before}");
        self.control.rapctl(&format!("node update n2 --cluster {CLUSTER} --region {region}"))?;
        self.nodes[0].wait_status("hears of a change", crate::fabric::SETTLE, |_, status| {
            status["active"]["sequence"].as_u64() > Some(before)
        })?;
        Ok(())
    }
}

pub const CLUSTER: &str = "prod";
