//! Ctrl-C and the overall deadline. Owns that a run that is stopped from outside still removes what it made.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use crate::folder::Folder;
use crate::sweep;

/// Watches one run until it is dropped.
#[derive(Debug)]
pub struct Guard {
    _done: SyncSender<()>,
}

/// Blocks SIGINT and SIGTERM for this thread and those it starts, so that the guard's thread takes them. Call before the first
/// thread is started. Children would inherit that and never hear SIGTERM: each needs [`release_signals`].
pub fn hold_signals() -> Result<()> {
    stop_signals().thread_block().context("block signals")
}

/// Makes a program start with no signal blocked.
#[allow(unsafe_code)]
pub fn release_signals(command: &mut Command) {
    let release = || Ok(stop_signals().thread_unblock()?);
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call, without allocating or
    // touching locks.
    unsafe { command.pre_exec(release) };
}

impl Guard {
    /// Removes the lab and ends this process when the deadline passes (exit 10) or a signal comes (exit 130).
    pub fn watch(folder: &Folder, deadline: Duration) -> Result<Self> {
        let (done, watched) = sync_channel::<()>(0);
        let (at_deadline, at_signal) = (folder.clone(), folder.clone());
        std::thread::Builder::new().name("deadline".to_owned()).spawn(move || {
            if watched.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
                eprintln!("lab {}: not done within {deadline:?}", at_deadline.lab());
                end(&at_deadline, 10);
            }
        })?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if stop_signals().wait().is_ok() {
                end(&at_signal, 130);
            }
        })?;
        Ok(Self { _done: done })
    }
}

fn stop_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM])
}

/// Other threads may be inside a call that never returns; leaving is the point.
#[allow(clippy::disallowed_methods)]
fn end(folder: &Folder, code: i32) -> ! {
    if let Err(error) = sweep::remove(folder) {
        eprintln!("lab {}: {error:#}", folder.lab());
    }
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;
    use rustix::process::Signal as Sent;

    #[test]
    fn a_program_hears_sigterm_although_the_thread_that_starts_it_holds_it() {
        hold_signals().expect("hold");
        let mut command = Command::new("sleep");
        release_signals(&mut command);
        let mut child = command.arg("305").spawn().expect("sleep");
        let process = Process::with_pid(child.id() as i32).expect("process");
        assert!(process.signal(Sent::TERM));
        let ended = process.wait_end(Duration::from_secs(20));
        process.signal(Sent::KILL);
        child.wait().expect("end");
        assert!(ended);
    }
}
