//! Commits that the database undoes: what was signed counts at every replica, and is no success.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::dials::PORTS;
use super::presented_leaf::PresentedLeaf;
use super::replicas::{OWNER, Replicas};
use super::scene::{CLUSTER, Scene};
use super::shown::{Half, half, shown};
use crate::check::Finding;
use crate::fabric::{CALL, Intruder, Node, SETTLE};
use crate::folder::write_secret;
use crate::wait::{rest, wait_until};

/// Undoes at COMMIT what a transaction wrote.
const UNDO: &str = "
CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'node_revocations' THEN
        DELETE FROM public.node_revocations WHERE cluster_id = NEW.cluster_id AND sequence = NEW.sequence;
    WHEN 'role_grant_sets' THEN DELETE FROM public.role_grant_sets WHERE sequence = NEW.sequence;
    WHEN 'platform_role_grants' THEN DELETE FROM public.platform_role_grants WHERE grant_digest = NEW.grant_digest;
    WHEN 'audit_log' THEN DELETE FROM public.audit_log WHERE entry_id = NEW.entry_id;
    WHEN 'nodes' THEN
        UPDATE public.nodes SET identity_status = OLD.identity_status, row_version = OLD.row_version, row_mac = OLD.row_mac
            WHERE node_id = OLD.node_id;
    WHEN 'join_tokens' THEN
        UPDATE public.join_tokens SET revoked_at = OLD.revoked_at, row_version = OLD.row_version, row_mac = OLD.row_mac
            WHERE token_id = OLD.token_id;
    WHEN 'cluster_authorities' THEN
        UPDATE public.cluster_authorities SET state = OLD.state, sealed_private_key = OLD.sealed_private_key,
            row_version = OLD.row_version, row_mac = OLD.row_mac
            WHERE cluster_id = OLD.cluster_id AND sequence = OLD.sequence;
    END CASE;
    RETURN NULL;
END $$";

/// What is undone in which table. The undoing itself lowers the version of a row, and is not undone.
const TABLES: [(&str, &str, &str); 7] = [
    ("node_revocations", "INSERT", ""),
    ("role_grant_sets", "INSERT", ""),
    ("platform_role_grants", "INSERT", ""),
    (
        "nodes",
        "UPDATE",
        "WHEN (NEW.identity_status IS DISTINCT FROM OLD.identity_status AND NEW.row_version > OLD.row_version)",
    ),
    (
        "join_tokens",
        "UPDATE",
        "WHEN (NEW.revoked_at IS DISTINCT FROM OLD.revoked_at AND NEW.row_version > OLD.row_version)",
    ),
    (
        "cluster_authorities",
        "UPDATE",
        "WHEN (NEW.state IS DISTINCT FROM OLD.state AND NEW.row_version > OLD.row_version)",
    ),
    ("audit_log", "INSERT", "WHEN (NEW.action = 'policy.membership')"),
];

/// Acts that the database undoes are refused, what was signed is in force at three replicas, and an honest act beside them is done.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    Replicas::during(scene, |replicas, intruder| {
        let found = measured(scene, replicas, intruder);
        // The product's own triggers are put on again whatever was found.
        for (table, ..) in TABLES {
            intruder.does(&format!(
                "DROP TRIGGER IF EXISTS undone ON {table}; ALTER TABLE {table} ENABLE TRIGGER USER"
            ))?;
        }
        intruder.does("DROP FUNCTION IF EXISTS undo()")?;
        let (effect, control) = found?;
        wait_until(
            SETTLE,
            "the database has again what it lost: three documents and the row of the node",
            || {
                let entries = scene.control.ask("audit list --action floor.healed")?;
                Ok(entries["entries"].as_array().is_some_and(|entries| entries.len() >= 4).then_some(()))
            },
        )?;
        let note = "undone acts end with 7 and count at every replica; honest ones go on, and what was lost is put back";
        Ok(shown(effect, control, note))
    })
}

