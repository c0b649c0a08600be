//! The control plane's own leaf: issued at start, renewed at half of its life.

use std::time::Duration;

use rap_authority::ids;
use rap_runtime::Clock;
use rap_runtime::tls::CertificateCell;
use tokio_util::sync::CancellationToken;

use crate::keys::certificate_authority::{CertificateAuthority, CertificateError};

/// Life of the control plane's own leaf.
const LIFETIME: Duration = Duration::from_secs(86_400);

/// Pause after a renewal that failed.
const RETRY: Duration = Duration::from_secs(60);

/// Issues a leaf for `hosts` into `slot` and returns how long it should be used.
pub fn issue_server_certificate(
    authority: &CertificateAuthority,
    hosts: &[String],
    slot: &CertificateCell,
    clock: &Clock,
) -> Result<Duration, CertificateError> {
    let leaf =
        authority.server_certificate(hosts, clock.now().wall, LIFETIME, ids::random(&mut rand::rng()))?;
    slot.set(leaf.chain, leaf.key).map_err(|_| CertificateError::Authority)?;
    Ok(LIFETIME / 2)
}

/// Renews the leaf until `shutdown`.
pub async fn renew_server_certificate(
    authority: CertificateAuthority,
    hosts: Vec<String>,
    slot: CertificateCell,
    first: Duration,
    shutdown: CancellationToken,
) {
    let clock = Clock::new();
    let mut pause = first;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match issue_server_certificate(&authority, &hosts, &slot, &clock) {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "the server certificate could not be renewed");
                RETRY
            }
        };
    }
}
