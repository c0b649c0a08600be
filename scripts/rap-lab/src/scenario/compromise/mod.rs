//! The compromise drill: an attacker owns PostgreSQL, then a control-plane process without the keys, then one enrolled node. Each
//! step shows what is refused, what is alarmed, and that traffic goes on.

mod grants;
mod history;
mod node;
mod replica;
mod rows;
mod scene;

use anyhow::Result;
use serde_json::json;

use super::Scenario;
use crate::check::{Finding, Report};
use crate::fabric::Watch;
use crate::lab::Lab;

/// See the module.
pub const COMPROMISE: Scenario = Scenario {
    name: "compromise",
    shows: "whoever owns the database, a replica without keys, or one node gains nothing by it, is noticed, and stops no traffic",
    needs_programs: true,
    run,
};

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    let scene = scene::prepare(lab)?;
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
