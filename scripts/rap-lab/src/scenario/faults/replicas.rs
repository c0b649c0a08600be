//! Two further replicas of the scene's control plane, on its host and on its database.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::dials::PORTS;
use super::scene::Scene;
use crate::check::Finding;
use crate::command::{Answer, Invocation};
use crate::fabric::{CALL, Intruder, SETTLE};
use crate::folder::{make_folder, write_secret};
use crate::part::Part;
use crate::process::Process;
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

    /// Every replica reaches the database again, and is ready.
    pub fn see(&self) -> Result<()> {
        for replica in 1..PORTS.len() {
            self.lead(replica)?;
        }
        wait_until(SETTLE, "every replica is ready", || {
            Ok((self.is_ready(0)? && self.is_ready(1)? && self.is_ready(2)?).then_some(()))
        })
    }

    fn way(&self, replica: usize) -> PathBuf {
        self.scene.control.host().folder("home").join(format!("db{replica}"))
    }

    /// This replica, which is not the first one, gets no new connection to the database any more, and all replicas lose those that
    /// they have.
    pub fn blind(&self, replica: usize, intruder: &Intruder) -> Result<()> {
        fs::remove_file(self.way(replica)).context("its way to the database")?;
        self.end(&self.sessions(intruder)?);
        Ok(())
    }

    /// The connections to the database that there are.
    pub fn sessions(&self, intruder: &Intruder) -> Result<Vec<Process>> {
        // Of a session of another role only the database and the user are shown.
        let pids = intruder
            .reads("SELECT pid FROM pg_stat_activity WHERE datid IS NOT NULL AND pid <> pg_backend_pid()")?;
        let pids = pids.lines().map(|pid| Ok(pid.trim().parse()?)).collect::<Result<Vec<i32>>>()?;
        // One of the heartbeat's is gone by itself.
        Ok(pids.into_iter().filter_map(|pid| self.scene.lab.process(pid).ok()).collect())
    }

    /// Ends them.
    pub fn end(&self, sessions: &[Process]) {
        for session in sessions {
            session.signal(Signal::TERM);
        }
    }

    /// Whether a replica is ready.
    pub fn is_ready(&self, replica: usize) -> Result<bool> {
        Ok(self.page(replica, "/readyz")?.starts_with("HTTP/1.1 200"))
    }

    /// What a replica answers to a question for this page.
    pub fn page(&self, replica: usize, path: &str) -> Result<String> {
        let port = if replica == 0 { 9464 } else { PORTS[replica] + METRICS };
        self.scene.control.page_at(port, path)
    }

    /// Ends a replica that is not the first one.
    pub fn stop(&self, replica: usize) -> Result<()> {
        self.parts[replica - 1].stop()
    }

    /// Starts it again.
    pub fn restart(&self, replica: usize) -> Result<()> {
        self.parts[replica - 1].restart()
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
