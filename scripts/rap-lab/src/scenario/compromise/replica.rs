//! A process of the control plane, without the keys: it has the programs, the configuration and the database.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::scene::Scene;
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Intruder, SETTLE};
use crate::folder::{make_folder, write_secret};

/// A replica with everything but the key encryption key does not start, and changes nothing.
pub fn without_keys(scene: &Scene<'_>) -> Result<Finding> {
    let host = scene.control.host();
    let home = host.folder("home");
    let data = home.join("replica");
    make_folder(&data)?;
    for name in ["authority-mode", "product-root.pub"] {
        fs::copy(scene.control.data().join(name), data.join(name)).with_context(|| name.to_owned())?;
    }
    // Thirty-two bytes that nobody sealed anything with.
    write_secret(&data.join("secret.key"), b"cmVwbGljYSByZXBsaWNhIHJlcGxpY2EgcmVwbGljYSE=\n")?;
    let socket = Intruder::socket_of(&scene.control)?.display().to_string();
    let settings = format!(
        "listen = \"{}:9443\"\ndata_dir = \"{}\"\ndatabase_url = \"postgres://rap_owner@localhost/rap?host={socket}\"\n",
        host.address(),
        data.display()
    );
    let file = home.join("replica.toml");
    write_secret(&file, settings.as_bytes())?;
    let call =
        Invocation::new("rap-control-plane").arguments(["serve", "--config", &file.display().to_string()]);
    let answer = host.run(&call, CALL)?;
    ensure!(answer.code.is_some_and(|code| code != 0), "it started");
    let ok = answer.stderr.contains("secret.unseal");
    scene.publishes()?;
    Ok(Finding::new(
        ok,
        json!({ "exit": answer.code, "said": last_line(&answer.stderr) }),
        "no key opens: it refuses to serve",
    ))
}

/// An installation of the attacker's own, at the address where the real one was: no node listens to it.
pub fn impostor(scene: &Scene<'_>) -> Result<Finding> {
    let host = scene.control.host();
    let home = host.folder("home").join("impostor");
    make_folder(&home)?;
    let address = host.address();
    let settings = format!(
        "authority_mode = \"dev\"\nlisten = \"{address}:8443\"\ncontrol_urls = [\"https://{address}:8443\"]\ndata_dir = \"{}\"\n",
        home.join("data").display()
    );
    let file = home.join("impostor.toml").display().to_string();
    write_secret(file.as_ref(), settings.as_bytes())?;
    let version = scene.version()?;
    scene.control.kill_with_postgres(scene.lab)?;
    let program = |word: &str| Invocation::new("rap-control-plane").arguments([word, "--config", &file]);
    host.run(&program("init"), SETTLE)?.success()?;
    let impostor = host.spawn("impostor", &program("serve"))?;
    let [one, two, _] = &scene.nodes;
    let (status, took) = one.wait_status("names the pin that does not match", SETTLE, |_, status| {
        status.to_string().contains("pin.mismatch")
    })?;
    let listened = status["control"]["connected"] == true || scene.version()? != version;
    one.wait_answer(two)?;
    impostor.kill()?;
    scene.control.restart(scene.lab)?;
    scene.control.wait_answering()?;
    for node in &scene.nodes {
        node.wait_healthy()?;
    }
    let value = json!({ "noticed_ms": took.as_millis() as u64, "listened": listened });
    Ok(Finding::new(
        !listened,
        value,
        "pin.mismatch; traffic between nodes went on; the real one was believed at once",
    ))
}

fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or_default()
}
