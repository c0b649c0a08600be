//! Starting a data plane so that it outlives the agent: a session of its own, no death signal.
//!
//! Owns the command line. Refuses to own its life: one that runs is adopted, never restarted.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rap_runtime::Fault;
use rap_runtime::files::create_private_dir;
use rap_types::Reason;

/// How to start the data plane of one membership.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Program; `None` for `rap-dataplane` beside the agent.
    pub program: Option<PathBuf>,
    /// Membership.
    pub membership: String,
    /// Directory of the memberships' run-time files.
    pub run_dir: PathBuf,
    /// Where it takes links.
    pub listen_link: SocketAddr,
    /// Where it takes WireGuard.
    pub listen_wireguard: SocketAddr,
    /// Name of its TUN interface.
    pub interface: String,
    /// True without a TUN device.
    pub no_tun: bool,
    /// Log filter.
    pub log: String,
}

impl Launch {
    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(&self.membership).join("dataplane.sock")
    }

    /// Starts it. Its log goes to a file beside the socket.
    ///
    /// # Errors
    /// `dataplane.unavailable`.
    pub fn start(&self) -> Result<Child, Fault> {
        let failed = |text: String| Fault::new(Reason::DataplaneUnavailable, text);
        let directory = self.run_dir.join(&self.membership);
        create_private_dir(&directory).map_err(|error| failed(error.to_string()))?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("dataplane.log"));
        let log = log.map_err(|error| failed(format!("{}: {error}", directory.display())))?;
        let program = self.program()?;
        let mut command = std::process::Command::new(&program);
        command.arg("run").args(self.arguments());
        command.env("RAP_LOG", &self.log).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        detach(&mut command);
        // The service manager's ear is for the agent's own words.
        for variable in OWN_VARIABLES {
            command.env_remove(variable);
        }
        command.spawn().map_err(|error| failed(format!("{}: {error}", program.display())))
    }

    fn program(&self) -> Result<PathBuf, Fault> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let own = std::env::current_exe()
            .map_err(|error| Fault::new(Reason::DataplaneUnavailable, error.to_string()))?;
        Ok(own.with_file_name("rap-dataplane"))
    }

    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments: Vec<std::ffi::OsString> = vec![
            "--membership".into(),
            self.membership.clone().into(),
            "--run-dir".into(),
            self.run_dir.clone().into(),
            "--link-listen".into(),
            self.listen_link.to_string().into(),
            "--wireguard-listen".into(),
            self.listen_wireguard.to_string().into(),
            "--interface".into(),
            self.interface.clone().into(),
        ];
        if self.no_tun {
            arguments.push("--no-tun".into());
        }
        arguments
    }
}

/// A session of its own: signals to the agent's terminal or group do not reach it.
#[allow(unsafe_code)]
fn detach(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let new_session = || match nix::unistd::setsid() {
        Ok(_) => Ok(()),
        Err(errno) => Err(errno.into()),
    };
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call,
    // without allocating or touching locks.
    unsafe { command.pre_exec(new_session) };
}

/// What a service manager gives to this process alone.
pub(super) const OWN_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_everything_and_carries_no_secret() {
        let launch = Launch {
            program: None,
            membership: "default".into(),
            run_dir: "/run/rap".into(),
            listen_link: "127.0.0.1:7443".parse().unwrap(),
            listen_wireguard: "127.0.0.1:51820".parse().unwrap(),
            interface: "rap0".into(),
            no_tun: true,
            log: "info".into(),
        };
        let arguments: Vec<_> = launch.arguments().into_iter().map(|a| a.into_string().unwrap()).collect();
        assert_eq!(
            arguments.join(" "),
            "--membership default --run-dir /run/rap --link-listen 127.0.0.1:7443 \
             --wireguard-listen 127.0.0.1:51820 --interface rap0 --no-tun"
        );
    }
}
