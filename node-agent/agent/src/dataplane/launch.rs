//! How the data plane of one membership is started: its command line, or the settings of its unit.
//!
//! Owns names, arguments and settings. Refuses to start it: `crate::supervise` does.

use std::net::SocketAddr;
use std::path::PathBuf;

use rap_runtime::Fault;
use rap_types::Reason;

use crate::supervise::{NotStarted, Program, Unit};

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
    /// Folder of the file that bounds it. A unit names its own: what bounds it does not come from here.
    pub bounds_dir: PathBuf,
    /// True without a TUN device.
    pub no_tun: bool,
    /// Log filter.
    pub log: String,
}

impl Launch {
    /// Socket of the data plane.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("dataplane.sock")
    }

    /// The program with its command line. Its log goes to a file beside the socket.
    ///
    /// # Errors
    /// `dataplane.unavailable` if the agent's own file, beside which it lies, is not known.
    pub fn program(&self) -> Result<Program, Fault> {
        Ok(Program {
            path: self.path()?,
            arguments: self.arguments(),
            environment: vec![("RAP_LOG", self.log.clone())],
            log: self.folder().join("dataplane.log"),
        })
    }

    /// The unit that serves this membership, with ports and interface as its settings.
    pub fn unit(&self) -> Unit {
        Unit {
            name: format!("rap-dataplane@{}.service", self.membership),
            settings_file: self.folder().join("dataplane.env"),
            settings: self.settings(),
        }
    }

    fn path(&self) -> Result<PathBuf, Fault> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        let own = std::env::current_exe().map_err(Fault::of(Reason::DataplaneUnavailable))?;
        Ok(own.with_file_name("rap-dataplane"))
    }

    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments: Vec<std::ffi::OsString> = vec![
            "run".into(),
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
            "--bounds-dir".into(),
            self.bounds_dir.clone().into(),
        ];
        if self.no_tun {
            arguments.push("--no-tun".into());
        }
        arguments
    }

    /// Every value was checked with the configuration and has no white space.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("RAP_DATAPLANE_LINK_LISTEN", self.listen_link.to_string()),
            ("RAP_DATAPLANE_WIREGUARD_LISTEN", self.listen_wireguard.to_string()),
            ("RAP_DATAPLANE_INTERFACE", self.interface.clone()),
            ("RAP_DATAPLANE_NO_TUN", self.no_tun.to_string()),
        ];
        // A filter may have white space, which the unit's file would need quotes for.
        if !self.log.contains(|letter: char| letter.is_whitespace() || "\"'\\".contains(letter)) {
            settings.push(("RAP_LOG", self.log.clone()));
        }
        settings
    }

    /// Folder of the run-time files.
    pub(super) fn folder(&self) -> PathBuf {
        self.run_dir.join(&self.membership)
    }
}

/// The code of every failure to start it.
pub(super) fn unavailable(error: NotStarted) -> Fault {
    Fault::new(Reason::DataplaneUnavailable, error.0)
}

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
            bounds_dir: "/etc/rap/dataplane".into(),
            no_tun: true,
            log: "info".into(),
        };
        let arguments: Vec<_> = launch.arguments().into_iter().map(|a| a.into_string().unwrap()).collect();
        assert_eq!(
            arguments.join(" "),
            "run --membership default --run-dir /run/rap --link-listen 127.0.0.1:7443 \
             --wireguard-listen 127.0.0.1:51820 --interface rap0 --bounds-dir /etc/rap/dataplane --no-tun"
        );
    }

    #[test]
    fn the_unit_gets_ports_and_interface_of_its_membership() {
        let launch = Launch {
            program: None,
            membership: "office".into(),
            run_dir: "/run/rap".into(),
            listen_link: "[::]:7444".parse().unwrap(),
            listen_wireguard: "[::]:51821".parse().unwrap(),
            interface: "rap1".into(),
            bounds_dir: "/etc/rap/dataplane".into(),
            no_tun: false,
            log: "info,rap_mesh=debug".into(),
        };
        let unit = launch.unit();
        assert_eq!(unit.name, "rap-dataplane@office.service");
        assert_eq!(unit.settings_file, PathBuf::from("/run/rap/office/dataplane.env"));
        let lines: Vec<String> =
            unit.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "RAP_DATAPLANE_LINK_LISTEN=[::]:7444",
                "RAP_DATAPLANE_WIREGUARD_LISTEN=[::]:51821",
                "RAP_DATAPLANE_INTERFACE=rap1",
                "RAP_DATAPLANE_NO_TUN=false",
                "RAP_LOG=info,rap_mesh=debug",
            ]
        );
        let odd = Launch { log: "a b".into(), ..launch };
        assert!(odd.settings().iter().all(|(name, _)| *name != "RAP_LOG"));
    }
}
