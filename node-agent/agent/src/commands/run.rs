//! `run`: the agent itself, until it is told to stop.

use std::time::Duration;

use rap_runtime::{Fault, TaskGroup, Watchdog, descriptors, service, shutdown_signal, telemetry};
use rap_types::{ExitCode, Reason};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::local::{LocalServer, bind};
use crate::observe;
use crate::run::Host;

/// Runs every membership of this host.
pub(super) async fn run(config: Config) -> Result<ExitCode, Fault> {
    telemetry::init(config.log_format, &config.log).map_err(Fault::of(Reason::ConfigInvalid))?;
    descriptors::raise_limit();
    let signal = shutdown_signal().map_err(Fault::of(Reason::StateIo))?;
    let listener = bind(&config.socket).await?;
    let (group, socket) = (TaskGroup::new(), config.socket.clone());
    let (watchdog, metrics) = (Watchdog::default(), config.metrics);
    let mut host = Host::new(config, group.clone(), watchdog.clone());
    host.start_all().await?;
    let server = LocalServer::new(host.directory().clone(), host.handle());
    group.spawn_critical("local-api", server.serve(listener, group.token()));
    if let Some(address) = metrics {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                group.spawn("metrics", observe::serve(listener, group.clone(), host.directory().clone()));
            }
            // Another agent on this host may have it; carrying traffic matters more.
            Err(error) => tracing::warn!(%address, %error, "no metrics endpoint"),
        }
    }
    tracing::info!(memberships = host.directory().running(), socket = %socket.display(), "agent runs");
    service::ready();
    let token = group.token();
    let mut signal = std::pin::pin!(signal);
    let main = watchdog.part("agent");
    group.spawn("watchdog", watchdog.run(token.clone()));
    let why = loop {
        main.turned();
        tokio::select! {
            why = &mut signal => break why,
            () = token.cancelled() => break "a task failed",
            Some(event) = host.next() => host.handle_event(event).await,
            () = tokio::time::sleep(service::TURN) => {}
        }
    };
    tracing::info!(why, "agent ends");
    service::stopping();
    let drained = group.shutdown(DRAIN).await;
    // Nobody listens any more; a file left behind would only be replaced at the next start.
    let _ = std::fs::remove_file(&socket);
    match drained.failure {
        Some(failure) => Err(Fault::new(Reason::StateIo, failure.to_string())),
        None => Ok(ExitCode::Ok),
    }
}

const DRAIN: Duration = Duration::from_secs(5);
