//! Starting a data plane as a service of its own: `rap-dataplane@<membership>.service`.
//!
//! Owns the settings file the unit reads and the one call to the service manager. Refuses to own its life: systemd
//! restarts it, the agent adopts it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rap_runtime::Fault;
use rap_runtime::files::{create_private_dir, write_atomic};
use rap_types::Reason;
use tokio::process::Command;

use super::Launch;
use super::launch::OWN_VARIABLES;

impl Launch {
    /// The unit that serves this membership.
    pub fn unit(&self) -> String {
        format!("rap-dataplane@{}.service", self.membership)
    }

    /// What the unit reads before it starts the program: ports and interface of this membership.
    pub fn settings_file(&self) -> PathBuf {
        self.run_dir.join(&self.membership).join("dataplane.env")
    }

    /// Writes the settings and has the service manager start the unit; returns when it is ready.
    ///
    /// # Errors
    /// `dataplane.unavailable`.
    pub async fn start_unit(&self) -> Result<(), Fault> {
        let failed = |text: String| Fault::new(Reason::DataplaneUnavailable, text);
        let (path, settings) = (self.settings_file(), self.settings());
        let written = tokio::task::spawn_blocking(move || {
            path.parent().map_or(Ok(()), |folder| create_private_dir(folder).map(drop))?;
            write_atomic(&path, settings.as_bytes(), 0o600)
        });
        written
            .await
            .map_err(|_| failed("the settings of the unit were not written".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        let unit = self.unit();
        let mut command = Command::new(SERVICE_MANAGER);
        // An operator who stops or restarts the unit at this moment goes first.
        command.args(["start", "--job-mode=fail", &unit]).stdin(Stdio::null()).kill_on_drop(true);
        for variable in OWN_VARIABLES {
            command.env_remove(variable);
        }
        let output = tokio::time::timeout(START_DEADLINE, command.output()).await;
        let output = output.map_err(|_| failed(format!("{unit} did not start in time")))?;
        let output = output.map_err(|error| failed(format!("{SERVICE_MANAGER}: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let one_line = |letter: char| if letter.is_control() { ' ' } else { letter };
        let said: String = said.trim().chars().map(one_line).take(300).collect();
        Err(failed(format!("{unit}: {said}")))
    }

    /// Lines `NAME=value`; every value was checked with the configuration and has no white space.
    fn settings(&self) -> String {
        let mut lines = vec![
            format!("RAP_DATAPLANE_LINK_LISTEN={}", self.listen_link),
            format!("RAP_DATAPLANE_WIREGUARD_LISTEN={}", self.listen_wireguard),
            format!("RAP_DATAPLANE_INTERFACE={}", self.interface),
            format!("RAP_DATAPLANE_NO_TUN={}", self.no_tun),
        ];
        // A filter may have white space, which the unit's file would need quotes for.
        if !self.log.contains(|letter: char| letter.is_whitespace() || "\"'\\".contains(letter)) {
            lines.push(format!("RAP_LOG={}", self.log));
        }
        lines.join("\n") + "\n"
    }
}

const SERVICE_MANAGER: &str = "systemctl";
const START_DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_gets_ports_and_interface_of_its_membership() {
        let launch = Launch {
            program: None,
            membership: "office".into(),
            run_dir: "/run/rap".into(),
            listen_link: "[::]:7444".parse().unwrap(),
            listen_wireguard: "[::]:51821".parse().unwrap(),
            interface: "rap1".into(),
            no_tun: false,
            log: "info,rap_mesh=debug".into(),
        };
        assert_eq!(launch.unit(), "rap-dataplane@office.service");
        assert_eq!(launch.settings_file(), PathBuf::from("/run/rap/office/dataplane.env"));
        assert_eq!(
            launch.settings(),
            "RAP_DATAPLANE_LINK_LISTEN=[::]:7444\nRAP_DATAPLANE_WIREGUARD_LISTEN=[::]:51821\n\
             RAP_DATAPLANE_INTERFACE=rap1\nRAP_DATAPLANE_NO_TUN=false\nRAP_LOG=info,rap_mesh=debug\n"
        );
        let odd = Launch { log: "a b".into(), ..launch };
        assert!(!odd.settings().contains("RAP_LOG"));
    }
}
