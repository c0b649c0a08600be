//! A second network beside the part's own, and a thread in it.

use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::{Builder, Runtime};

use super::part::run_tool;

/// Runs `work` in a thread whose network is a new one. Processes and threads that it starts are there too. It is given the
/// number that tools name its network by.
pub(super) fn within<T: Send + 'static>(
    work: impl FnOnce(&str) -> Result<T> + Send + 'static,
) -> JoinHandle<Result<T>> {
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("a network of its own")?;
        run_tool("ip", &["link", "set", "lo", "up"])?;
        work(&nix::unistd::gettid().to_string())
    })
}

/// What a thread of `within` came to.
pub(super) fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread ended early"))?
}

/// A runtime whose thread is in the network of the calling one.
pub(super) fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}