fn measured(scene: &Scene<'_>, replicas: &Replicas<'_>, intruder: &Intruder) -> Result<(Half, Half)> {
    enter(scene, replicas)?;
    let token = scene.control.create_token(CLUSTER, "--auto-approve")?;
    let node = Node::configure_strict(scene.lab, LOST)?;
    node.join(&token).context("lost joins")?;
    let agent = node.run()?;
    node.wait_healthy()?;
    let leaf = PresentedLeaf::of(&node)?;
    agent.stop()?;
    let spare = scene.control.ask(&format!("token create --cluster {CLUSTER} --ttl 1h"))?;
    let spare = spare["token_id"].as_str().context("token id")?.to_owned();
    for words in ["authority rotate --yes", "authority taint --force --yes"] {
        scene.control.rapctl(&format!("{words} --cluster {CLUSTER}"))?;
    }
    let let_in = let_in(scene, replicas, &node, &leaf)?;
    intruder.does(UNDO)?;
    // One table at a time: a control plane takes locks in another order.
    for (table, what, when) in TABLES {
        intruder.does(&format!(
            "ALTER TABLE {table} DISABLE TRIGGER USER;
             CREATE CONSTRAINT TRIGGER undone AFTER {what} ON {table} DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW {when} EXECUTE FUNCTION undo()"
        ))?;
    }
    let mut acts: Vec<Value> = Vec::new();
    for (what, words) in [
        ("grant", "grant revoke lost@example.com --yes --reason drill".to_owned()),
        ("node", format!("node revoke {LOST} --cluster {CLUSTER} --yes --reason drill")),
        ("authority", format!("authority revoke --cluster {CLUSTER} --yes")),
        ("token", format!("token revoke {spare} --yes --reason drill")),
        ("audit", format!("cluster policy {CLUSTER} --ephemeral-after 2h")),
    ] {
        let answer = replicas.typed(0, OWNER, &words)?;
        acts.push(json!({ "act": what, "exit": answer.code, "said": answer.stderr.trim() }));
    }
    let honest = replicas.typed(0, OWNER, &format!("token create --cluster {CLUSTER} --ttl 1h"))?;
    rest(WITHIN);
    let still_in = self::let_in(scene, replicas, &node, &leaf)?;
    let undone = acts.iter().all(|act| act["exit"] == 7);
    let effect = half(
        undone && still_in == NOBODY && honest.code == Some(0),
        json!({
            "undone": acts, "let_in_at": still_in, "honest_exit": honest.code, "honest_said": honest.stderr.trim(),
        }),
    );
    let control = half(let_in == [PORTS.len(); 2], json!({ "let_in_before_at": let_in }));
    Ok((effect, control))
}

/// How many replicas let the operator in, and how many the node.
fn let_in(
    scene: &Scene<'_>,
    replicas: &Replicas<'_>,
    node: &Node,
    leaf: &PresentedLeaf,
) -> Result<[usize; 2]> {
    let mut counts = [0; 2];
    for (replica, port) in PORTS.into_iter().enumerate() {
        let answer = replicas.typed(replica, LOST, "cluster list")?;
        ensure!(answer.code != Some(6), "replica {replica} is not there: {}", answer.stderr);
        counts[0] += usize::from(answer.code == Some(0));
        counts[1] += usize::from(leaf.shown_to_control(node, &scene.control, port)?.is_none());
    }
    Ok(counts)
}

/// A second operator, logged in at every replica.
fn enter(scene: &Scene<'_>, replicas: &Replicas<'_>) -> Result<()> {
    let host = scene.control.host();
    host.typed("rapctl key create --out lost", CALL)?;
    scene.control.rapctl("grant add lost@example.com --role platform_admin --key lost.pub --yes")?;
    let context = scene.control.rapctl("context export")?.stdout;
    write_secret(&host.folder("home").join("lost.context"), context.as_bytes())?;
    replicas.typed(0, LOST, "context import lost.context")?.success()?;
    replicas.typed(0, LOST, "login --key lost.key")?.success()?;
    (1..PORTS.len()).try_for_each(|replica| replicas.context(replica, LOST))
}

const LOST: &str = "lost";
const NOBODY: [usize; 2] = [0; 2];
/// What was signed counts at every replica by then.
const WITHIN: Duration = Duration::from_secs(12);
