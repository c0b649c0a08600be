//! Rows that feed a signature, edited by somebody who owns the database.

use anyhow::{Result, ensure};
use serde_json::json;

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, SETTLE};
use crate::folder::write_secret;

/// A used-up and revoked token is widened in its row.
pub fn widened_token(scene: &Scene<'_>) -> Result<Finding> {
    let token = scene.control.ask(&format!("token create --cluster {CLUSTER} --ttl 1h --auto-approve"))?;
    let (id, text) =
        (token["token_id"].as_str().unwrap_or_default(), token["token"].as_str().unwrap_or_default());
    let before = scene.control.alarms("row.tampered")?;
    scene.intruder.changes_one(&format!("UPDATE join_tokens SET max_uses = 1000 WHERE token_id = '{id}'"))?;
    let node = Node::configure_strict(scene.lab, "t1")?;
    let refused = joining(&node, text)?;
    let alarmed = scene.control.wait_alarm("row.tampered", before)?;
    scene.intruder.changes_one(&format!("UPDATE join_tokens SET max_uses = 1 WHERE token_id = '{id}'"))?;
    let ok = refused.contains("row.tampered");
    let value = json!({ "answer": refused, "alarm_ms": alarmed.as_millis() as u64 });
    Ok(Finding::new(ok, value, "the signed uses win: a token whose row says more is refused and alarmed"))
}

/// The WireGuard key of a node is replaced by the attacker's.
pub fn replaced_key(scene: &Scene<'_>) -> Result<Finding> {
    let id = scene.id_of("n2")?;
    let key = scene
        .intruder
        .reads(&format!("SELECT encode(wireguard_public_key, 'hex') FROM nodes WHERE node_id = '{id}'"))?;
    let evil = "a5".repeat(32);
    let set = |key: &str| {
        format!("UPDATE nodes SET wireguard_public_key = decode('{key}', 'hex') WHERE node_id = '{id}'")
    };
    tampered(
        scene,
        &set(&evil),
        &set(&key),
        "no version is signed from the edited row; the last good one stays in use",
    )
}

/// A node of the attacker is put among the others.
pub fn added_node(scene: &Scene<'_>) -> Result<Finding> {
    let id = "01890000-0000-7000-8000-00000000a77a";
    let columns =
        "cluster_id, organization_id, identity_status, region, tags, capabilities, ephemeral, key_generation";
    let add = format!(
        "INSERT INTO node_addresses (cluster_id, host_number, node_id)
           SELECT cluster_id, 4000, '{id}' FROM clusters WHERE name = '{CLUSTER}';
         INSERT INTO nodes (node_id, name, node_public_key, wireguard_public_key, host_number, {columns})
           SELECT '{id}', 'intruder', decode(repeat('a6', 32), 'hex'), decode(repeat('a7', 32), 'hex'), 4000, {columns}
           FROM nodes WHERE name = 'n3'"
    );
    let remove = format!(
        "DELETE FROM nodes WHERE node_id = '{id}'; DELETE FROM node_addresses WHERE node_id = '{id}'"
    );
    tampered(scene, &add, &remove, "a row without a MAC of the cluster's key is no node")
}

/// A cluster of the attacker's making, with a node of theirs in it, is put beside the others.
pub fn planted_cluster(scene: &Scene<'_>) -> Result<Finding> {
    let (id, node) = ("01890000-0000-7000-8000-00000000c1c1", "01890000-0000-7000-8000-00000000c1c2");
    scene.intruder.does(&format!(
        "INSERT INTO clusters (cluster_id, name, incarnation, ipv4_pool, dev, fresh_for_ms, refresh_every_ms, degraded_for_ms,
             leaf_lifetime_ms) VALUES ('{id}', 'planted', 1, '10.66.0.0/16', false, 300000, 30000, 43200000, 86400000);
         INSERT INTO node_addresses (cluster_id, host_number, node_id) VALUES ('{id}', 1, '{node}');
         INSERT INTO nodes (node_id, cluster_id, name, node_public_key, wireguard_public_key, host_number, identity_status)
           VALUES ('{node}', '{id}', 'intruder', decode(repeat('a8', 32), 'hex'), decode(repeat('a9', 32), 'hex'), 1, 'active')"
    ))?;
    let listed = scene.control.ask("cluster list")?;
    let rows = listed["clusters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = rows.iter().find(|row| row["name"] == "planted");
    let shown = row.is_some_and(|row| row["refused"] == "cluster.no_authority" && row["authority"].is_null());
    scene.control.refuses("node list --cluster planted", "cluster.no_authority")?;
    scene.control.refuses("token create --cluster planted --ttl 1h", "cluster.no_authority")?;
    scene.control.refuses("cluster ensure-authority planted --yes", "row.tampered")?;
    scene.intruder.does("DELETE FROM nodes WHERE name = 'intruder'; DELETE FROM node_addresses WHERE host_number = 1 \
         AND cluster_id = '01890000-0000-7000-8000-00000000c1c1'; UPDATE clusters SET ipv4_pool = '8.8.8.0/24' WHERE name = 'planted'")?;
    scene.control.refuses("cluster ensure-authority planted --yes", "request.invalid")?;
    let keys =
        scene.intruder.reads(&format!("SELECT count(*) FROM cluster_deks WHERE cluster_id = '{id}'"))?;
    scene.intruder.changes_one(&format!("DELETE FROM clusters WHERE cluster_id = '{id}'"))?;
    scene.publishes()?;
    let ok = shown && keys == "0";
    Ok(Finding::new(
        ok,
        json!({ "listed": row }),
        "a row alone gets no keys, and what lies in it is never adopted",
    ))
}

