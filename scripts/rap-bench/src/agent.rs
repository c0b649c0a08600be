//! One host: the shipped agent with a directory, a socket and ports of its own, and the data plane it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper_util::rt::TokioIo;
use rap_rpc::Refusal;
use rap_rpc::v1::local_agent_client::LocalAgentClient;
use rap_wire::v1;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::control_plane::free_address;
use crate::machine::MEASURING_CORE;
use crate::measure::Stopwatch;
use crate::process::{self, Program};

/// A host of the fabric. Dropping it ends its agent and its data plane.
#[derive(Debug)]
pub struct Host {
    /// Its node's name.
    pub name: String,
    folder: PathBuf,
    link: SocketAddr,
    program: PathBuf,
    options: Vec<String>,
    agent: Option<Program>,
}

impl Host {
    /// A host with nothing on it yet, below `folder`.
    pub fn new(programs: &Path, folder: &Path, name: &str) -> Result<Self> {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let path = |below: &str| folder.join(below).display().to_string();
        let (address, wireguard) = (free_address()?, free_udp_port()?);
        let link = address.to_string();
        let options = [
            ("--data-dir", path("state")),
            ("--socket", path("agent.sock")),
            ("--run-dir", path("run")),
            ("--name", name.to_owned()),
            ("--dataplane-bin", programs.join("rap-dataplane").display().to_string()),
            ("--listen-link", link.clone()),
            ("--advertise", link),
            ("--listen-wireguard", wireguard.clone()),
            ("--advertise-wireguard", wireguard),
        ];
        let mut options: Vec<String> =
            options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect();
        options.extend(["--dev", "--no-tun", "--metrics", "off"].map(str::to_owned));
        let program = programs.join("rap-node-agent");
        Ok(Self { name: name.to_owned(), folder, link: address, program, options, agent: None })
    }

    /// Starts the agent and returns when its socket answers.
    pub async fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.until(START_DEADLINE, "the agent answers", |status| status.is_some()).await.map(drop)
    }

    /// Starts the agent and returns at once.
    pub fn launch(&mut self) -> Result<()> {
        let agent = Program::start("agent", self.command("run"), &self.folder, MEASURING_CORE)?;
        self.agent = Some(agent);
        Ok(())
    }

    /// Joins with a token file; milliseconds from the start of the command until the agent has activated its
    /// first verified snapshot.
    pub async fn join(&mut self, token: &Path) -> Result<f64> {
        let mut command = self.command("join");
        command.arg("--token-file").arg(token);
        let watch = Stopwatch::start();
        let mut join = Program::start("join", command, &self.folder, MEASURING_CORE)?;
        let active = |status: Option<&Value>| status.is_some_and(|status| !status["active"].is_null());
        self.until(JOIN_DEADLINE, "a verified snapshot is active", active).await?;
        let took = watch.elapsed_ms();
        join.succeeded(JOIN_DEADLINE).await?;
        Ok(took)
    }

    /// Waits until its data plane has links to this many peers.
    pub async fn linked(&mut self, peers: usize) -> Result<()> {
        let linked = |status: Option<&Value>| {
            let links = status.and_then(|status| status["links"].as_array().cloned()).unwrap_or_default();
            links.iter().filter(|link| link["state"] == "established").count() >= peers
        };
        self.until(LINK_DEADLINE, "the links are up", linked).await.map(drop)
    }

    /// Resident memory of agent and data plane, bytes.
    pub async fn resident_bytes(&mut self) -> Result<(u64, u64)> {
        let status = self.status().await.context("no status")?;
        let dataplane = status["dataplane"]["pid"].as_u64().context("no data plane")?;
        let agent = self.agent.as_ref().context("no agent")?.pid();
        Ok((process::resident_bytes(agent)?, process::resident_bytes(u32::try_from(dataplane)?)?))
    }

    /// Milliseconds from now until a ping over the overlay to `peer` is answered.
    pub async fn first_overlay_ping(&mut self, peer: &str) -> Result<f64> {
        let watch = Stopwatch::start();
        while watch.elapsed() < PING_DEADLINE {
            self.check()?;
            if self.ping(peer).await.unwrap_or(false) {
                return Ok(watch.elapsed_ms());
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("{}: no overlay ping to {peer} was answered within {PING_DEADLINE:?}", self.name)
    }

    /// Where it takes links.
    pub const fn link(&self) -> SocketAddr {
        self.link
    }

    /// Its agent's data directory.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Ends the agent at once, as a power cut would; its data plane goes on.
    pub fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Waits until the agent answers with its membership.
    pub async fn answers(&mut self) -> Result<Value> {
        let is_there = |status: Option<&Value>| status.is_some_and(|status| status["node_id"].is_string());
        self.until(START_DEADLINE, "the membership answers", is_there).await?;
        self.status().await
    }

    /// Its snapshot as an export file.
    pub async fn export(&self) -> Result<Vec<u8>> {
        let request = v1::LocalMembership::default();
        Ok(self.client().await?.snapshot_export(request).await.map_err(Refusal::from)?.into_inner().document)
    }

    /// Ends agent and data plane; the state stays.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            agent.stop(STOP_DEADLINE).await?;
        }
        process::end_mentioning(&self.folder, STOP_DEADLINE).await
    }

    async fn until(
        &mut self,
        deadline: Duration,
        what: &str,
        done: impl Fn(Option<&Value>) -> bool,
    ) -> Result<()> {
        let watch = Stopwatch::start();
        while watch.elapsed() < deadline {
            self.check()?;
            if done(self.status().await.ok().as_ref()) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("{}: not within {deadline:?}: {what}; see {}", self.name, self.folder.display())
    }

    fn check(&mut self) -> Result<()> {
        self.agent.as_mut().context("no agent")?.check()
    }

    /// The agent's status; an agent without a membership answers with nothing.
    pub async fn status(&self) -> Result<Value> {
        let request = v1::LocalStatusRequest::default();
        match self.client().await?.status(request).await {
            Ok(answer) => Ok(serde_json::from_str(&answer.into_inner().json)?),
            Err(status) => {
                let refusal = Refusal::from(&status);
                if refusal.reason == rap_types::Reason::MembershipAbsent {
                    return Ok(Value::Object(serde_json::Map::new()));
                }
                Err(refusal.into())
            }
        }
    }

    async fn ping(&self, peer: &str) -> Result<bool> {
        let request = v1::LocalPingRequest {
            membership: String::new(),
            peer: peer.to_owned(),
            count: 1,
            interval_ms: 10,
        };
        let answer = self.client().await?.ping(request).await.map_err(Refusal::from)?.into_inner();
        let answer: Value = serde_json::from_str(&answer.json)?;
        Ok(answer["overlay"]["samples"][0]["rtt_ms"].is_number())
    }

    async fn client(&self) -> Result<LocalAgentClient<Channel>> {
        let socket = self.folder.join("agent.sock");
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://agent").timeout(CALL_DEADLINE);
        Ok(LocalAgentClient::new(endpoint.connect_with_connector(connector).await?))
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).args(&self.options).env("RAP_LOG", "warn");
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.kill();
        }
        process::kill_mentioning(&self.folder);
    }
}

fn free_udp_port() -> Result<String> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(socket.local_addr()?.to_string())
}

const START_DEADLINE: Duration = Duration::from_secs(20);
const JOIN_DEADLINE: Duration = Duration::from_secs(30);
const LINK_DEADLINE: Duration = Duration::from_secs(30);
const PING_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(15);
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How often a condition is looked at: the resolution of join and cold start.
const LOOK: Duration = Duration::from_millis(5);
