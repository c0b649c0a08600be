//! What happens to the database behind the control plane: it undoes commits, takes no new connections, loses its control plane.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::json;

use super::scene::{CLUSTER, Scene};
use super::shown::{half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Intruder, SETTLE};
use crate::wait::{now, rest, wait_until};

/// While no new connection to the database can be opened, what is answered as done is done, and a repeated call with one key is done
/// once.
pub fn done_is_done(scene: &Scene<'_>) -> Result<Finding> {
    inside(scene, |intruder| without_connections(scene, intruder))
}

/// Lets the intruder in, and out again whatever was found: a control plane does not start on a database without row-level security.
pub fn inside(scene: &Scene<'_>, check: impl FnOnce(&Intruder) -> Result<Finding>) -> Result<Finding> {
    let intruder = Intruder::into_database_of(&scene.control)?;
    let found = check(&intruder);
    intruder.leave()?;
    found
}

fn without_connections(scene: &Scene<'_>, intruder: &Intruder) -> Result<Finding> {
    let records = || -> Result<u64> {
        let list = scene.control.ask(&format!("authority list --cluster {CLUSTER}"))?;
        Ok(list["keys"].as_array().context("keys")?.len() as u64)
    };
    let before = records()?;
    let key = "0123456789abcdef0123456789abcdef";
    let mut exits = Vec::new();
    let mut warned = 0;
    let calls = [
        format!("authority rotate --cluster {CLUSTER} --yes --request-key {key}"),
        format!("authority rotate --cluster {CLUSTER} --yes --request-key {key}"),
        format!("authority rotate --cluster {CLUSTER} --yes --request-key {key}"),
        format!("authority taint --cluster {CLUSTER} --force --yes"),
        format!("authority revoke --cluster {CLUSTER} --yes"),
        format!("cluster rotate-dek {CLUSTER} --yes"),
    ];
    without_new_sessions(scene, intruder, || {
        for words in &calls {
            let call = Invocation::typed(&format!("rapctl {words}"))?;
            let answer = scene.control.host().run(&call, CALL)?;
            warned += u64::from(answer.stderr.contains("publish.pending"));
            exits.push(
                json!({ "call": words.split(' ').take(2).collect::<Vec<_>>().join(" "), "exit": answer.code,
                "said": answer.stderr.trim() }),
            );
        }
        Ok(())
    })?;
    scene.control.wait_answering()?;
    let made = records()? - before;
    let done = exits.iter().all(|exit| exit["exit"] == 0);
    let effect = half(done && made == 1, json!({ "exits": exits, "records": made, "warned": warned }));
    // Without the key the same call is done again.
    scene.control.rapctl(&format!("authority rotate --cluster {CLUSTER} --yes"))?;
    let again = records()? - before;
    let control = half(again == 2, json!({ "records_without_the_key": again }));
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    Ok(shown(effect, control, "what was answered as done is done; three calls with one key made one record"))
}

/// Does something while the database lets nobody in; who is in already stays in.
pub fn without_new_sessions<T>(
    scene: &Scene<'_>,
    intruder: &Intruder,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let hba = scene.control.data().join("postgres/pg_hba.conf");
    let postgres = scene.control.postgres(scene.lab)?;
    let opens = fs::read_to_string(&hba).with_context(|| hba.display().to_string())?;
    let set = |text: &str| -> Result<()> {
        fs::write(&hba, text)?;
        postgres.signal(Signal::HUP);
        Ok(())
    };
    set("local all all reject\nhost all all all reject\n")?;
    let closed = wait_until(CALL, "no new connection is let in", || {
        Ok(intruder.reads("SELECT 1").is_err().then_some(()))
    });
    let outcome = closed.and_then(|()| act());
    set(&opens)?;
    wait_until(CALL, "new connections are let in", || intruder.reads("SELECT 1").map(Some))?;
    outcome
}

/// A killed control plane leaves no PostgreSQL, and the next one keeps its socket.
pub fn orphan_postgres(scene: &Scene<'_>) -> Result<Finding> {
    let postgres = scene.control.postgres(scene.lab)?;
    let part = scene.control.part(scene.lab)?;
    let running = postgres.is_running();
    let started = now();
    part.kill()?;
    let ended = postgres.wait_end(SETTLE);
    let took = started.elapsed();
    scene.control.restart(scene.lab)?;
    scene.control.wait_answering()?;
    // An orphan that notices its lost directory within a minute would unlink the socket of its successor.
    let socket = Intruder::socket_of(&scene.control)?;
    let kept = Intruder::into_database_of(&scene.control).and_then(|intruder| intruder.leave());
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    let effect = half(
        ended && kept.is_ok(),
        json!({ "ended_ms": took.as_millis() as u64, "socket": socket.display().to_string() }),
    );
    let control = half(running, json!({ "ran_before": running }));
    Ok(shown(
        effect,
        control,
        "PostgreSQL ended with the control plane that was killed; its successor answers",
    ))
}

/// An alarm is shown as long as its condition lasts, whoever looks in between, and goes with it.
pub fn alarm_lasts(scene: &Scene<'_>) -> Result<Finding> {
    inside(scene, |intruder| without_policies(scene, intruder))
}

fn without_policies(scene: &Scene<'_>, intruder: &Intruder) -> Result<Finding> {
    let shown_now = || -> Result<bool> {
        let status = scene.control.ask("status")?;
        let alarms = status["alarms"].as_array().context("alarms")?;
        Ok(alarms
            .iter()
            .any(|alarm| alarm.to_string().contains("row.tampered") && alarm.to_string().contains("polic")))
    };
    let quiet = !shown_now()?;
    intruder.keeps("policy", &["cluster_policies"])?;
    intruder.does("DELETE FROM cluster_policies")?;
    let outcome: Result<(u64, u64)> = (|| {
        wait_until(SETTLE * 2, "the alarm is shown", || Ok(shown_now()?.then_some(())))?;
        // Ten looks, two seconds apart: each sees it.
        let (mut looks, mut seen) = (0, 0);
        let until = now() + std::time::Duration::from_secs(20);
        while now() < until {
            looks += 1;
            seen += u64::from(shown_now()?);
            rest(std::time::Duration::from_secs(2));
        }
        Ok((looks, seen))
    })();
    intruder.does("INSERT INTO cluster_policies SELECT * FROM policy_cluster_policies; DROP TABLE policy_cluster_policies")?;
    let (looks, seen) = outcome?;
    let gone =
        wait_until(SETTLE * 2, "the alarm goes with its condition", || Ok((!shown_now()?).then_some(())));
    scene.control.wait_answering()?;
    let effect = half(looks > 5 && seen == looks, json!({ "looks": looks, "seen": seen }));
    let control = half(quiet && gone.is_ok(), json!({ "quiet_before": quiet, "gone_after": gone.is_ok() }));
    Ok(shown(effect, control, "with the policies gone every look saw the alarm; it went when they were back"))
}
