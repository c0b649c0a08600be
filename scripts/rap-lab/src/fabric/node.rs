//! A node on one host: its agent and, through the agent, its data plane. Owns enrolling, running and asking it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{CALL, SETTLE};
use crate::command::{Answer, Invocation};
use crate::folder::write_secret;
use crate::host::Host;
use crate::lab::Lab;
use crate::mode::Mode;
use crate::part::Part;
use crate::process::Process;
use crate::wait::{now, wait_until};

/// One node.
#[derive(Debug, Clone)]
pub struct Node {
    host: Host,
    tun: bool,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// `status` exits 0.
    Healthy,
    /// `status` exits 8.
    Degraded,
}

impl Node {
    /// Writes the agent's configuration on a host that is to become a node of a development installation.
    pub fn configure(lab: &Lab, host: &str) -> Result<Self> {
        Self::configure_with(lab, lab.host(host)?, "dev = true\n", true)
    }

    /// The same with further lines of configuration.
    pub fn configure_more(lab: &Lab, host: &str, more: &str) -> Result<Self> {
        Self::configure_with(lab, lab.host(host)?, &format!("dev = true\n{more}"), true)
    }

    /// The same on a host that nobody can dial, behind this router.
    pub fn configure_behind(lab: &Lab, router: &str, host: &str, more: &str) -> Result<Self> {
        Self::configure_with(lab, lab.host_behind(router, host)?, &format!("dev = true\n{more}"), false)
    }

    /// The same on a host of the switch that nobody may dial.
    pub fn configure_silent(lab: &Lab, host: &str, more: &str) -> Result<Self> {
        Self::configure_with(lab, lab.host(host)?, &format!("dev = true\n{more}"), false)
    }

    /// The same for a node of a strict installation.
    pub fn configure_strict(lab: &Lab, host: &str) -> Result<Self> {
        Self::configure_with(lab, lab.host(host)?, "", true)
    }

    /// The same with variables for every program of its host.
    pub fn configure_strict_with(lab: &Lab, host: &str, variables: &[(&str, String)]) -> Result<Self> {
        let mut node = Self::configure_strict(lab, host)?;
        let file = node.host.sees("etc").join("agent.toml").display().to_string();
        let mut all = vec![("RAP_CONFIG", file.as_str())];
        all.extend(variables.iter().map(|(name, value)| (*name, value.as_str())));
        node.host = node.host.set_variables(&all)?;
        Ok(node)
    }

