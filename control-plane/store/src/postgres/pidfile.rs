//! `postmaster.pid`: what an earlier server left, and whether the present one is ready.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PostgresError;
use super::socket::SOCKET_FILE;

/// How often a condition of another process is looked at again.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// How long an orphan may take over a fast, then an immediate shutdown.
const ORPHAN_FAST: Duration = Duration::from_secs(30);
const ORPHAN_IMMEDIATE: Duration = Duration::from_secs(10);

fn path(directory: &Path) -> PathBuf {
    directory.join("postmaster.pid")
}

/// True if the server with process id `pid` says that it takes connections.
pub(super) fn is_ready(directory: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(path(directory)) else { return false };
    let mut lines = text.lines();
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// The folder of the socket of the server that runs in `directory`.
pub(super) fn socket_directory(directory: &Path) -> Result<PathBuf, PostgresError> {
    let file = path(directory);
    let text = fs::read_to_string(&file).map_err(PostgresError::io("read", &file))?;
    in_socket_directory(&text).ok_or_else(|| PostgresError::NotReady("its pid file is not whole".to_owned()))
}

/// The fifth line; an older process of the server did not write so far.
fn in_socket_directory(text: &str) -> Option<PathBuf> {
    text.lines().nth(4).filter(|line| line.starts_with('/')).map(PathBuf::from)
}

/// Clears the way for a new server: stops one that outlived its control plane, and removes what one
/// that did not left lying. Called with the directory's lock held, so no live control plane owns it.
pub(super) async fn clear_orphan(directory: &Path) -> Result<(), PostgresError> {
    let file = path(directory);
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PostgresError::io("read", &file)(error));
        }
        text => text.unwrap_or_default(),
    };
    let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid > 1);
    if let Some(pid) = pid
        && serves(pid, directory)
    {
        tracing::warn!(pid, "stopping a PostgreSQL server left by a killed control plane");
        stop_orphan(pid, directory).await?;
    }
    let socket = in_socket_directory(&text).map(|folder| folder.join(SOCKET_FILE));
    let lock = socket.as_ref().map(|socket| socket.with_extension("5432.lock"));
    for file in [Some(file), lock, socket].into_iter().flatten() {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PostgresError::io("remove", &file)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn stop_orphan(pid: i32, directory: &Path) -> Result<(), PostgresError> {
    for (signal, patience) in [(Signal::SIGINT, ORPHAN_FAST), (Signal::SIGQUIT, ORPHAN_IMMEDIATE)] {
        // The process may end between the look and the signal; then there is nothing to stop.
        let _ = kill(Pid::from_raw(pid), signal);
        let gone = async {
            while serves(pid, directory) {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(patience, gone).await.is_ok() {
            return Ok(());
        }
    }
    Err(PostgresError::NotReady(format!("process {pid} of an earlier start does not stop")))
}

/// True if `pid` is a live PostgreSQL for `directory`: by its command line, which everybody may read
/// and a moved directory changes, or by its working directory, which needs rights over the process. A
/// zombie has neither.
fn serves(pid: i32, directory: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let named = fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "postgres");
    let at_home = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == directory);
    let told = fs::read(process.join("cmdline")).is_ok_and(|line| {
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.windows(2).any(|pair| pair == [b"-D".as_slice(), directory.as_os_str().as_encoded_bytes()])
    });
    named && (told || at_home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_pid_file_naming_an_unrelated_process_is_removed_and_the_process_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let sockets = directory.path().join("sockets");
        fs::create_dir(&sockets).unwrap();
        let lock = sockets.join(".s.PGSQL.5432.lock");
        for file in [&path(directory.path()), &lock] {
            let folder = sockets.display();
            fs::write(file, format!("{}\n/elsewhere\n1\n5432\n{folder}\n", other.id())).unwrap();
        }
        clear_orphan(directory.path()).await.unwrap();
        assert!(!path(directory.path()).exists() && !lock.exists());
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn ready_needs_both_the_process_and_the_status() {
        let directory = tempfile::tempdir().unwrap();
        let file = |pid: u32, status: &str| format!("{pid}\n/d\n1\n5432\n/s\n\n 1 2\n{status}\n");
        fs::write(path(directory.path()), file(7, "starting")).unwrap();
        assert!(!is_ready(directory.path(), 7));
        fs::write(path(directory.path()), file(7, "ready   ")).unwrap();
        assert!(is_ready(directory.path(), 7));
        assert!(!is_ready(directory.path(), 8));
    }
}