/// The cluster's policy is loosened.
pub fn edited_policy(scene: &Scene<'_>) -> Result<Finding> {
    let was =
        scene.intruder.reads(&format!("SELECT degraded_for_ms FROM clusters WHERE name = '{CLUSTER}'"))?;
    let set = |value: &str| format!("UPDATE clusters SET degraded_for_ms = {value} WHERE name = '{CLUSTER}'");
    tampered(scene, &set("1"), &set(&was), "the policy that nodes have is the one that was decided")
}

/// The cluster's policy is taken away, for the defaults to come back.
pub fn deleted_policy(scene: &Scene<'_>) -> Result<Finding> {
    scene.intruder.keeps("policy", &["cluster_policies"])?;
    let take = "DELETE FROM cluster_policies";
    let undo = "INSERT INTO cluster_policies SELECT * FROM policy_cluster_policies; DROP TABLE policy_cluster_policies";
    tampered(scene, take, undo, "a policy that is gone is not the default one")
}

/// A revoked node is made active again, and its revocation removed.
pub fn unrevoked(scene: &Scene<'_>) -> Result<Finding> {
    let token = scene.control.create_token(CLUSTER, "--auto-approve")?;
    let node = super::scene::enrolled(scene.lab, "x1", &token)?;
    node.wait_healthy()?;
    let id = scene.id_of("x1")?;
    scene.intruder.keeps("old", &["nodes"])?;
    scene.control.rapctl(&format!("node revoke x1 --cluster {CLUSTER} --yes --reason drill"))?;
    let one = &scene.nodes[0];
    one.wait_status("drops the revoked node", SETTLE, |_, status| !status.to_string().contains(&id))?;
    scene.intruder.keeps("new", &["nodes", "node_revocations"])?;
    let before = (scene.control.alarms("row.tampered")?, scene.control.alarms("floor.rollback")?);
    scene.intruder.does(&format!(
        "DELETE FROM node_revocations USING clusters WHERE clusters.name = '{CLUSTER}'
           AND node_revocations.cluster_id = clusters.cluster_id
           AND sequence = (SELECT max(sequence) FROM node_revocations newest WHERE newest.cluster_id = clusters.cluster_id);
         UPDATE nodes SET identity_status = kept.identity_status, status_at = kept.status_at, row_version = kept.row_version,
           row_mac = kept.row_mac
           FROM old_nodes kept WHERE nodes.node_id = kept.node_id AND nodes.node_id = '{id}'"
    ))?;
    touch(scene)?;
    crate::wait::wait_until(SETTLE, "an alarm", || {
        let now = (scene.control.alarms("row.tampered")?, scene.control.alarms("floor.rollback")?);
        Ok((now.0 > before.0 || now.1 > before.1).then_some(()))
    })?;
    let (_, status) = one.status()?;
    let back = status.to_string().contains(&id);
    scene.intruder.puts_back("new", &["node_revocations"])?;
    scene.intruder.does(&format!(
        "UPDATE nodes SET identity_status = kept.identity_status, status_at = kept.status_at, row_version = kept.row_version,
           row_mac = kept.row_mac
           FROM new_nodes kept WHERE nodes.node_id = kept.node_id AND nodes.node_id = '{id}'"
    ))?;
    scene.publishes()?;
    let value = json!({
        "row_tampered": scene.control.alarms("row.tampered")?, "floor_rollback": scene.control.alarms("floor.rollback")?,
    });
    Ok(Finding::new(
        !back,
        value,
        "neither its old row nor a chain without its revocation brings a node back",
    ))
}

/// An edit that must keep a new version from being signed, alarm, and harm nobody; taken back, publication goes on.
fn tampered(scene: &Scene<'_>, edit: &str, undo: &str, note: &str) -> Result<Finding> {
    let (version, before) = (scene.version()?, scene.control.alarms("row.tampered")?);
    scene.intruder.does(edit)?;
    touch(scene)?;
    let alarmed = scene.control.wait_alarm("row.tampered", before)?;
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    let (held, status) = (scene.version()? == version, scene.control.rapctl("status")?.stdout);
    let shown = status.contains("row.tampered");
    scene.intruder.does(undo)?;
    scene.publishes()?;
    let value =
        json!({ "alarm_ms": alarmed.as_millis() as u64, "version_held": held, "status_shows": shown });
    Ok(Finding::new(held && shown, value, note))
}

/// Makes the control plane read its rows: what the attacker would do to have the edit published.
fn touch(scene: &Scene<'_>) -> Result<()> {
    scene.intruder.does(&format!(
        "WITH next AS (UPDATE clusters SET config_seq = config_seq + 1 WHERE name = '{CLUSTER}' RETURNING cluster_id, config_seq)
         INSERT INTO config_outbox (cluster_id, seq, touched) SELECT cluster_id, config_seq, '{{policy}}' FROM next"
    ))?;
    Ok(())
}

/// What a join with this token is told.
fn joining(node: &Node, token: &str) -> Result<String> {
    let path = node.host().folder("home").join("join.token");
    write_secret(&path, token.as_bytes())?;
    let answer = node.host().run(&Invocation::typed("rap-node-agent join --token-file join.token")?, CALL)?;
    ensure!(answer.code != Some(0), "the join was accepted");
    Ok(answer.stderr.trim().to_owned())
}
