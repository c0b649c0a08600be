//! A control plane on one host, with its private PostgreSQL and an operator who is logged in. Owns starting, asking and killing it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
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

/// How quickly a cluster shows that its control plane is gone.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often an idle head is signed again.
    pub refresh_every: Duration,
    /// How long nodes take a head for fresh.
    pub fresh_for: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { refresh_every: Duration::from_secs(5), fresh_for: Duration::from_secs(20) }
    }
}

/// The control plane on its host.
#[derive(Debug, Clone)]
pub struct Control {
    host: Host,
    url: String,
}

impl Control {
    /// Makes and starts a control plane in development mode and logs an operator in, all on this host.
    pub fn start(lab: &Lab, host: &str) -> Result<Self> {
        let control = Self::configure(lab, host, None, "authority_mode = \"dev\"\n")?;
        control.host.typed("rap-control-plane init", SETTLE)?;
        control.serve(lab)?;
        // A development installation signs its own activation and leaves it with its owner's key in its data directory.
        let manifest = control.data().join("dev.manifest");
        control.log_in(&manifest.display().to_string())?;
        Ok(control)
    }

    /// The same in strict mode, with variables for every program of its host. Root, owner and operator are at home on the same host; the
    /// root key is then carried away.
    pub fn start_strict_with(lab: &Lab, host: &str, variables: &[(&str, String)]) -> Result<Self> {
        Self::configure(lab, host, None, "")?.init_strict(lab, variables)
    }

    /// The same at another listen address, with further settings.
    pub fn start_strict_at(lab: &Lab, host: &str, listen: &str, settings: &str) -> Result<Self> {
        Self::configure(lab, host, Some(listen), settings)?.init_strict(lab, &[])
    }

    fn init_strict(self, lab: &Lab, variables: &[(&str, String)]) -> Result<Self> {
        let mut control = self;
        let home = control.host.folder("home");
        let passphrase = home.join("passphrase");
        write_secret(&passphrase, b"correct horse battery staple\n")?;
        let passphrase = passphrase.display().to_string();
        let settings = control.settings().display().to_string();
        let mut all =
            vec![("RAPCTL_PASSPHRASE_FILE", passphrase.as_str()), ("RAP_CONFIG", settings.as_str())];
        all.extend(variables.iter().map(|(name, value)| (*name, value.as_str())));
        control.host = control.host.set_variables(&all)?;
        let shell = |line: &str| {
            let call = Invocation::new("sh").arguments(["-c", line]);
            control.host.run(&call, SETTLE)?.success()
        };
        shell("rapctl root init --out product-root")?;
        shell("rap-control-plane init --root-key product-root.pub")?;
        shell("rapctl root sign-activation act-*.req --yes --owner owner@example.com")?;
        control.serve(lab)?;
        let manifest = shell("ls act-*.manifest")?.stdout;
        control.log_in(manifest.trim())?;
        Ok(control)
    }

    fn configure(lab: &Lab, host: &str, listen: Option<&str>, more: &str) -> Result<Self> {
        let host = lab.host(host)?;
        let address = host.address();
        let file = host.folder("etc").join("control-plane.toml");
        let listen = listen.map_or_else(|| format!("{address}:8443"), str::to_owned);
        let mut settings =
            format!("{more}listen = \"{listen}\"\ncontrol_urls = [\"https://{address}:8443\"]\n");
        let mut host = host;
        if lab.mode() == Mode::Loopback {
            let data = host.folder("lib").join("control-plane");
            settings.push_str(&format!(
                "loopback_endpoints = true\ndata_dir = \"{}\"\nmetrics = \"{address}:9464\"\n",
                data.display()
            ));
            host = host.set_variables(&[("RAP_CONFIG", &file.display().to_string())])?;
        }
        fs::write(&file, settings).with_context(|| file.display().to_string())?;
        Ok(Self { url: format!("https://{address}:8443"), host })
    }

    fn serve(&self, lab: &Lab) -> Result<()> {
        self.host.spawn(&self.part_name(), &Invocation::new("rap-control-plane").argument("serve"))?;
        self.wait_listening(lab)
    }

    /// Its configuration, as its host names it.
    fn settings(&self) -> PathBuf {
        self.host.sees("etc").join("control-plane.toml")
    }

    /// Its host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where nodes and operators reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it keeps.
    pub fn data(&self) -> PathBuf {
        self.host.folder("lib").join("control-plane")
    }

