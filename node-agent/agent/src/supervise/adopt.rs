//! Who serves a socket: the process that a later agent adopts instead of starting another.
//!
//! Owns the check that the process runs as our own user or as root, and what tells it from another process
//! with the same id. Refuses to speak to it.

use std::path::Path;

use tokio::net::UnixStream;

/// A process that serves a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// User of the process.
    pub uid: u32,
    /// Process id; 0 if the process is of another namespace.
    pub pid: i32,
    /// When it started, in clock ticks since the boot: with the id it names one process. `None` if it ended
    /// already.
    pub started: Option<u64>,
    /// The unit that it belongs to, if it is a service.
    pub unit: Option<String>,
}

impl Served {
    /// The process at the other end of a connection.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn by(stream: &UnixStream) -> std::io::Result<Self> {
        let peer = stream.peer_cred()?;
        let pid = peer.pid().unwrap_or(0);
        Ok(Self { uid: peer.uid(), pid, started: started(pid), unit: unit_of(pid) })
    }

    /// True if it runs as the agent's user or as root.
    pub fn is_ours(&self) -> bool {
        self.uid == nix::unistd::geteuid().as_raw() || self.uid == 0
    }

    /// True while this very process runs.
    pub fn is_alive(&self) -> bool {
        self.started.is_some() && started(self.pid) == self.started
    }
}

/// Field 22 of `/proc/PID/stat`. The name of the program, field 2, is in brackets and may hold any character.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // A zombie ended; nobody collected it yet.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The last part of the process's control group that is a service.
fn unit_of(pid: i32) -> Option<String> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let name = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::"))?).file_name()?.to_str()?;
    name.ends_with(".service").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_known_by_id_and_start_and_is_dead_once_it_ended() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = Served::by(&one).unwrap();
        assert_eq!(u32::try_from(own.pid).unwrap(), std::process::id());
        assert!(own.is_ours() && own.is_alive());
        assert!(
            !Served { started: own.started.map(|at| at + 1), ..own.clone() }.is_alive(),
            "same id, other process"
        );
        let mut child =
            std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let served = Served { pid, started: started(pid), ..own };
        assert!(served.is_alive());
        child.kill().unwrap();
        while served.is_alive() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!served.is_alive());
    }
}