    fn configure_with(lab: &Lab, mut host: Host, mode: &str, advertised: bool) -> Result<Self> {
        let (name, address) = (host.name().to_owned(), host.address());
        let tun = lab.mode() == Mode::Namespaces;
        let mut settings = format!(
            "name = \"{name}\"\n{mode}enrollment_poll_interval_seconds = 1\n\
             listen_link = \"{address}:7443\"\nlisten_wireguard = \"{address}:51820\"\n"
        );
        if advertised {
            settings.push_str(&format!(
                "advertise = [\"{address}:7443\"]\nadvertise_wireguard = [\"{address}:51820\"]\n"
            ));
        }
        let file = host.folder("etc").join("agent.toml");
        if !tun {
            let (data, run) = (host.folder("lib").join("agent"), host.folder("run"));
            settings.push_str(&format!(
                "loopback_endpoints = true\nno_tun = true\nmetrics = \"{address}:9465\"\ndata_dir = \"{}\"\nsocket = \"{}/agent.sock\"\n",
                data.display(),
                run.display()
            ));
            host = host.set_variables(&[("RAP_CONFIG", &file.display().to_string())])?;
        }
        fs::write(&file, settings).with_context(|| file.display().to_string())?;
        Ok(Self { host, tun })
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its name, which is its host's.
    pub fn name(&self) -> &str {
        self.host.name()
    }

    /// True if the host's own traffic goes over the overlay.
    pub fn has_tun(&self) -> bool {
        self.tun
    }

    /// Enrols with a token and waits until that is decided.
    pub fn join(&self, token: &[u8]) -> Result<Answer> {
        let path = self.host.folder("home").join("join.token");
        write_secret(&path, token)?;
        let answer = self.host.typed("rap-node-agent join --token-file join.token", CALL);
        fs::remove_file(&path)?;
        answer
    }

    /// Starts the agent.
    pub fn run(&self) -> Result<Part> {
        self.host.spawn(&part_name(self.name()), &Invocation::new("rap-node-agent").argument("run"))
    }

    /// The agent.
    pub fn agent(&self, lab: &Lab) -> Result<Part> {
        lab.part(&part_name(self.name()))
    }

    /// Its health and its status document.
    pub fn status(&self) -> Result<(Health, Value)> {
        let call = Invocation::typed("rap-node-agent --membership default status --json")?;
        let answer = self.host.run(&call, CALL)?;
        let health = if answer.code == Some(8) { Health::Degraded } else { Health::Healthy };
        let answer = if health == Health::Degraded { answer } else { answer.success()? };
        Ok((health, answer.json()?))
    }

    /// Waits until its status is as wanted; returns the document and how long it took.
    pub fn wait_status(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(Health, &Value) -> bool,
    ) -> Result<(Value, Duration)> {
        let started = now();
        let mut last = Value::Null;
        let document = wait_until(deadline, &format!("{} {what}", self.name()), || {
            let (health, document) = self.status()?;
            last.clone_from(&document);
            Ok(wanted(health, &document).then_some(document))
        });
        let document = document.with_context(|| format!("last status: {}", brief(&last)))?;
        Ok((document, started.elapsed()))
    }

    /// Waits until it is healthy, hears its control plane, and its data plane obeys the newest table.
    pub fn wait_healthy(&self) -> Result<(Value, Duration)> {
        self.wait_status("is healthy", SETTLE, |health, status| {
            let dataplane = &status["dataplane"];
            health == Health::Healthy
                && status["control"]["connected"] == true
                && dataplane["up"] == true
                && dataplane["table_version"].is_u64()
                && dataplane["table_applied"] == dataplane["table_version"]
        })
    }

    /// Its overlay address, from its own peers' point of view the destination of a ping.
    pub fn overlay_address(&self, seen_by: &Self) -> Result<String> {
        let (_, status) = seen_by.status()?;
        let peer = super::way::peers(&status).find(|peer| peer["name"] == self.name());
        let address = peer.and_then(|peer| peer["overlay_ipv4"].as_str());
        let address = address.with_context(|| format!("{} does not know {}", seen_by.name(), self.name()))?;
        Ok(address.split('/').next().unwrap_or_default().to_owned())
    }

    /// Its data plane's process.
    pub fn dataplane(&self, lab: &Lab) -> Result<Process> {
        let (_, status) = self.status()?;
        let pid = status["dataplane"]["pid"].as_i64().context("no data plane")?;
        lab.process(i32::try_from(pid)?)
    }

    /// Ends agent and data plane at once, as a power cut would.
    pub fn kill_all(&self, lab: &Lab) -> Result<()> {
        let dataplane = self.dataplane(lab)?;
        self.agent(lab)?.kill()?;
        dataplane.signal(rustix::process::Signal::KILL);
        ensure!(dataplane.wait_end(CALL), "the data plane outlives SIGKILL");
        Ok(())
    }
}

/// Name of the part that is the agent of this host.
pub fn part_name(host: &str) -> String {
    format!("{host}-agent")
}

/// The few fields that tell what is wrong.
fn brief(status: &Value) -> String {
    let fields = ["state", "degraded_reasons", "freshness", "control", "dataplane", "warnings"];
    let kept: serde_json::Map<String, Value> =
        fields.iter().map(|field| ((*field).to_owned(), status[field].clone())).collect();
    Value::Object(kept).to_string()
}
