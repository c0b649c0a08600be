//! One data plane process. It is killed and its folder removed when dropped.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::{Agent, until};

pub const MEMBERSHIP: &str = "test";

pub struct DataPlane {
    pub child: Child,
    pub folder: PathBuf,
}

impl DataPlane {
    /// Without TUN, on an address of its own; waits until it listens.
    pub fn start(run_dir: &tempfile::TempDir, ip: IpAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rap-dataplane"));
        Self::start_as(command.args(arguments(run_dir, ip)).arg("--no-tun"), run_dir)
    }

    /// With a command that ends up as the data plane.
    pub fn start_as(command: &mut Command, run_dir: &tempfile::TempDir) -> Self {
        let folder = run_dir.path().join(MEMBERSHIP);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let mut plane = Self { child, folder };
        let (lock, pid) = (plane.folder.join("dataplane.lock"), format!("{}\n", plane.child.id()));
        until("the data plane listens", || {
            assert_eq!(plane.child.try_wait().unwrap(), None, "ended early");
            // A socket of a killed process may still be there; the lock file names the present one.
            let ours = std::fs::read_to_string(&lock).is_ok_and(|text| text == pid);
            (ours && std::os::unix::net::UnixStream::connect(plane.socket()).is_ok()).then_some(())
        });
        plane
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("dataplane.sock")
    }

    /// An agent of the release before: it speaks protocol 1 only.
    pub fn agent(&self) -> Agent {
        Agent::control(&self.socket(), MEMBERSHIP, 1)
    }

    /// An agent of this release.
    pub fn new_agent(&self) -> Agent {
        Agent::control(&self.socket(), MEMBERSHIP, 2)
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().unwrap())
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        // Already ended in some tests.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What every test's process is started with.
pub fn arguments(run_dir: &tempfile::TempDir, ip: IpAddr) -> Vec<String> {
    vec![
        "run".to_owned(),
        format!("--membership={MEMBERSHIP}"),
        format!("--run-dir={}", run_dir.path().display()),
        format!("--link-listen={ip}:7443"),
        format!("--wireguard-listen={ip}:51820"),
    ]
}
