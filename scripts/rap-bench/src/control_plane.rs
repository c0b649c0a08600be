//! One control plane in development mode with its private PostgreSQL, as a stranger would start it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use rap_types::Digest;
use rap_wire::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::commits::Commits;
use crate::machine::CONTROL_CORE;
use crate::measure::Stopwatch;
use crate::process::{self, Program};

/// A running control plane; dropping it ends it and its PostgreSQL.
#[derive(Debug)]
pub struct ControlPlane {
    program: Program,
    data_dir: PathBuf,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl ControlPlane {
    /// Makes an installation in `folder` and serves it on a free port of 127.0.0.1.
    pub async fn start(programs: &Path, folder: &Path) -> Result<Self> {
        // PostgreSQL runs as its own account under root and must pass through.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        let program = programs.join("rap-control-plane");
        let (data_dir, address, metrics) = (folder.join("control"), free_address()?, free_address()?);
        let command = |verb: &str| {
            let mut command = Command::new(&program);
            command.arg(verb).arg("--data-dir").arg(&data_dir);
            command.args(["--authority-mode", "dev", "--listen"]).arg(address.to_string());
            command.arg("--metrics").arg(metrics.to_string());
            command
        };
        process::output(command("init"), CONTROL_CORE)?;
        Commits::keep_times(&data_dir)?;
        let program = Program::start("control-plane", command("serve"), folder, CONTROL_CORE)?;
        let mut control = Self { program, data_dir, address, metrics };
        if let Err(error) = control.wait_ready().await {
            control.stop().await?;
            return Err(error);
        }
        Ok(control)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let watch = Stopwatch::start();
        while watch.elapsed() < START_DEADLINE {
            self.program.check()?;
            if self.is_ready().await {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("the control plane did not take connections within {START_DEADLINE:?}")
    }

    /// It takes connections once the development installation has activated itself.
    async fn is_ready(&self) -> bool {
        self.owner_key().exists()
            && self.manifest().exists()
            && tokio::net::TcpStream::connect(self.address).await.is_ok()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A counter without labels, as its metrics endpoint shows it now.
    pub async fn counter(&self, name: &str) -> Result<f64> {
        let answer = tokio::time::timeout(SCRAPE_DEADLINE, self.scrape()).await.context("metrics")??;
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no counter {name}"))?.trim().parse().with_context(|| name.to_owned())
    }

    async fn scrape(&self) -> Result<String> {
        let mut stream = tokio::net::TcpStream::connect(self.metrics).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.metrics);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 200 "), "the metrics endpoint refused");
        Ok(answer)
    }

    /// The first owner's key file.
    pub fn owner_key(&self) -> PathBuf {
        self.data_dir.join("dev.owner.key")
    }

    fn manifest(&self) -> PathBuf {
        self.data_dir.join("dev.manifest")
    }

    /// SHA-256 of its TLS CA's key, as the activation manifest names it.
    pub fn pin(&self) -> Result<Digest> {
        let bytes = std::fs::read(self.manifest())?;
        let envelope = v1::SignedEnvelope::decode(bytes.as_slice())?;
        let manifest = v1::ActivationManifest::decode(envelope.payload.as_slice())?;
        Digest::from_slice(&manifest.tls_ca_spki_sha256).ok().context("the manifest pins no TLS CA")
    }

    /// Stops it.
    pub async fn stop(&mut self) -> Result<()> {
        self.program.stop(STOP_DEADLINE).await
    }
}

/// A port that was free a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

const START_DEADLINE: Duration = Duration::from_secs(60);
const SCRAPE_DEADLINE: Duration = Duration::from_secs(10);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
