//! Starts a program so that it outlives the agent: a session of its own, no death signal.
//!
//! Owns the process and the news of its end. Refuses to know what the program is for, and to restart it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child as Process, Command, ExitStatus, Stdio};

use rap_runtime::files::create_private_dir;

use super::NotStarted;

/// A program to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// File of the program.
    pub path: PathBuf,
    /// Arguments of the program. Other users of the host can read them.
    pub arguments: Vec<OsString>,
    /// Variables that it gets besides the agent's own.
    pub environment: Vec<(&'static str, String)>,
    /// File to which its standard error is appended; the folder is made, readable by the agent's user alone.
    pub log: PathBuf,
}

/// A program that was started. Dropping it leaves the program running.
#[derive(Debug)]
pub struct Child(Process);

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// What the operating system says of the log or of the program.
    pub fn start(&self) -> Result<Child, NotStarted> {
        if let Some(folder) = self.log.parent() {
            create_private_dir(folder).map_err(|error| NotStarted(error.to_string()))?;
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| NotStarted(format!("{}: {error}", self.log.display())))?;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        detach(&mut command);
        // They are for the agent's own messages to its service manager.
        for variable in OWN_VARIABLES {
            command.env_remove(variable);
        }
        let started = command.spawn();
        started.map(Child).map_err(|error| NotStarted(format!("{}: {error}", self.path.display())))
    }
}

impl Child {
    /// Process id on this host.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended; `None` while it runs. Collects the process, so that no zombie stays.
    ///
    /// # Errors
    /// What the operating system says, for instance that somebody else collected it.
    pub fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }
}

/// A session of its own: signals to the agent's terminal or group do not reach it.
#[allow(unsafe_code)]
fn detach(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    let new_session = || match nix::unistd::setsid() {
        Ok(_) => Ok(()),
        Err(errno) => Err(errno.into()),
    };
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call,
    // without allocating or touching locks.
    unsafe { command.pre_exec(new_session) };
}

/// What a service manager gives to the agent's process alone.
pub(super) const OWN_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_in_its_own_session_and_its_end_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("run/program.log");
        let program = Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), "ps -o sid= -p $$ >&2; echo $WORD >&2; exit 7".into()],
            environment: vec![("WORD", "told".into())],
            log: log.clone(),
        };
        let mut child = program.start().unwrap();
        let ended = loop {
            match child.ended().unwrap() {
                Some(status) => break status,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(ended.code(), Some(7));
        let said = std::fs::read_to_string(log).unwrap();
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words, [child.pid().to_string().as_str(), "told"], "leader of its session");
        let absent = Program { path: "/nonexistent".into(), ..program };
        assert!(absent.start().unwrap_err().0.contains("/nonexistent"));
    }
}
