//! `run`: the agent itself, until it is told to stop.

use std::time::Duration;

use rap_runtime::{Fault, TaskGroup, shutdown_signal, telemetry};
use rap_state::{MembershipDir, MembershipName};
use rap_types::{ExitCode, Reason};
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::fault::state_fault;
use crate::local::{Directory, LocalServer, bind};
use crate::running;

/// Runs every membership of this host.
pub(super) async fn run(config: Config) -> Result<ExitCode, Fault> {
    telemetry::init(config.log_format, &config.log)
        .map_err(|error| Fault::new(Reason::ConfigInvalid, error.to_string()))?;
    let signal = shutdown_signal().map_err(|error| Fault::new(Reason::StateIo, error.to_string()))?;
    let listener = bind(&config.socket).await?;
    let group = TaskGroup::new();
    let mut host = Host { config, directory: Directory::default(), group: group.clone(), started: 0 };
    for name in MembershipDir::list(&host.config.data_dir).map_err(state_fault)? {
        let text = name.to_string();
        match host.start(name).await {
            Ok(()) => {}
            Err(fault) if matches!(fault.reason, Reason::EnrollmentPending | Reason::MembershipAbsent) => {
                tracing::info!(membership = text, "the join is not finished; membership not started");
            }
            Err(fault) => {
                tracing::error!(membership = text, reason = %fault.reason, error = %fault, "membership not started");
            }
        }
    }
    let (load, mut loads) = mpsc::channel(4);
    let server = LocalServer::new(host.directory.clone(), load);
    group.spawn_critical("local-api", server.serve(listener, group.token()));
    tracing::info!(memberships = host.started, socket = %host.config.socket.display(), "agent runs");
    notify(&[NotifyState::Ready]);
    let token = group.token();
    let mut signal = std::pin::pin!(signal);
    let why = loop {
        tokio::select! {
            why = &mut signal => break why,
            () = token.cancelled() => break "a task failed",
            Some((name, reply)) = loads.recv() => host.load(&name, reply).await,
        }
    };
    tracing::info!(why, "agent ends");
    notify(&[NotifyState::Stopping]);
    let drained = group.shutdown(DRAIN).await;
    // Nobody listens any more; a file left behind would only be replaced at the next start.
    let _ = std::fs::remove_file(&host.config.socket);
    match drained.failure {
        Some(failure) => Err(Fault::new(Reason::StateIo, failure.to_string())),
        None => Ok(ExitCode::Ok),
    }
}

struct Host {
    config: Config,
    directory: Directory,
    group: TaskGroup,
    started: u16,
}

impl Host {
    async fn start(&mut self, name: MembershipName) -> Result<(), Fault> {
        let text = name.to_string();
        let requests = running::start(&self.config, name, self.started, &self.group).await?;
        self.started += 1;
        self.directory.insert(text, requests);
        Ok(())
    }

    async fn load(&mut self, name: &str, reply: oneshot::Sender<Result<(), Fault>>) {
        let loaded = match MembershipName::new(name).map_err(state_fault) {
            Ok(name) if self.directory.contains(name.as_str()) => Ok(()),
            Ok(name) => self.start(name).await,
            Err(fault) => Err(fault),
        };
        match &loaded {
            Ok(()) => tracing::info!(membership = name, "membership loaded"),
            Err(fault) => {
                tracing::error!(membership = name, reason = %fault.reason, error = %fault, "not loaded")
            }
        }
        // The caller may have stopped waiting.
        let _ = reply.send(loaded);
    }
}

/// Nobody listens when no service manager started the process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "service manager not told");
    }
}

const DRAIN: Duration = Duration::from_secs(5);
