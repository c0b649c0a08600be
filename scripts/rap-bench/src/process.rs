//! The programs under test as child processes.
//!
//! Owns their end: a run leaves nothing behind. Refuses to signal what this run did not start.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine;

/// A running program; dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
}

impl Program {
    /// Starts `command` on `core` with its output in `<folder>/<name>.log`.
    pub fn start(name: &'static str, mut command: Command, folder: &Path, core: usize) -> Result<Self> {
        let path = folder.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| path.display().to_string())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = machine::on_core(core, || command.spawn());
        let child = child.with_context(|| format!("start {}", command.get_program().display()))?;
        Ok(Self { name, child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}", self.name),
        }
    }

    /// Asks it to end and waits; kills it when the deadline passes.
    pub async fn stop(&mut self, deadline: Duration) -> Result<()> {
        signal(self.pid(), Signal::SIGTERM);
        match tokio::time::timeout(deadline, self.ended()).await {
            Ok(status) => status.map(drop),
            Err(_) => {
                self.child.kill()?;
                self.child.wait()?;
                bail!("{} did not end within {deadline:?}", self.name)
            }
        }
    }

    /// Waits for its end and fails unless it succeeded.
    pub async fn succeeded(&mut self, deadline: Duration) -> Result<()> {
        let ended = tokio::time::timeout(deadline, self.ended()).await;
        let status = ended.with_context(|| format!("{} still runs after {deadline:?}", self.name))??;
        if status.success() { Ok(()) } else { bail!("{} ended: {status}", self.name) }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn ended(&mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Runs `command` to its end and returns what it printed.
pub fn output(mut command: Command, core: usize) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = machine::on_core(core, || command.stdin(Stdio::null()).output());
    let output = output.with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes a file that only this account may read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = File::options().create_new(true).write(true).mode(0o600).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Resident memory of a process, bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
    Ok(kib * 1024)
}

/// Processes that were given `word` as an argument or part of one: those the programs under test started
/// and left running, because `word` is a path that only this run uses.
pub fn mentioning(word: &Path) -> Vec<u32> {
    let wanted = word.as_os_str().as_encoded_bytes();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(wanted.len()).any(|part| part == wanted)
        })
        .collect()
}

/// Ends at once what still mentions `word`.
pub fn kill_mentioning(word: &Path) {
    for pid in mentioning(word) {
        signal(pid, Signal::SIGKILL);
    }
}

/// Ends what still mentions `word` and waits until it is gone.
pub async fn end_mentioning(word: &Path, deadline: Duration) -> Result<()> {
    let gone = async {
        while !mentioning(word).is_empty() {
            kill_mentioning(word);
            tokio::time::sleep(LOOK).await;
        }
    };
    let ended = tokio::time::timeout(deadline, gone).await;
    ended.with_context(|| format!("{} is still used", word.display()))
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // It fails only if the process has ended.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// How often the end of a process is looked for.
const LOOK: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Program {
        let mut command = Command::new("tail");
        command.arg("-f").arg(folder.join("sleeper.log"));
        Program::start("sleeper", command, folder, machine::MEASURING_CORE).unwrap()
    }

    #[tokio::test]
    async fn a_program_is_found_by_its_argument_and_ends_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = sleeper(folder.path());
        program.check().unwrap();
        // The kernel shows arguments a moment after the start.
        let shown = async {
            while mentioning(folder.path()) != [program.pid()] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), shown).await.unwrap();
        assert!(resident_bytes(program.pid()).unwrap() > 0);
        drop(program);
        assert_eq!(mentioning(folder.path()), [0; 0]);
    }

    #[tokio::test]
    async fn an_ended_program_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut program = sleeper(folder.path());
        program.stop(Duration::from_secs(10)).await.unwrap();
        assert!(program.check().is_err());
    }
}
