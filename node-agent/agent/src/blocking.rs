//! Work on files, off the threads that serve connections.
//!
//! Owns nothing else.

use rap_runtime::Fault;
use rap_types::Reason;

/// Runs blocking work off the async threads.
///
/// # Errors
/// The error that the work returned.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Fault::new(Reason::StateIo, "work on local state was cut off")),
    }
}
