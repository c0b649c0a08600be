//! The folder of a membership: made private, locked against a second data plane, with the socket in it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rap_runtime::{Fault, files, last_fault};
use rap_types::Reason;

/// This process is the membership's data plane for as long as it holds this.
#[derive(Debug)]
pub(crate) struct Claim {
    socket: PathBuf,
    _lock: Flock<File>,
}

impl Claim {
    /// Takes the folder `run_dir/membership` and listens in it.
    pub(crate) fn take(run_dir: &Path, membership: &str) -> Result<(Self, UnixListener), Fault> {
        let folder = run_dir.join(membership);
        files::create_private_dir(&folder)?;
        let path = folder.join(LOCK);
        let mut lock = lock(&path)?;
        write_pid(&mut lock).map_err(at(&path))?;
        last_fault::clear(&folder).map_err(at(&folder))?;
        // Whoever holds the lock owns the socket: one that is there belonged to a process that is gone.
        let socket = folder.join(SOCKET);
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&socket)(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&socket).map_err(at(&socket))?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).map_err(at(&socket))?;
        Ok((Self { socket, _lock: lock }, listener))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The lock file stays: unlinking it would let two processes lock two files of one name.
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::warn!(socket = %self.socket.display(), %error, "socket not removed");
        }
    }
}

/// Whether a data plane runs for the membership.
pub(crate) fn is_taken(run_dir: &Path, membership: &str) -> Result<bool, Fault> {
    let path = run_dir.join(membership).join(LOCK);
    if !path.exists() {
        return Ok(false);
    }
    match lock(&path) {
        Ok(_) => Ok(false),
        Err(fault) if fault.reason == Reason::DataplaneBusy => Ok(true),
        Err(fault) => Err(fault),
    }
}

fn lock(path: &Path) -> Result<Flock<File>, Fault> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match Flock::lock(file.map_err(at(path))?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => {
            let text = format!("{}: held by another data plane", path.display());
            Err(Fault::new(Reason::DataplaneBusy, text))
        }
        Err((_, errno)) => Err(at(path)(errno.into())),
    }
}

/// For people; nothing reads it.
fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Fault + '_ {
    move |error| Fault::new(Reason::StateIo, format!("{}: {error}", path.display()))
}

const LOCK: &str = "dataplane.lock";
const SOCKET: &str = "dataplane.sock";

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn one_claim_at_a_time_in_a_private_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_taken(dir.path(), "m").unwrap());
        let (claim, _listener) = Claim::take(dir.path(), "m").unwrap();
        let folder = dir.path().join("m");
        assert_eq!((mode(&folder), mode(&folder.join(SOCKET))), (0o700, 0o600));
        assert!(is_taken(dir.path(), "m").unwrap());
        assert_eq!(Claim::take(dir.path(), "m").unwrap_err().reason, Reason::DataplaneBusy);
        Claim::take(dir.path(), "other").unwrap();
        drop(claim);
        assert!(!folder.join(SOCKET).exists());
        Claim::take(dir.path(), "m").unwrap();
    }

    #[test]
    fn a_socket_left_by_a_killed_process_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("m")).unwrap();
        drop(UnixListener::bind(dir.path().join("m").join(SOCKET)).unwrap());
        let (_claim, listener) = Claim::take(dir.path(), "m").unwrap();
        std::os::unix::net::UnixStream::connect(listener.local_addr().unwrap().as_pathname().unwrap())
            .unwrap();
    }
}
