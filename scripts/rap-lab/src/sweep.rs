//! Removing a lab, and finding what is left of one. Owns the promise that exactly the lab's own things go.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Serialize;

use crate::folder::Folder;
use crate::network;
use crate::process::{Process, namespace_inode, owned_by, stat};
use crate::run_id::RunId;

/// What is left of a lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Leftovers {
    /// `pid command line`.
    pub processes: Vec<String>,
    /// Network namespaces.
    pub namespaces: Vec<String>,
    /// Links in the machine's own network namespace.
    pub links: Vec<String>,
    /// Packet-filter tables in the machine's own network namespace.
    pub tables: Vec<String>,
    /// Files and folders.
    pub files: Vec<PathBuf>,
}

impl Leftovers {
    /// True if nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One line each.
    pub fn lines(&self) -> Vec<String> {
        let kinds = [
            ("process", &self.processes),
            ("namespace", &self.namespaces),
            ("link", &self.links),
            ("nft table", &self.tables),
        ];
        let named =
            kinds.iter().flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind} {name}")));
        named.chain(self.files.iter().map(|path| format!("file {}", path.display()))).collect()
    }
}

/// Finds what is left of the lab in a folder, with or without its record.
pub fn leftovers(folder: &Folder) -> Leftovers {
    let processes = owned(folder);
    Leftovers {
        processes: processes
            .iter()
            .map(|process| format!("{} {}", process.pid, shortened(&process.command_line())))
            .collect(),
        namespaces: namespaces(folder),
        links: links(),
        tables: tables(),
        files: if folder.path().exists() { vec![folder.path().to_path_buf()] } else { Vec::new() },
    }
}

/// Removes the lab in a folder: processes first asked, then killed; then namespaces, then files.
pub fn remove(folder: &Folder) -> Result<()> {
    end_processes(folder)?;
    for namespace in namespaces(folder) {
        network::remove_namespace(&namespace)?;
    }
    match fs::remove_dir_all(folder.path()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| folder.path().display().to_string())
        }
        _ => {
            folder.remove_empty_base();
            Ok(())
        }
    }
}

/// Asks those first that no other of the lab started: they end their own children in their own order.
fn end_processes(folder: &Folder) -> Result<()> {
    let mut asked = BTreeSet::new();
    let ended = crate::wait_until(ASK_DEADLINE, "processes end", || {
        let left = owned(folder);
        let pids: BTreeSet<i32> = left.iter().map(|process| process.pid).collect();
        let is_child = |process: &Process| stat(process.pid).is_some_and(|stat| pids.contains(&stat.parent));
        let first: BTreeSet<Process> = left.iter().copied().filter(|process| !is_child(process)).collect();
        signal_all(&first.difference(&asked).copied().collect(), Signal::TERM);
        asked.extend(first);
        // A paused one hears SIGTERM only when its time goes on.
        signal_all(&left, Signal::CONT);
        Ok(left.is_empty().then_some(()))
    });
    if ended.is_ok() {
        return Ok(());
    }
    crate::wait_until(KILL_DEADLINE, "killed processes end", || {
        let left = owned(folder);
        signal_all(&left, Signal::KILL);
        Ok(left.is_empty().then_some(()))
    })
    .with_context(|| leftovers(folder).lines().join(", "))
}

fn signal_all(processes: &BTreeSet<Process>, signal: Signal) {
    for process in processes {
        process.signal(signal);
    }
}

/// Every process of the lab in a folder, those above this one excepted.
pub fn owned(folder: &Folder) -> BTreeSet<Process> {
    let belongs = |mark: &str| RunId::parse(mark).is_some_and(|run| run.belongs_to(folder));
    let inodes = namespaces(folder)
        .iter()
        .filter_map(|name| namespace_inode(&network::namespace_file(name)))
        .collect();
    let mut owned = owned_by(belongs, &inodes, folder.path());
    // Verbs run on a host's own command line are not part of what they remove.
    let mut above = Some(std::process::id() as i32);
    while let Some(pid) = above {
        owned.retain(|process| process.pid != pid);
        above = stat(pid).map(|stat| stat.parent).filter(|parent| *parent > 1);
    }
    owned
}

/// A command line on one line. An argument may be a whole script.
fn shortened(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}\u{2026}", &line[..end]),
        None => line,
    }
}

fn namespaces(folder: &Folder) -> Vec<String> {
    network::namespaces(|run| run.belongs_to(folder))
}

fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("raplab") || name.starts_with("p-")).collect()
}

fn tables() -> Vec<String> {
    let root = nix::unistd::geteuid().is_root();
    let listed =
        if root { network::run("nft", &["list", "tables"]).unwrap_or_default() } else { String::new() };
    listed.lines().filter(|line| line.contains("raplab")).map(str::to_owned).collect()
}

/// Checks that nothing is left; the error lists what is.
pub fn check(folder: &Folder) -> Result<()> {
    let left = leftovers(folder);
    ensure!(left.is_empty(), "left of lab {}:\n{}", folder.lab(), left.lines().join("\n"));
    Ok(())
}

const ASK_DEADLINE: Duration = Duration::from_secs(8);
const KILL_DEADLINE: Duration = Duration::from_secs(10);
/// Characters of a command line that are shown.
const LONGEST: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_among_the_arguments_is_not_shown_whole() {
        assert_eq!(shortened("sleep 60"), "sleep 60");
        let script = format!("sh -c \ntrap '' INT\n{}", "echo \u{e4}\n".repeat(50));
        let shown = shortened(&script);
        assert!(shown.starts_with("sh -c trap '' INT echo") && shown.ends_with('\u{2026}'), "{shown}");
        assert_eq!((shown.chars().count(), shown.lines().count()), (LONGEST + 1, 1), "{shown}");
    }
}
