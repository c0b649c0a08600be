//! Work on files, off the threads that serve connections.

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

/// Works on `place` off the async threads. It is out meanwhile; if the work is cut off, it stays out.
///
/// # Errors
/// The error that the work returned; `state.io` if the place is out.
pub async fn on<S: Send + 'static>(
    place: &mut Option<S>,
    work: impl FnOnce(&mut S) -> Result<(), Fault> + Send + 'static,
) -> Result<(), Fault> {
    let out = || Fault::new(Reason::StateIo, "work on local state was cut off before");
    let mut value = place.take().ok_or_else(out)?;
    let (value, done) = blocking(move || {
        let done = work(&mut value);
        Ok((value, done))
    })
    .await?;
    *place = Some(value);
    done
}
