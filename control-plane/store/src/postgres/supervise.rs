//! Keeps the server running until the control plane stops.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::embedded::Installed;
use super::pidfile;
use super::postmaster::Postmaster;

/// What the supervisor last saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresState {
    /// Takes connections. The number counts restarts since the control plane started.
    Ready {
        /// Deaths survived so far.
        restarts: u64,
        /// Process id of the server.
        pid: u32,
    },
    /// Died; being started again, possibly replaying its log.
    Recovering {
        /// Deaths so far.
        restarts: u64,
    },
    /// Stopped with the control plane.
    Stopped,
}

/// First and longest pause before a restart, and the time of health after which the pause is short again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const HEALTHY: Duration = Duration::from_secs(30);

/// Runs until `shutdown`; then stops the server and returns.
pub(super) async fn supervise(
    installed: &Installed,
    first: Postmaster,
    state: &watch::Sender<PostgresState>,
    shutdown: &CancellationToken,
) {
    let mut running = Some(first);
    let mut restarts = 0;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(mut postmaster) = running.take() {
            state.send_replace(PostgresState::Ready { restarts, pid: postmaster.pid() });
            let since = Instant::now();
            let status = tokio::select! {
                () = shutdown.cancelled() => {
                    postmaster.stop().await;
                    break;
                }
                status = postmaster.ended() => status,
            };
            restarts += 1;
            state.send_replace(PostgresState::Recovering { restarts });
            tracing::error!(%status, restarts, "PostgreSQL ended by itself; starting it again");
            if since.elapsed() > HEALTHY {
                pause = FIRST_PAUSE;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = shutdown.cancelled() => break,
            again = start_again(installed) => running = again,
        }
    }
    state.send_replace(PostgresState::Stopped);
}

/// One attempt. Waits as long as the server replays its log; `None` when it ended instead.
async fn start_again(installed: &Installed) -> Option<Postmaster> {
    let attempt = async {
        pidfile::clear_orphan(&installed.directory).await?;
        let mut postmaster = installed.spawn()?;
        postmaster.ready().await?;
        Ok::<_, super::PostgresError>(postmaster)
    };
    match attempt.await {
        Ok(postmaster) => Some(postmaster),
        Err(error) => {
            tracing::error!(%error, "PostgreSQL did not start");
            None
        }
    }
}
