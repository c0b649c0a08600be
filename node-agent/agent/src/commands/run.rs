//! `run`: the agent itself, until it is told to stop.

use std::time::Duration;

use rap_runtime::{Fault, TaskGroup, shutdown_signal, telemetry};
use rap_types::{ExitCode, Reason};
use sd_notify::NotifyState;

use crate::config::Config;
use crate::host::Host;
use crate::local::{LocalServer, bind};

/// Runs every membership of this host.
pub(super) async fn run(config: Config) -> Result<ExitCode, Fault> {
    telemetry::init(config.log_format, &config.log)
        .map_err(|error| Fault::new(Reason::ConfigInvalid, error.to_string()))?;
    let signal = shutdown_signal().map_err(|error| Fault::new(Reason::StateIo, error.to_string()))?;
    let listener = bind(&config.socket).await?;
    let (group, socket) = (TaskGroup::new(), config.socket.clone());
    let mut host = Host::new(config, group.clone());
    host.start_all().await?;
    let server = LocalServer::new(host.directory().clone(), host.handle());
    group.spawn_critical("local-api", server.serve(listener, group.token()));
    tracing::info!(memberships = host.directory().running(), socket = %socket.display(), "agent runs");
    notify(&[NotifyState::Ready]);
    let token = group.token();
    let mut signal = std::pin::pin!(signal);
    let why = loop {
        tokio::select! {
            why = &mut signal => break why,
            () = token.cancelled() => break "a task failed",
            Some(event) = host.next() => host.handle_event(event).await,
        }
    };
    tracing::info!(why, "agent ends");
    notify(&[NotifyState::Stopping]);
    let drained = group.shutdown(DRAIN).await;
    // Nobody listens any more; a file left behind would only be replaced at the next start.
    let _ = std::fs::remove_file(&socket);
    match drained.failure {
        Some(failure) => Err(Fault::new(Reason::StateIo, failure.to_string())),
        None => Ok(ExitCode::Ok),
    }
}

/// Nobody listens when no service manager started the process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "service manager not told");
    }
}

const DRAIN: Duration = Duration::from_secs(5);
