//! The keys that seal what is at rest are replaced, and whoever replaces them is killed at any moment.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::scene::{CLUSTER, Scene};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, SETTLE};
use crate::wait::{now, rest, wait_until};

/// Data key and key encryption key change under SIGKILL; each time the control plane starts and serves.
pub fn kek_and_dek_rotation(scene: &Scene<'_>) -> Result<Finding> {
    let (one, two) = scene.pair()?;
    let watch = one.watch(scene.lab, two)?;
    let data_key = data_key(scene)?;
    let encryption_key = key_encryption_key(scene)?;
    let checked: Value = scene
        .control
        .host()
        .typed("rap-control-plane rows check --json", CALL)?
        .json()
        .context("rows check")?;
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    watch.wait_answers(20)?;
    let pings = watch.end()?;
    let cut_off = |kills: &Value| kills["cut_off"].as_u64() > Some(0);
    let ok = pings.lost() == 0
        && cut_off(&data_key)
        && cut_off(&encryption_key)
        && checked["tampered"] == json!([]);
    let value = json!({
        "data_key": data_key, "key_encryption_key": encryption_key, "rows_sound": checked["sound"],
        "pings": pings.sent, "lost": pings.lost(),
    });
    Ok(Finding::new(ok, value, "after every kill it starts, serves and goes on; no row and no ping was lost"))
}

/// The control plane dies while it rotates.
fn data_key(scene: &Scene<'_>) -> Result<Value> {
    let control = &scene.control;
    let words = format!("cluster rotate-dek {CLUSTER} --reason drill");
    let rotation = Invocation::typed(&format!("rapctl {words} -o json"))?;
    let started = now();
    control.ask(&words)?;
    let whole = started.elapsed();
    let (mut cut, mut resumed) = (0, 0);
    for _ in 0..DATA_KEY_KILLS {
        let part = control.part(scene.lab)?;
        let delay = whole.mul_f64(rand::random_range(0.1..1.0));
        let answer = std::thread::scope(|scope| {
            let call = scope.spawn(|| control.host().run(&rotation, CALL));
            rest(delay);
            let killed = part.kill();
            let answer = call.join().map_err(|_| anyhow::anyhow!("the call ended in a panic"));
            killed.and(answer?)
        })?;
        cut += u64::from(answer.code != Some(0));
        control.restart(scene.lab)?;
        control.wait_answering().context("after a kill in the rotation of the data key")?;
        resumed += u64::from(control.ask(&words)?["resumed"] == true);
    }
    let last = control.ask(&words)?;
    ensure!(last["resumed"] == false, "a finished rotation is not there to go on with: {last}");
    Ok(json!({
        "kills": DATA_KEY_KILLS, "cut_off": cut, "went_on": resumed, "version": last["version"],
        "whole_ms": whole.as_millis() as u64,
    }))
}

/// The command dies while it rotates; the control plane then starts with whichever key opens the database.
fn key_encryption_key(scene: &Scene<'_>) -> Result<Value> {
    let control = &scene.control;
    let (mut cut, mut done) = (0, 0);
    let rotate = |words: &str| {
        control.part(scene.lab)?.stop()?;
        let line = format!("{words} rap-control-plane keys rotate-kek --json");
        let started = now();
        let answer = control.host().run(&Invocation::typed(line.trim())?, CALL)?;
        Ok::<_, anyhow::Error>((answer, started.elapsed()))
    };
    let (first, whole) = rotate("")?;
    first.success()?;
    serves(scene)?;
    retire(scene)?;
    for _ in 0..ENCRYPTION_KEY_KILLS {
        let delay = whole.mul_f64(rand::random_range(0.1..1.0)).as_secs_f64();
        let (answer, _) = rotate(&format!("timeout -s KILL {delay:.3}"))?;
        serves(scene)?;
        if answer.code == Some(0) {
            done += 1;
            retire(scene)?;
        } else {
            cut += 1;
        }
    }
    rotate("")?.0.success()?;
    serves(scene)?;
    retire(scene)?;
    Ok(json!({
        "kills": ENCRYPTION_KEY_KILLS, "cut_off": cut, "done": done + 2, "whole_ms": whole.as_millis() as u64,
    }))
}

fn retire(scene: &Scene<'_>) -> Result<()> {
    scene.control.part(scene.lab)?.stop()?;
    scene.control.host().typed("rap-control-plane keys retire-kek", CALL)?;
    serves(scene)
}

/// It starts, and an operator can log in: sessions end with the key encryption key.
fn serves(scene: &Scene<'_>) -> Result<()> {
    scene.control.restart(scene.lab)?;
    wait_until(SETTLE, "an operator logs in after the key encryption key changed", || {
        scene.control.rapctl("login").map(Some)
    })?;
    scene.control.ask(&format!("cluster show {CLUSTER}")).map(drop)
}

const DATA_KEY_KILLS: u32 = 16;
const ENCRYPTION_KEY_KILLS: u32 = 8;
