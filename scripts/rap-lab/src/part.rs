//! A started program and the verbs on it: kill, stop, pause, resume, restart. Owns its log file and its entry in the ledger.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::command::{Invocation, tail};
use crate::folder::Folder;
use crate::ledger::{Ledger, PartRecord};
use crate::process::Process;
use crate::view::View;

/// One program by its part name.
#[derive(Debug, Clone)]
pub struct Part {
    name: String,
    view: View,
    folder: Folder,
    ledger: Ledger,
}

impl Part {
    pub(crate) fn new(name: &str, view: &View, folder: &Folder, ledger: &Ledger) -> Self {
        Self { name: name.to_owned(), view: view.clone(), folder: folder.clone(), ledger: ledger.clone() }
    }

    pub(crate) fn start(&self, host: &str, invocation: &Invocation) -> Result<()> {
        crate::run_id::check_name(&self.name, 48)?;
        ensure!(
            self.process()?.is_none_or(|process| !process.is_running()),
            "part {} already runs",
            self.name
        );
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.log_path())?;
        let mut command = invocation.command(&self.view);
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = self.view.enter(|| command.spawn().with_context(|| invocation.line()))?;
        let process = Process::with_pid(child.id() as i32);
        let entry = PartRecord { host: host.to_owned(), invocation: invocation.clone(), process };
        self.ledger.change(|record| {
            record.parts.insert(self.name.clone(), entry);
            Ok(())
        })?;
        // Waited for by its own thread, so that it leaves no zombie; the thread ends with the process.
        std::thread::Builder::new().name(format!("wait {}", self.name)).spawn(move || child.wait())?;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process; `None` if it never started.
    pub fn process(&self) -> Result<Option<Process>> {
        Ok(self.ledger.read()?.parts.get(&self.name).and_then(|part| part.process))
    }

    /// True while its process lives.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.process()?.is_some_and(Process::is_running))
    }

    /// Ends it at once (SIGKILL) and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        let process = self.running()?;
        process.signal(Signal::KILL);
        ensure!(process.wait_end(END_DEADLINE), "part {} outlives SIGKILL", self.name);
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits; an error if it does not.
    pub fn stop(&self) -> Result<()> {
        let process = self.running()?;
        process.signal(Signal::TERM);
        ensure!(
            process.wait_end(END_DEADLINE),
            "part {} does not end on SIGTERM: {}",
            self.name,
            self.log_tail()
        );
        Ok(())
    }

    /// Stops its time (SIGSTOP).
    pub fn pause(&self) -> Result<()> {
        let process = self.running()?;
        process.signal(Signal::STOP);
        crate::wait_until(END_DEADLINE, &format!("{} paused", self.name), || {
            Ok(process.is_paused().then_some(()))
        })
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.running()?.signal(Signal::CONT);
        Ok(())
    }

    /// Starts it again as it was started before; ends it first if it runs.
    pub fn restart(&self) -> Result<()> {
        if self.is_running()? {
            self.stop()?;
        }
        let record = self.ledger.read()?;
        let Some(part) = record.parts.get(&self.name) else { bail!("no part {}", self.name) };
        self.start(&part.host, &part.invocation)
    }

    /// Waits until it ended by itself.
    pub fn wait_end(&self, deadline: Duration) -> Result<()> {
        let Some(process) = self.process()? else { bail!("part {} never started", self.name) };
        ensure!(process.wait_end(deadline), "part {} still runs after {deadline:?}", self.name);
        Ok(())
    }

    /// Everything it printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The last lines it printed.
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }

    fn running(&self) -> Result<Process> {
        match self.process()? {
            Some(process) if process.is_running() => Ok(process),
            _ => bail!("part {} does not run: {}", self.name, self.log_tail()),
        }
    }

    /// The file it prints to.
    pub fn log_path(&self) -> PathBuf {
        self.folder.logs().join(format!("{}.log", self.name))
    }
}

const END_DEADLINE: Duration = Duration::from_secs(20);
