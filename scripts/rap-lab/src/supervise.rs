//! Runs one service unit on a host, in systemd's place: starts it, hears its READY, starts it again, stops it. Owns the unit's
//! state file; part names and signals belong to `part`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal as Waited};
use rustix::process::Signal;

use crate::command::{Invocation, find_program};
use crate::folder::Folder;
use crate::guard::release_signals;
use crate::ledger::{Ledger, PartRecord};
use crate::process::Process;
use crate::unit::{Restart, Unit};

/// One unit on one host.
#[derive(Debug, Clone)]
pub struct Service {
    folder: Folder,
    host: String,
    name: String,
}

impl Service {
    /// The service of this name on this host.
    pub fn new(folder: &Folder, host: &str, name: &str) -> Self {
        let name = name.strip_suffix(".service").unwrap_or(name).to_owned();
        Self { folder: folder.clone(), host: host.to_owned(), name }
    }

    /// Its part name; `kill` and `pause` reach the program, not the one who watches it.
    pub fn part(&self) -> String {
        format!("{}-{}", self.host, self.name.replace('@', "-"))
    }

    /// Its name as systemd knows it, without `.service`.
    pub fn unit_name(&self) -> String {
        self.name.clone()
    }

    /// What systemd would call its active state: `inactive`, `activating`, `active`, `failed`.
    pub fn state(&self) -> String {
        fs::read_to_string(self.file("state")).unwrap_or_else(|_| "inactive".to_owned())
    }

    /// Forgets the state of an earlier run, so that the next one is not taken for it.
    pub fn forget_state(&self) {
        let _ = fs::remove_file(self.file("state"));
    }

    /// What it last said of itself.
    pub fn said(&self) -> String {
        fs::read_to_string(self.file("status")).unwrap_or_default()
    }

    /// The process that watches it.
    pub fn watcher(&self) -> Option<Process> {
        serde_json::from_str(&fs::read_to_string(self.file("watcher")).ok()?).ok()
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.folder.logs().join(format!("{}.log", self.part()))
    }

