//! Two further replicas of the scene's control plane, on its host and on its database.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::dials::PORTS;
use super::scene::Scene;
use crate::check::Finding;
use crate::command::{Answer, Invocation};
use crate::fabric::{CALL, Intruder, SETTLE};
use crate::folder::{make_folder, write_secret};
use crate::part::Part;
use crate::wait::wait_until;

/// Three replicas of one control plane.
pub struct Replicas<'a> {
    scene: &'a Scene<'a>,
    parts: Vec<Part>,
}

impl<'a> Replicas<'a> {
    /// Starts two replicas beside the scene's control plane, lets the intruder into the database, does the check, and ends all of it
    /// whatever was found. Meanwhile the control URLs are those of the three, that of the first new one first.
    pub fn during(
        scene: &'a Scene<'a>,
        check: impl FnOnce(&Self, &Intruder) -> Result<Finding>,
    ) -> Result<Finding> {
        let file = scene.control.host().folder("etc").join("control-plane.toml");
        let before = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let mut replicas = Self { scene, parts: Vec::new() };
        let own = format!("[\"{}\"]", replicas.url(0));
        ensure!(before.contains(&own), "the settings do not name {own}");
        fs::write(&file, before.replace(&own, &replicas.urls()))?;
        let found = replicas.begin().and_then(|()| {
            // A control plane does not start on a database without row-level security.
            let intruder = Intruder::into_database_of(&scene.control)?;
            let found = check(&replicas, &intruder);
            intruder.leave()?;
            found
        });
        for part in &replicas.parts {
            if part.is_running()? {
                part.stop()?;
            }
        }
        fs::write(&file, before)?;
        scene.control.restart(scene.lab)?;
        scene.control.wait_answering()?;
        for node in &scene.nodes {
            node.wait_healthy()?;
        }
        found
    }

    fn begin(&mut self) -> Result<()> {
        self.scene.control.restart(self.scene.lab)?;
        self.scene.control.wait_answering()?;
        for replica in 1..PORTS.len() {
            let part = self.start(replica)?;
            self.parts.push(part);
        }
        for replica in 0..PORTS.len() {
            self.context(replica, OWNER)?;
            wait_until(SETTLE, &format!("replica {replica} answers"), || {
                self.typed(replica, OWNER, "cluster list")?.success().map(Some)
            })?;
        }
        Ok(())
    }

    /// It has the keys, a data directory of its own, and a way of its own to the database. It has no floors: it takes those.
    fn start(&self, replica: usize) -> Result<Part> {
        let host = self.scene.control.host();
        let (port, home) = (PORTS[replica], host.folder("home"));
        let data = home.join(format!("replica-{port}"));
        make_folder(&data)?;
        for name in ["authority-mode", "product-root.pub", "secret.key"] {
            let from = self.scene.control.data().join(name);
            let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
            write_secret(&data.join(name), &bytes)?;
        }
        let way = self.lead(replica)?;
        let settings = format!(
            "listen = \"{}:{port}\"\ncontrol_urls = {}\ndata_dir = \"{}\"\nmetrics = \"127.0.0.1:{}\"\n\
             database_url = \"postgres://rap_owner@localhost/rap?host={}\"\n",
            host.address(),
            self.urls(),
            data.display(),
            port + METRICS,
            way.display()
        );
        let file = home.join(format!("replica-{port}.toml"));
        write_secret(&file, settings.as_bytes())?;
        let call = Invocation::new("rap-control-plane").arguments([
            "serve",
            "--config",
            &file.display().to_string(),
        ]);
        host.spawn(&format!("cp-{port}"), &call)
    }

    /// Makes its way to the database anew.
    fn lead(&self, replica: usize) -> Result<PathBuf> {
        let way = self.way(replica);
        // One of an earlier check leads to a server that is gone.
        let _ = fs::remove_file(&way);
        symlink(Intruder::socket_of(&self.scene.control)?, &way)?;
        Ok(way)
    }

    fn way(&self, replica: usize) -> PathBuf {
        self.scene.control.host().folder("home").join(format!("db{replica}"))
    }

    /// The control URL of a replica.
    pub fn url(&self, replica: usize) -> String {
        format!("https://{}:{}", self.scene.control.host().address(), PORTS[replica])
    }

    fn urls(&self) -> String {
        let each = [1, 2, 0].map(|replica| format!("\"{}\"", self.url(replica)));
        format!("[{}]", each.join(", "))
    }

    /// Makes the contexts file of an operator for one replica, from that of the first.
    pub fn context(&self, replica: usize, operator: &str) -> Result<()> {
        let from = self.file(0, operator);
        if replica == 0 && operator == OWNER {
            return Ok(());
        }
        let text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
        let text = text.replace(&self.url(0), &self.url(replica));
        write_secret(&self.file(replica, operator), text.as_bytes())
    }

    /// The contexts file of an operator for one replica.
    fn file(&self, replica: usize, operator: &str) -> PathBuf {
        let home = self.scene.control.host().folder("home");
        match (replica, operator) {
            (0, OWNER) => home.join(".config/rap/contexts.toml"),
            _ => home.join(format!("contexts-{operator}-{replica}.toml")),
        }
    }

    /// Calls `rapctl` as an operator at one replica; a session is good at every one.
    pub fn typed(&self, replica: usize, operator: &str, words: &str) -> Result<Answer> {
        let call = Invocation::typed(&format!("rapctl {words}"))?;
        let file = self.file(replica, operator).display().to_string();
        self.scene.control.host().run(&call.variable("RAPCTL_CONFIG", file), CALL)
    }
}

/// Who owns the installation.
pub const OWNER: &str = "owner";
/// From the port of a further replica to that of its metrics.
const METRICS: u16 = 1000;
