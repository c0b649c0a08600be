//! The record of what a lab made, on disk before it is used, so that another process can remove it. Owns lab.json.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::command::Invocation;
use crate::folder::Folder;
use crate::mode::Mode;
use crate::process::Process;
use crate::run_id::RunId;

/// What a lab made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// `rap.lab.record.v1`.
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// How hosts are made.
    pub mode: Mode,
    /// Hosts by name.
    pub hosts: BTreeMap<String, HostRecord>,
    /// Processes by part name.
    pub parts: BTreeMap<String, PartRecord>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// Its address in the lab's network.
    pub address: Ipv4Addr,
}

/// One started program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// Host it runs on.
    pub host: String,
    /// How it was started, to start it again.
    pub invocation: Invocation,
    /// The process; `None` once it was seen to have ended.
    pub process: Option<Process>,
}

/// The record and its lock.
#[derive(Debug, Clone)]
pub struct Ledger {
    folder: Folder,
}

impl Ledger {
    /// Starts the record of a new run; refuses to take over another's.
    pub fn create(folder: &Folder, run: &RunId, mode: Mode) -> Result<Self> {
        folder.make()?;
        let ledger = Self { folder: folder.clone() };
        let _lock = ledger.lock()?;
        ensure!(
            !folder.record().exists(),
            "lab {} is already up; remove it with `scripts/lab down {}`",
            run.lab(),
            run.lab()
        );
        let record = Record {
            schema: SCHEMA.to_owned(),
            run: run.clone(),
            mode,
            hosts: BTreeMap::new(),
            parts: BTreeMap::new(),
        };
        ledger.write(&record)?;
        Ok(ledger)
    }

    /// The record of a lab that is up.
    pub fn open(folder: &Folder) -> Result<Self> {
        ensure!(
            folder.record().exists(),
            "lab {} is not up ({} is missing): start it with scripts/quickstart, or scripts/lab up SCENARIO",
            folder.lab(),
            folder.path().display()
        );
        Ok(Self { folder: folder.clone() })
    }

    /// Reads the record.
    pub fn read(&self) -> Result<Record> {
        let path = self.folder.record();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let record: Record = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        ensure!(record.schema == SCHEMA, "{}: schema {} is not {SCHEMA}", path.display(), record.schema);
        Ok(record)
    }

    /// Changes the record under its lock.
    pub fn change<T>(&self, change: impl FnOnce(&mut Record) -> Result<T>) -> Result<T> {
        let _lock = self.lock()?;
        let mut record = self.read()?;
        let answer = change(&mut record)?;
        self.write(&record)?;
        Ok(answer)
    }

    fn lock(&self) -> Result<File> {
        let path = self.folder.lock();
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        file.lock().with_context(|| path.display().to_string())?;
        Ok(file)
    }

    fn write(&self, record: &Record) -> Result<()> {
        let (path, fresh) = (self.folder.record(), self.folder.record().with_extension("new"));
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)
            .with_context(|| fresh.display().to_string())?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        fs::rename(&fresh, &path).with_context(|| path.display().to_string())
    }
}

const SCHEMA: &str = "rap.lab.record.v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_does_not_take_over_the_first() {
        let base = tempfile::tempdir().expect("folder");
        let folder = Folder::at(base.path().join("x"));
        let absent = Ledger::open(&folder).expect_err("not up").to_string();
        assert!(absent.starts_with("lab x is not up") && absent.contains("scripts/quickstart"), "{absent}");
        let run = RunId::new(&folder).expect("run id");
        let ledger = Ledger::create(&folder, &run, Mode::Loopback).expect("first");
        assert!(Ledger::create(&folder, &RunId::new(&folder).expect("run id"), Mode::Loopback).is_err());
        assert_eq!(ledger.read().expect("record").run, run);
    }

    #[test]
    fn changes_from_many_threads_are_all_kept() {
        let base = tempfile::tempdir().expect("folder");
        let folder = Folder::at(base.path().join("x"));
        let ledger =
            Ledger::create(&folder, &RunId::new(&folder).expect("run id"), Mode::Loopback).expect("ledger");
        std::thread::scope(|scope| {
            for number in 0..16_u8 {
                let ledger = &ledger;
                scope.spawn(move || {
                    ledger.change(|record| {
                        let address = Ipv4Addr::new(127, 16, 0, number);
                        record.hosts.insert(format!("h{number}"), HostRecord { address });
                        Ok(())
                    })
                });
            }
        });
        assert_eq!(ledger.read().expect("record").hosts.len(), 16);
    }

    #[test]
    fn an_unknown_schema_is_refused() {
        let base = tempfile::tempdir().expect("folder");
        let folder = Folder::at(base.path().join("x"));
        let ledger =
            Ledger::create(&folder, &RunId::new(&folder).expect("run id"), Mode::Loopback).expect("ledger");
        let text = fs::read_to_string(folder.record()).expect("record").replace("record.v1", "record.v2");
        fs::write(folder.record(), text).expect("record");
        assert!(ledger.read().is_err());
    }
}