    /// Runs it until SIGTERM, or until it ends and is not to be started again. Signals must be held before the first thread.
    pub fn watch(&self) -> Result<()> {
        let unit = Unit::read(&self.folder.units(), &self.name)?;
        let this = Process::with_pid(std::process::id() as i32).context("own process")?;
        fs::write(self.file("watcher"), serde_json::to_string(&this)?)?;
        let stopping = AtomicBool::new(false);
        let ledger = Ledger::open(&self.folder)?;
        for path in &unit.folders {
            crate::folder::make_folder(Path::new(path))?;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = SigSet::from_iter([Waited::SIGTERM, Waited::SIGINT]).wait();
                stopping.store(true, Ordering::SeqCst);
                if let Some(process) = self.recorded(&ledger) {
                    process.signal(Signal::TERM);
                }
            });
            let ended = self.keep_running(&unit, &ledger, &stopping);
            if let Err(error) = &ended {
                self.set_state("failed");
                eprintln!("{}: {error:#}", self.name);
            }
            // The signal's thread has no other end.
            this.signal(Signal::TERM);
        });
        Ok(())
    }

    fn keep_running(&self, unit: &Unit, ledger: &Ledger, stopping: &AtomicBool) -> Result<()> {
        for _ in 0..START_LIMIT {
            let status = self.run_once(unit, ledger, stopping)?;
            let again = match unit.restart {
                Restart::No => false,
                Restart::OnFailure => !status.success(),
                Restart::Always => true,
            };
            if stopping.load(Ordering::SeqCst) || !again {
                let clean = stopping.load(Ordering::SeqCst) || status.success();
                self.set_state(if clean { "inactive" } else { "failed" });
                return Ok(());
            }
            crate::wait::rest(RESTART_PAUSE);
        }
        anyhow::bail!("ended {START_LIMIT} times")
    }

    fn run_once(&self, unit: &Unit, ledger: &Ledger, stopping: &AtomicBool) -> Result<ExitStatus> {
        self.set_state("activating");
        for line in &unit.start_before {
            let status = self.command(unit, line)?.status()?;
            ensure!(status.success(), "{line}: {status}");
        }
        let path = self.file("notify");
        let _ = fs::remove_file(&path);
        let heard = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        heard.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut command = self.command(unit, &unit.start)?;
        command.env("NOTIFY_SOCKET", &path);
        if let Some(within) = unit.watchdog {
            command.env("WATCHDOG_USEC", within.as_micros().to_string());
        }
        let mut child = command.spawn().with_context(|| unit.start.clone())?;
        self.record(unit, ledger, &child)?;
        // A stop that came between two processes found none to tell.
        if stopping.load(Ordering::SeqCst)
            && let Some(process) = self.recorded(ledger)
        {
            process.signal(Signal::TERM);
        }
        if !unit.notifies {
            self.set_state("active");
        }
        self.listen(&heard, &mut child, unit.watchdog)
    }

    fn listen(
        &self,
        heard: &UnixDatagram,
        child: &mut Child,
        watchdog: Option<Duration>,
    ) -> Result<ExitStatus> {
        let mut message = [0; 4096];
        // The watchdog runs from READY on.
        let mut fed = None;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if fed.zip(watchdog).is_some_and(|(fed, within): (Instant, _)| fed.elapsed() > within) {
                eprintln!("{}: no word for {watchdog:?}: ended by the watchdog", self.name);
                if let Some(process) = Process::with_pid(child.id() as i32) {
                    process.signal(Signal::ABORT);
                }
                return Ok(child.wait()?);
            }
            let Ok(length) = heard.recv(&mut message) else { continue };
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            for line in text.lines() {
                match line {
                    "READY=1" => {
                        fed = Some(crate::wait::now());
                        self.set_state("active");
                    }
                    "WATCHDOG=1" => fed = fed.map(|_| crate::wait::now()),
                    _ => {}
                }
                if let Some(status) = line.strip_prefix("STATUS=")
                    && let Err(error) = fs::write(self.file("status"), status)
                {
                    eprintln!("{}: {error}", self.name);
                }
            }
        }
    }

    fn command(&self, unit: &Unit, line: &str) -> Result<Command> {
        let invocation = Invocation::typed(line)?;
        // Units name the installed place; in a lab the program of that name comes from the build.
        let name =
            Path::new(&invocation.program).file_name().context("a program")?.to_string_lossy().into_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let program = find_program(&name, &path).with_context(|| format!("{name} is not on the PATH"))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new(program);
        release_signals(&mut command);
        command.args(&invocation.arguments).envs(&unit.variables).current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        for (file, optional) in &unit.variable_files {
            match fs::read_to_string(file) {
                Ok(text) => {
                    let pairs = text.lines().filter(|line| !line.starts_with('#'));
                    command.envs(pairs.filter_map(|line| line.split_once('=')));
                }
                Err(_) if *optional => {}
                Err(error) => return Err(error).with_context(|| file.clone()),
            }
        }
        Ok(command)
    }

    fn record(&self, unit: &Unit, ledger: &Ledger, child: &Child) -> Result<()> {
        let entry = PartRecord {
            host: self.host.clone(),
            invocation: Invocation::typed(&unit.start)?,
            process: Process::with_pid(child.id() as i32),
        };
        ledger.change(|record| {
            record.parts.insert(self.part(), entry);
            Ok(())
        })
    }

    fn recorded(&self, ledger: &Ledger) -> Option<Process> {
        ledger.read().ok()?.parts.get(&self.part())?.process
    }

    fn set_state(&self, state: &str) {
        if let Err(error) = fs::write(self.file("state"), state) {
            eprintln!("{}: {error}", self.name);
        }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.folder.units().join(format!("{}.{what}", self.part()))
    }
}

/// Starts after which a unit that keeps ending is given up.
const START_LIMIT: usize = 200;
/// systemd waits as long when `RestartSec=` says nothing.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
