//! How a supervised program ended: its exit status if it was a child of this agent, and the fault it left behind.
//!
//! Owns the two sources. Refuses to judge: whoever supervises starts another or does not.

use std::fmt;
use std::path::Path;
use std::process::ExitStatus;

use rap_runtime::last_fault::{self, LastFault};

/// The end of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Process id on this host.
    pub pid: u32,
    /// Exit status; `None` if an earlier agent or the service manager started it.
    pub status: Option<ExitStatus>,
    /// What it wrote before it ended; `None` if it was killed or crashed.
    pub fault: Option<LastFault>,
}

impl Exit {
    /// The end of process `pid`, whose run-time files are in `folder`. Reads one small file.
    pub fn of(pid: u32, status: Option<ExitStatus>, folder: &Path) -> Self {
        Self { pid, status, fault: last_fault::read(folder, pid) }
    }

    /// The status as a person reads it; empty if it is not known.
    pub fn status_text(&self) -> String {
        self.status.map_or_else(String::new, |status| status.to_string())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status}")?,
            None => f.write_str("its status is not known")?,
        }
        match &self.fault {
            Some(fault) => write!(f, "; [{}] {}", fault.reason, fault.text),
            None => f.write_str("; it left no fault behind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rap_runtime::Fault;
    use rap_types::Reason;

    use super::*;

    #[test]
    fn an_end_has_its_status_and_the_fault_of_the_same_process() {
        let folder = tempfile::tempdir().unwrap();
        last_fault::write(folder.path(), &Fault::new(Reason::DataplaneUnavailable, "no device")).unwrap();
        let own = std::process::id();
        let status = std::process::Command::new("/bin/sh").args(["-c", "exit 3"]).status().unwrap();
        let exit = Exit::of(own, Some(status), folder.path());
        assert_eq!(exit.to_string(), "exit status: 3; [dataplane.unavailable] no device");
        let other = Exit::of(own + 1, None, folder.path());
        assert_eq!(other.to_string(), "its status is not known; it left no fault behind");
        assert_eq!((exit.status_text(), other.status_text()), ("exit status: 3".into(), String::new()));
    }
}
