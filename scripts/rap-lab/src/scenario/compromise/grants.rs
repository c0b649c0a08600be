//! Platform roles, edited by somebody who owns the database. The second operator is an administrator who would be owner.

use anyhow::{Result, ensure};
use serde_json::json;

use super::scene::Scene;
use crate::check::Finding;
use crate::command::{Answer, Invocation};
use crate::fabric::{CALL, SETTLE};
use crate::folder::write_secret;
use crate::host::Host;
use crate::wait::wait_until;

/// The administrator makes itself owner in the operators table.
pub fn role_edit(scene: &Scene<'_>) -> Result<Finding> {
    let ann = enter(scene)?;
    let before = scene.control.alarms("row.tampered")?;
    let set = |role: &str| format!("UPDATE operators SET platform_role = '{role}' WHERE name = '{ANN}'");
    scene.intruder.changes_one(&set("platform_owner"))?;
    let refused = says(&ann, "rapctl grant list -o json")?;
    let alarmed = scene.control.wait_alarm("row.tampered", before)?;
    scene.control.rapctl("grant list")?;
    scene.intruder.changes_one(&set("platform_admin"))?;
    ann.typed("rapctl cluster list", CALL)?;
    let value = json!({ "said": refused, "alarm_ms": alarmed.as_millis() as u64 });
    let ok = refused.contains("row.tampered");
    Ok(Finding::new(
        ok,
        value,
        "a row that says more than the signed grant lets its operator do nothing; others go on",
    ))
}

/// The owner's grant is copied for the administrator's key.
pub fn copied_grant(scene: &Scene<'_>) -> Result<Finding> {
    let ann = scene.lab.host("ann")?;
    let digest = "c0".repeat(32);
    scene.intruder.changes_one(&format!(
        "INSERT INTO platform_role_grants (grant_digest, subject_key, platform_role, envelope)
           SELECT decode('{digest}', 'hex'), (SELECT public_key FROM operators WHERE name = '{ANN}'), platform_role, envelope
           FROM platform_role_grants WHERE platform_role = 'platform_owner' LIMIT 1"
    ))?;
    let refused = says(&ann, "rapctl grant revoke owner@example.com --yes -o json")?;
    scene.control.rapctl("grant list")?;
    scene.intruder.changes_one(&format!(
        "DELETE FROM platform_role_grants WHERE grant_digest = decode('{digest}', 'hex')"
    ))?;
    ann.typed("rapctl cluster list", CALL)?;
    let ok = ["grant.missing", "row.tampered"].iter().any(|code| refused.contains(code));
    Ok(Finding::new(
        ok,
        json!({ "said": refused }),
        "a grant that the signed set does not name grants nothing",
    ))
}

/// The administrator is dismissed, and the attacker puts the tables of the day before back.
pub fn old_copy(scene: &Scene<'_>) -> Result<Finding> {
    let ann = scene.lab.host("ann")?;
    let tables = ["platform_role_grants", "role_grant_sets"];
    scene.intruder.keeps("old", &["operators"])?;
    scene.intruder.keeps("old", &tables)?;
    scene.control.rapctl(&format!("grant revoke {ANN} --yes --reason left"))?;
    let dismissed = says(&ann, "rapctl cluster list -o json")?;
    scene.intruder.keeps("new", &["operators"])?;
    scene.intruder.keeps("new", &tables)?;
    // What was signed counts, from this replica's copies, and is put back.
    let before = scene.control.alarms("floor.healed")?;
    put_back(scene, "old", &tables)?;
    let refused_by_copies = says(&ann, "rapctl login")?;
    scene.control.rapctl("cluster list")?;
    let healed = scene.control.wait_alarm("floor.healed", before)?;
    // After a restore from a backup copies count no more.
    scene.intruder.does(
        "INSERT INTO restores (backup_made_at, restored_at) VALUES (now(), now() + interval '1 hour')",
    )?;
    let before = scene.control.alarms("floor.rollback")?;
    put_back(scene, "old", &tables)?;
    let refused = says(&ann, "rapctl login")?;
    let owner = scene.control.host().run(&Invocation::typed("rapctl cluster list -o json")?, CALL)?;
    let alarmed = scene.control.wait_alarm("floor.rollback", before)?;
    scene.intruder.does("DELETE FROM restores WHERE restored_at > now()")?;
    put_back(scene, "new", &tables)?;
    wait_until(SETTLE, "the owner is believed again", || scene.control.rapctl("cluster list").map(Some))?;
    let value = json!({
        "dismissed": dismissed, "said_by_copies": refused_by_copies, "healed_ms": healed.as_millis() as u64, "said": refused, "owner_meanwhile": owner.stderr.trim(), "alarm_ms": alarmed.as_millis() as u64,
    });
    ensure!(owner.code != Some(0), "platform actions went on under an old set of grants");
    Ok(Finding::new(
        true,
        value,
        "an older set, however authentic, is below the floor: the newer one is put back, and without copies no platform action goes on",
    ))
}

/// Makes a second operator with a key of its own and logs it in.
fn enter(scene: &Scene<'_>) -> Result<Host> {
    let ann = scene.lab.host("ann")?;
    let passphrase = ann.folder("home").join("passphrase");
    write_secret(&passphrase, b"another correct horse\n")?;
    let ann = ann.set_variables(&[("RAPCTL_PASSPHRASE_FILE", &passphrase.display().to_string())])?;
    ann.typed("rapctl key create --out ann", CALL)?;
    let (here, there) = (ann.folder("home"), scene.control.host().folder("home"));
    std::fs::copy(here.join("ann.pub"), there.join("ann.pub"))?;
    scene.control.rapctl(&format!("grant add {ANN} --role platform_admin --key ann.pub --yes"))?;
    let context = scene.control.rapctl("context export")?.stdout;
    std::fs::write(here.join("platform.context"), context)?;
    ann.typed("rapctl context import platform.context", CALL)?;
    ann.typed("rapctl login --key ann.key", CALL)?;
    ann.typed("rapctl cluster list", CALL)?;
    Ok(ann)
}

fn put_back(scene: &Scene<'_>, label: &str, tables: &[&str]) -> Result<()> {
    scene.intruder.puts_back(label, tables)?;
    scene.intruder.does(&format!(
        "UPDATE operators SET disabled_at = kept.disabled_at, row_version = kept.row_version, row_mac = kept.row_mac
           FROM {label}_operators kept WHERE operators.operator_id = kept.operator_id"
    ))?;
    Ok(())
}

/// What a call that must be refused is told.
fn says(host: &Host, line: &str) -> Result<String> {
    let answer: Answer = host.run(&Invocation::typed(line)?, CALL)?;
    ensure!(answer.code != Some(0), "`{line}` was allowed: {}", answer.stdout.trim());
    Ok(format!("{}{}", answer.stdout, answer.stderr).trim().to_owned())
}

const ANN: &str = "ann@example.com";
