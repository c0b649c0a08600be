//! systemd unit files as shipped. Owns reading the keys that start and stop a service; hardening keys are systemd's own affair and
//! are not acted on here.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The part of a service unit that the lab acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Other services that are started with it.
    pub wants: Vec<String>,
    /// Command line, specifiers replaced.
    pub start: String,
    /// Command lines before it.
    pub start_before: Vec<String>,
    /// True for `Type=notify`: started means it said READY=1.
    pub notifies: bool,
    /// When it is started again after its end.
    pub restart: Restart,
    /// `WatchdogSec=`: a service that says nothing for so long is ended and counts as failed.
    pub watchdog: Option<Duration>,
    /// `Environment=`.
    pub variables: BTreeMap<String, String>,
    /// `EnvironmentFile=`, with true if it may be absent.
    pub variable_files: Vec<(String, bool)>,
    /// Folders to make: state, runtime, configuration and log directories.
    pub folders: Vec<String>,
}

/// `Restart=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// After a failure or a signal.
    OnFailure,
    /// After every end.
    Always,
}

impl Unit {
    /// Reads the unit of a service (`name` or `name@instance`) from a folder of unit files.
    pub fn read(folder: &Path, service: &str) -> Result<Self> {
        let service = service.strip_suffix(".service").unwrap_or(service);
        let (file, instance) = match service.split_once('@') {
            Some((name, instance)) => (format!("{name}@.service"), instance),
            None => (format!("{service}.service"), ""),
        };
        let path = folder.join(&file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("Unit {file} not found"))?;
        Self::parse(&text, service, instance).with_context(|| path.display().to_string())
    }

    fn parse(text: &str, service: &str, instance: &str) -> Result<Self> {
        let mut unit = Self {
            wants: Vec::new(),
            start: String::new(),
            start_before: Vec::new(),
            notifies: false,
            restart: Restart::No,
            watchdog: None,
            variables: BTreeMap::new(),
            variable_files: Vec::new(),
            folders: Vec::new(),
        };
        let joined = text.replace("\\\n", " ");
        let mut section = "";
        for line in
            joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        {
            if line.starts_with('[') {
                section = line;
                continue;
            }
            let (key, value) = line.split_once('=').with_context(|| line.to_owned())?;
            let (key, value) = (key.trim(), value.trim());
            match (section, key) {
                ("[Service]", _) => unit.set(key, &specifiers(value, service, instance)?)?,
                ("[Unit]", "Wants" | "Requires") => {
                    let names = value.split_whitespace().filter(|name| name.ends_with(".service"));
                    unit.wants.extend(names.map(str::to_owned));
                }
                _ => {}
            }
        }
        ensure!(!unit.start.is_empty(), "no ExecStart=");
        Ok(unit)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "ExecStart" => self.start = value.to_owned(),
            "ExecStartPre" => self.start_before.push(value.to_owned()),
            "Type" => self.notifies = value.starts_with("notify"),
            "Restart" => {
                self.restart = match value {
                    "no" => Restart::No,
                    "on-failure" | "on-abnormal" => Restart::OnFailure,
                    "always" => Restart::Always,
                    other => bail!("Restart={other} is not known here"),
                }
            }
            "WatchdogSec" => {
                let seconds = value.parse().with_context(|| format!("WatchdogSec={value}"))?;
                self.watchdog = Some(Duration::from_secs(seconds));
            }
            "Environment" => {
                for pair in value.split_whitespace().map(|pair| pair.trim_matches('"')) {
                    let (name, value) = pair.split_once('=').with_context(|| pair.to_owned())?;
                    self.variables.insert(name.to_owned(), value.to_owned());
                }
            }
            "EnvironmentFile" => {
                let optional = value.starts_with('-');
                self.variable_files.push((value.trim_start_matches('-').to_owned(), optional));
            }
            "StateDirectory" => self.add_folders("/var/lib", value),
            "RuntimeDirectory" => self.add_folders("/run", value),
            "ConfigurationDirectory" => self.add_folders("/etc", value),
            _ => {}
        }
        Ok(())
    }

    fn add_folders(&mut self, below: &str, names: &str) {
        self.folders.extend(names.split_whitespace().map(|name| format!("{below}/{name}")));
    }
}

fn specifiers(text: &str, service: &str, instance: &str) -> Result<String> {
    let (mut replaced, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            replaced.push(letter);
            continue;
        }
        match letters.next() {
            Some('i' | 'I') => replaced.push_str(instance),
            Some('n') => replaced.push_str(&format!("{service}.service")),
            Some('t') => replaced.push_str("/run"),
            Some('S') => replaced.push_str("/var/lib"),
            Some('E') => replaced.push_str("/etc"),
            Some('%') => replaced.push('%'),
            other => bail!("specifier %{} is not known here", other.unwrap_or(' ')),
        }
    }
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
[Unit]
Description=A service
Wants=network-online.target other@x.service
[Service]
Type=notify
ExecStart=/usr/bin/rap-dataplane run \\
  --socket %t/rap/%i/dataplane.sock
Restart=on-failure
WatchdogSec=30
Environment=A=1 \"B=2\"
EnvironmentFile=-/etc/rap/x.env
StateDirectory=rap rap/agent
RuntimeDirectory=rap
ProtectSystem=strict
[Install]
WantedBy=multi-user.target
";

    #[test]
    fn the_keys_that_start_a_service_are_read() {
        let unit = Unit::parse(TEXT, "rap-dataplane@prod", "prod").expect("unit");
        let words: Vec<&str> = unit.start.split_whitespace().collect();
        assert_eq!(words, ["/usr/bin/rap-dataplane", "run", "--socket", "/run/rap/prod/dataplane.sock"]);
        assert!(unit.notifies);
        assert_eq!(unit.wants, ["other@x.service"]);
        assert_eq!(unit.restart, Restart::OnFailure);
        assert_eq!(unit.watchdog, Some(Duration::from_secs(30)));
        assert_eq!(unit.variables["B"], "2");
        assert_eq!(unit.variable_files, [("/etc/rap/x.env".to_owned(), true)]);
        assert_eq!(unit.folders, ["/var/lib/rap", "/var/lib/rap/agent", "/run/rap"]);
    }

    #[test]
    fn what_is_not_understood_is_refused_instead_of_guessed() {
        assert!(Unit::parse("[Service]\nType=simple\n", "x", "").is_err());
        assert!(Unit::parse("[Service]\nExecStart=/bin/x %H\n", "x", "").is_err());
        assert!(Unit::parse("[Service]\nExecStart=/bin/x\nRestart=on-watchdog\n", "x", "").is_err());
    }
}
