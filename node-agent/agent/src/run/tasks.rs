//! The tasks of one membership: what each reads and what each writes.
//!
//! Owns the table, which the document of this crate repeats. Refuses to own what a task does.

use rap_runtime::TaskGroup;
use tokio_util::sync::CancellationToken;

/// What the end of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs as long as the membership does. If it ends before, all others end with it.
    Critical,
    /// It runs as long as the membership does. The others go on without it.
    Dispensable,
    /// It is started for one request and ends with it.
    OnDemand,
}

/// A task of a membership.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) life: Life,
    /// Channels that it reads.
    pub(super) reads: &'static [&'static str],
    /// Channels that it writes.
    pub(super) writes: &'static [&'static str],
}

const fn task(
    name: &'static str,
    life: Life,
    reads: &'static [&'static str],
    writes: &'static [&'static str],
) -> Task {
    Task { name, life, reads, writes }
}

/// The driver: feeds the node's cores and carries out what they want.
pub(super) const DRIVER: Task = task(
    "driver",
    Life::Critical,
    &[
        "uplink_events",
        "dataplane_events",
        "certificates",
        "certificate_failure",
        "addresses",
        "resolved_names",
        "requests",
        "ping_ends",
        "written",
    ],
    &[
        "tables",
        "commands",
        "certificate_ready",
        "cluster_ca",
        "doubts",
        "pause",
        "stale_head",
        "wanted_names",
        "writes",
    ],
);
/// Writes what is to be on disk, one after the other.
pub(super) const PERSIST: Task = task("persist", Life::Critical, &["writes"], &["written"]);
/// Keeps the data plane in contact.
pub(super) const DATAPLANE: Task =
    task("dataplane", Life::Critical, &["tables", "commands"], &["dataplane_events"]);
/// Keeps a stream to the control plane.
pub(super) const UPLINK: Task =
    task("uplink", Life::Critical, &["certificate_ready", "pause", "stale_head"], &["uplink_events"]);
/// Keeps a certificate in force.
pub(super) const CERTIFICATES: Task =
    task("certificates", Life::Critical, &["cluster_ca", "doubts"], &["certificates", "certificate_failure"]);
/// Reads the addresses of the host's interfaces.
pub(super) const ADDRESSES: Task = task("addresses", Life::Dispensable, &[], &["addresses"]);
/// Looks up the names in the endpoints of peers.
pub(super) const NAMES: Task = task("names", Life::Dispensable, &["wanted_names"], &["resolved_names"]);
/// A ping that the control plane asked for.
pub(super) const DIAGNOSTIC: Task = task("diagnostic", Life::OnDemand, &[], &["commands", "ping_ends"]);
/// A ping that the local API asked for.
pub(super) const PING: Task = task("ping", Life::OnDemand, &[], &["commands"]);
/// Tells the control plane that this node leaves.
pub(super) const LEAVE: Task = task("leave", Life::OnDemand, &[], &[]);

impl Task {
    /// Starts it within the group of its membership.
    pub(super) fn spawn<F>(&self, group: &TaskGroup, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output: rap_runtime::tasks::Outcome> + Send + 'static,
    {
        tracing::debug!(task = self.name, reads = ?self.reads, writes = ?self.writes, "task starts");
        match self.life {
            Life::Critical => group.spawn_critical(self.name, run(group.token())),
            Life::Dispensable | Life::OnDemand => group.spawn(self.name, run(group.token())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::run::channels;

    const ALL: [&Task; 10] = [
        &DRIVER,
        &PERSIST,
        &DATAPLANE,
        &UPLINK,
        &CERTIFICATES,
        &ADDRESSES,
        &NAMES,
        &DIAGNOSTIC,
        &PING,
        &LEAVE,
    ];

    #[test]
    fn the_document_of_this_crate_has_every_task_with_its_channels() {
        let listed = |names: &[&str]| match names {
            [] => "-".to_owned(),
            names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" "),
        };
        let life = |life: Life| match life {
            Life::Critical => "critical",
            Life::Dispensable => "dispensable",
            Life::OnDemand => "on demand",
        };
        let rows: Vec<String> = ALL
            .iter()
            .map(|task| {
                let (reads, writes) = (listed(task.reads), listed(task.writes));
                format!("//! | {} | {} | {reads} | {writes} |", task.name, life(task.life))
            })
            .collect();
        let document = include_str!("../lib.rs");
        let found: Vec<&str> = document.lines().filter(|line| line.starts_with("//! | ")).skip(1).collect();
        assert_eq!(found, rows, "the table in lib.rs");
    }

    #[test]
    fn every_channel_has_one_reader_and_a_writer() {
        let made = include_str!("channels.rs").matches("::channel(").count();
        assert_eq!(made, channels::NAMES.len(), "channels that are made and channels that are named");
        let known: BTreeSet<&str> = channels::NAMES.into();
        for task in ALL {
            let named = task.reads.iter().chain(task.writes);
            assert!(named.clone().all(|name| known.contains(name)), "{task:?}");
        }
        for name in channels::NAMES {
            let readers = ALL.iter().filter(|task| task.reads.contains(&name)).count();
            // The local API is of the host and writes requests.
            let writers = ALL.iter().filter(|task| task.writes.contains(&name)).count();
            assert_eq!((readers, writers > 0 || name == "requests"), (1, true), "{name}");
        }
    }
}
