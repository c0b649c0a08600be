//! The agent's socket: who may speak, in which order, how much and how long.
//!
//! Owns connections and their bounds. What is asked is answered by `plane`, `stats` and `ping`.

mod connection;
mod events;
mod hello;
mod read;
mod requests;
mod write;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rap_runtime::service::{Beat, TURN};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::plane::Plane;

/// What all connections share.
pub(crate) struct Control {
    plane: Arc<Plane>,
    /// One permit: the controller's.
    controller: Arc<Semaphore>,
}

/// Accepts until the plane's group is cancelled.
pub(crate) async fn serve(plane: Arc<Plane>, listener: UnixListener, beat: Beat) -> io::Result<()> {
    let group = plane.group().clone();
    let token = group.token();
    let control = Arc::new(Control { plane, controller: Arc::new(Semaphore::new(1)) });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
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
                if let Ok(place) = places.clone().try_acquire_owned() {
                    let control = control.clone();
                    group.spawn("control-connection", async move {
                        connection::run(&control, stream).await;
                        drop(place);
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
