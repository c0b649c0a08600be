//! One host of a lab: calls and parts on it. Owns no namespace; it is made by the lab.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{Answer, Invocation, call, call_attached};
use crate::folder::Folder;
use crate::ledger::Ledger;
use crate::part::Part;
use crate::view::{VARIABLES, View};

/// One host.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    view: View,
    folder: Folder,
    ledger: Ledger,
}

impl Host {
    pub(crate) fn new(name: &str, address: Ipv4Addr, view: View, folder: &Folder, ledger: &Ledger) -> Self {
        Self { name: name.to_owned(), address, view, folder: folder.clone(), ledger: ledger.clone() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address in the lab's network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where a file of this host lives on the machine: `etc`, `lib`, `run` or `home`. With namespaces the host itself sees
    /// the first three as /etc/rap, /var/lib/rap and /run/rap.
    pub fn folder(&self, what: &str) -> PathBuf {
        self.folder.host(&self.name, what)
    }

    /// The same folder as the host's own processes name it.
    pub fn sees(&self, what: &str) -> PathBuf {
        self.view.sees(what).unwrap_or_else(|| self.folder(what))
    }

    /// Gives every later process of this host these variables.
    pub fn set_variables(&self, variables: &[(&str, &str)]) -> Result<Self> {
        let lines: String = variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let path = self.folder.host(&self.name, VARIABLES);
        std::fs::write(&path, lines).with_context(|| path.display().to_string())?;
        Ok(Self { view: self.view.clone().with_variables(&path), ..self.clone() })
    }

    /// Its view, to do something inside.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Calls a program and waits for its answer.
    pub fn run(&self, invocation: &Invocation, deadline: Duration) -> Result<Answer> {
        call(&self.view, invocation, deadline)
    }

    /// Calls a program with this process's own input and output and returns its exit status.
    pub fn attached(&self, invocation: &Invocation, deadline: Duration) -> Result<u8> {
        call_attached(&self.view, invocation, deadline)
    }

    /// Calls a command line as typed and expects exit 0.
    pub fn typed(&self, line: &str, deadline: Duration) -> Result<Answer> {
        self.run(&Invocation::typed(line)?, deadline)?.success()
    }

    /// Starts a program that goes on.
    pub fn spawn(&self, part: &str, invocation: &Invocation) -> Result<Part> {
        let part = Part::new(part, &self.view, &self.folder, &self.ledger);
        part.start(&self.name, invocation)?;
        Ok(part)
    }
}
