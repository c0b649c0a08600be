//! Processes by pid and start time. Owns never signalling a process that another program started: a pid alone is not an identity.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of /proc/pid/stat).
    pub started: u64,
}

/// What /proc/pid/stat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// One letter, `Z` for a process that ended and was not yet waited for.
    pub state: char,
    /// Parent.
    pub parent: i32,
    /// Start time in clock ticks since boot.
    pub started: u64,
}

impl Process {
    /// The process that has this pid now.
    pub fn with_pid(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, started: stat.started })
    }

    /// True until it ended.
    pub fn is_running(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != 'Z')
    }

    /// True while it is stopped by SIGSTOP.
    pub fn is_paused(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && stat.state == 'T')
    }

    /// Sends a signal; false if the process is gone. The pidfd is opened before the start time is compared, so the signal
    /// cannot reach a later process with the same pid.
    pub fn signal(self, signal: Signal) -> bool {
        let Some(pidfd) = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return false;
        };
        self.is_running() && pidfd_send_signal(&pidfd, signal).is_ok()
    }

    /// Waits for its end; true if it ended in time.
    pub fn wait_end(self, deadline: Duration) -> bool {
        let Some(pidfd) = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            return true;
        };
        // Not `is_running`: a first thread that ended is a zombie while others still hold files and devices, and only the pidfd
        // tells when the last one is gone.
        if stat(self.pid).is_none_or(|stat| stat.started != self.started) {
            return true;
        }
        let timeout = PollTimeout::try_from(deadline).unwrap_or(PollTimeout::MAX);
        let mut waited = [PollFd::new(std::os::fd::AsFd::as_fd(&pidfd), PollFlags::POLLIN)];
        matches!(poll(&mut waited, timeout), Ok(ready) if ready > 0)
    }

    /// What it has in memory that it may write to, without parts that are zero. It should be stopped.
    ///
    /// # Errors
    /// Its memory cannot be read, or there is none.
    pub fn memory(self) -> Result<Vec<Vec<u8>>> {
        ensure!(self.is_running(), "process {} is gone", self.pid);
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid))?;
        let memory = fs::File::open(format!("/proc/{}/mem", self.pid))?;
        let zero = vec![0; PIECE];
        let (mut parts, mut piece) = (Vec::new(), zero.clone());
        for (start, end) in maps.lines().filter_map(writable) {
            let mut part = Vec::new();
            for at in (start..end).step_by(PIECE) {
                let length = PIECE.min(usize::try_from(end - at)?);
                // What is mapped and not there ends the part.
                let count = memory.read_at(&mut piece[..length], at).unwrap_or_default();
                if piece[..count] == zero[..count] {
                    parts.push(std::mem::take(&mut part));
                } else {
                    part.extend_from_slice(&piece[..count]);
                }
            }
            parts.push(part);
        }
        parts.retain(|part| !part.is_empty());
        ensure!(!parts.is_empty(), "nothing of the memory of {} was read", self.pid);
        Ok(parts)
    }

    /// Program and arguments, for messages; arguments never hold secrets.
    pub fn command_line(self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        text.trim().to_owned()
    }
}

/// Begin and end of a mapping that its process writes to.
fn writable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let (start, end) = range.split_once('-')?;
    let edge = |text| u64::from_str_radix(text, 16).ok();
    rights.starts_with("rw").then_some((edge(start)?, edge(end)?))
}

/// Reads /proc/pid/stat; `None` if there is no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process that a run owns: marked in its environment, in one of its network namespaces, working in its folder,
/// or started by one of those.
pub fn owned_by(
    marks: impl Fn(&str) -> bool,
    namespaces: &BTreeSet<u64>,
    folder: &Path,
) -> BTreeSet<Process> {
    let (mut owned, mut others) = (BTreeSet::new(), Vec::new());
    for (pid, stat) in all() {
        let process = Process { pid, started: stat.started };
        if pid == std::process::id() as i32 || stat.state == 'Z' {
            continue;
        }
        if run_mark(pid).is_some_and(|mark| marks(&mark))
            || network_namespace(pid).is_some_and(|inode| namespaces.contains(&inode))
            || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path.starts_with(folder))
        {
            owned.insert(process);
        } else {
            others.push((process, stat.parent));
        }
    }
    loop {
        let before = owned.len();
        let parents: BTreeSet<i32> = owned.iter().map(|process| process.pid).collect();
        owned.extend(others.iter().filter(|(_, parent)| parents.contains(parent)).map(|(child, _)| *child));
        if owned.len() == before {
            return owned;
        }
    }
}

/// Inode of a network namespace file, which names the namespace.
pub fn namespace_inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn network_namespace(pid: i32) -> Option<u64> {
    namespace_inode(Path::new(&format!("/proc/{pid}/ns/net")))
}

/// The lab run in a process's environment.
fn run_mark(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{RUN_VARIABLE}=");
    let mark =
        environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_bytes()))?;
    String::from_utf8(mark.to_vec()).ok()
}

fn all() -> impl Iterator<Item = (i32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, stat(pid)?))
    })
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may itself hold spaces and parentheses.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Read at once.
const PIECE: usize = 64 * 1024;

/// Environment variable that marks every process of a run and everything it starts.
pub const RUN_VARIABLE: &str = "RAP_LAB_RUN";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read() {
        let text = "7 (a) Z (b c) S 3 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 99";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', parent: 3, started: 4242 }));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn what_a_stopped_process_holds_is_read() {
        let mut child =
            std::process::Command::new("sleep").arg("60").env("HELD", "planted").spawn().expect("sleep");
        let process = Process::with_pid(child.id() as i32).expect("process");
        process.signal(Signal::STOP);
        let holds = |text: &[u8]| {
            let memory = process.memory().expect("memory");
            memory.iter().any(|part| part.windows(text.len()).any(|window| window == text))
        };
        // The program may not have begun yet.
        let held = crate::wait_until(Duration::from_secs(10), "the variable", || {
            process.signal(Signal::CONT);
            process.signal(Signal::STOP);
            Ok(holds(b"HELD=planted").then_some(()))
        });
        assert!(!holds(b"HELD=never planted"));
        process.signal(Signal::KILL);
        child.wait().expect("end");
        held.expect("its environment is on its stack");
    }

    #[test]
    fn a_pid_with_another_start_time_is_not_signalled() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let process = Process::with_pid(child.id() as i32).expect("process");
        let stranger = Process { started: process.started + 1, ..process };
        assert!(!stranger.is_running());
        assert!(!stranger.signal(Signal::KILL));
        assert!(process.is_running());
        assert!(process.signal(Signal::KILL));
        assert!(process.wait_end(Duration::from_secs(10)));
        child.wait().expect("end");
        assert!(!process.signal(Signal::KILL));
    }

    #[test]
    fn marked_processes_and_what_they_start_are_found() {
        let run = crate::RunId::new(&crate::folder::Folder::at("/x/t")).expect("run id").to_string();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "env -i sleep 60 & wait"])
            .env(RUN_VARIABLE, &run)
            .spawn()
            .expect("sh");
        let found = crate::wait_until(Duration::from_secs(10), "shell and its child", || {
            let found = owned_by(|mark| mark == run, &BTreeSet::new(), Path::new("/nowhere"));
            Ok((found.len() == 2 && found.iter().any(|it| it.command_line() == "sleep 60")).then_some(found))
        })
        .expect("both");
        for process in found.iter().rev() {
            process.signal(Signal::KILL);
        }
        child.wait().expect("end");
        assert!(found.iter().all(|process| process.wait_end(Duration::from_secs(10))));
    }
}
