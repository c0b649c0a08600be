//! The agent's socket: who may speak, in which order, how much and how long.
//!
//! Owns connections and their bounds. What is asked is answered by `plane`, `stats` and `ping`.

mod connection;
mod events;
mod hello;
mod read;
mod refusal;
mod requests;
mod write;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rap_runtime::service::{Beat, TURN};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::plane::Plane;

/// Accepts until the plane's group is cancelled.
pub(crate) async fn serve(plane: Arc<Plane>, listener: UnixListener, beat: Beat) -> io::Result<()> {
    let group = plane.group().clone();
    let token = group.token();
    let shared = Arc::new(connection::Shared::new(plane));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        beat.turned();
        let accepted = tokio::select! {
            () = token.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(TURN) => continue,
        };
        match accepted {
            // Too many at once: this one is closed unheard.
            Ok((stream, _)) => {
                if let Ok(permit) = room.clone().try_acquire_owned() {
                    let shared = shared.clone();
                    group.spawn("agent-connection", async move {
                        connection::run(&shared, stream).await;
                        drop(permit);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

const CONNECTIONS: usize = 8;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