    /// The pin of its CA, as the operator's context has it.
    pub fn pin(&self) -> Result<String> {
        let path = self.host.folder("home").join(".config/rap/contexts.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let pin = text.lines().find_map(|line| line.strip_prefix("tls_ca_pin = "));
        Ok(pin.context("no pin in the context")?.trim_matches('"').to_owned())
    }

    /// The program.
    pub fn part(&self, lab: &Lab) -> Result<Part> {
        lab.part(&self.part_name())
    }

    /// Calls `rapctl` with these words and expects exit 0.
    pub fn rapctl(&self, words: &str) -> Result<Answer> {
        self.host.typed(&format!("rapctl {words}"), CALL)
    }

    /// The same; the answer is one JSON document.
    pub fn ask(&self, words: &str) -> Result<Value> {
        self.rapctl(&format!("{words} -o json"))?.json()
    }

    /// Creates a cluster.
    pub fn create_cluster(&self, name: &str, pace: Pace) -> Result<()> {
        let (refresh, fresh) = (pace.refresh_every.as_millis(), pace.fresh_for.as_millis());
        self.rapctl(&format!("cluster create {name} --refresh-every {refresh}ms --fresh-for {fresh}ms"))?;
        Ok(())
    }

    /// Creates a join token and returns its text.
    pub fn create_token(&self, cluster: &str, options: &str) -> Result<Vec<u8>> {
        let answer = self.rapctl(&format!("token create --cluster {cluster} --ttl 1h {options}"))?;
        Ok(answer.stdout.into_bytes())
    }

    /// Ends the control plane at once, and then its PostgreSQL, which outlives it.
    pub fn kill_with_postgres(&self, lab: &Lab) -> Result<()> {
        let postgres = self.postgres(lab)?;
        self.part(lab)?.kill()?;
        postgres.signal(Signal::KILL);
        ensure!(postgres.wait_end(CALL), "PostgreSQL outlives SIGKILL");
        Ok(())
    }

    /// The private PostgreSQL's first process.
    pub fn postgres(&self, lab: &Lab) -> Result<Process> {
        let path = self.data().join("postgres/postmaster.pid");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let pid = text.lines().next().unwrap_or_default().trim();
        lab.process(pid.parse().with_context(|| format!("{}: {pid:?}", path.display()))?)
    }

    /// Starts it again after its end.
    pub fn restart(&self, lab: &Lab) -> Result<()> {
        self.part(lab)?.restart()
    }

    /// Waits until it answers an operator; returns how long that took.
    pub fn wait_answering(&self) -> Result<Duration> {
        let started = now();
        wait_until(SETTLE, "the control plane answers", || self.ask("cluster list").map(Some))?;
        Ok(started.elapsed())
    }

    fn wait_listening(&self, lab: &Lab) -> Result<()> {
        let part = self.part(lab)?;
        let address = (self.host.address(), 8443).into();
        wait_until(SETTLE, "the control plane listens", || {
            if !part.is_running()? {
                return Ok(Some(Err(anyhow::anyhow!("the control plane ended: {}", part.log_tail()))));
            }
            self.host.view().enter(|| Ok(TcpStream::connect_timeout(&address, CONNECT)?))?;
            Ok(Some(Ok(())))
        })?
    }

    fn log_in(&self, manifest: &str) -> Result<()> {
        self.rapctl(&format!("login {} --activate {manifest}", self.url)).map(drop)
    }

    /// Calls `rapctl` with these words and expects this refusal.
    pub fn refuses(&self, words: &str, reason: &str) -> Result<()> {
        let answer = self.host.run(&Invocation::typed(&format!("rapctl {words} -o json"))?, CALL)?;
        ensure!(answer.code != Some(0), "`rapctl {words}` was allowed: {}", answer.stdout.trim());
        let said = format!("{}{}", answer.stdout, answer.stderr);
        ensure!(
            said.contains(reason),
            "`rapctl {words}` was refused, but not with {reason}: {}",
            said.trim()
        );
        Ok(())
    }

    /// How often the control plane raised an alarm of this reason, as its metrics say.
    pub fn alarms(&self, reason: &str) -> Result<u64> {
        let line = format!("rap_control_alarms_total{{reason=\"{reason}\"}}");
        let text = self.page("/metrics")?;
        let value = text.lines().find_map(|found| found.strip_prefix(&line));
        Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    }

    /// Waits until an alarm of this reason was raised since `before`.
    pub fn wait_alarm(&self, reason: &str, before: u64) -> Result<Duration> {
        let started = now();
        wait_until(SETTLE, &format!("the alarm {reason}"), || {
            Ok((self.alarms(reason)? > before).then_some(()))
        })?;
        Ok(started.elapsed())
    }

    /// What it answers to a question for this page of its metrics endpoint, head and body.
    pub fn page(&self, path: &str) -> Result<String> {
        self.page_at(9464, path)
    }

    /// The same of a replica on this host, whose endpoint has this port.
    pub fn page_at(&self, port: u16, path: &str) -> Result<String> {
        let address = match self.host.view().sees("etc") {
            Some(_) => (Ipv4Addr::LOCALHOST, port).into(),
            None => (self.host.address(), port).into(),
        };
        self.host.view().enter(|| {
            let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
            stream.set_read_timeout(Some(CALL))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    fn part_name(&self) -> String {
        format!("{}-control", self.host.name())
    }
}

const CONNECT: Duration = Duration::from_secs(2);
