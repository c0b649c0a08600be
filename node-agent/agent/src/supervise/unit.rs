//! Starts a program as a service of its own.
//!
//! Owns the settings file that the unit reads and the one call to the service manager. Refuses to restart it:
//! the service manager does.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rap_runtime::files::{create_private_dir, write_atomic};
use tokio::process::Command;

use super::NotStarted;
use super::child::OWN_VARIABLES;

/// A unit of the service manager.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Name of the unit with suffix.
    pub name: String,
    /// File of `NAME=value` lines that the unit reads before it starts the program.
    pub settings_file: PathBuf,
    /// What is written there. Values have no white space and no quotes.
    pub settings: Vec<(&'static str, String)>,
}

impl Unit {
    /// Writes the settings and has the service manager start the unit; returns when it is ready.
    ///
    /// # Errors
    /// What the disk or the service manager says, in one line.
    pub async fn start(&self) -> Result<(), NotStarted> {
        let lines: String = self.settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let path = self.settings_file.clone();
        let written = tokio::task::spawn_blocking(move || {
            path.parent().map_or(Ok(()), |folder| create_private_dir(folder).map(drop))?;
            write_atomic(&path, lines.as_bytes(), 0o600)
        });
        written
            .await
            .map_err(|_| NotStarted("the settings of the unit were not written".to_owned()))?
            .map_err(|error| NotStarted(error.to_string()))?;
        let unit = &self.name;
        let mut command = Command::new(SERVICE_MANAGER);
        // An operator who stops or restarts the unit at this moment goes first.
        command.args(["start", "--job-mode=fail", unit]).stdin(Stdio::null()).kill_on_drop(true);
        for variable in OWN_VARIABLES {
            command.env_remove(variable);
        }
        let output = tokio::time::timeout(START_DEADLINE, command.output()).await;
        let output = output.map_err(|_| NotStarted(format!("{unit} did not start in time")))?;
        let output = output.map_err(|error| NotStarted(format!("{SERVICE_MANAGER}: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let one_line = |letter: char| if letter.is_control() { ' ' } else { letter };
        let said: String = said.trim().chars().map(one_line).take(300).collect();
        Err(NotStarted(format!("{unit}: {said}")))
    }
}

const SERVICE_MANAGER: &str = "systemctl";
const START_DEADLINE: Duration = Duration::from_secs(60);
