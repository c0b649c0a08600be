//! The memberships of one host: starts each in a task group of its own, starts it again if it fails, and
//! lets it go when it leaves.
//!
//! Owns their order and isolation: what fails in one ends nothing of another. Refuses to own what a
//! membership does.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_runtime::{Clock, Fault, TaskGroup, Watchdog};
use rap_state::{MembershipDir, MembershipName};
use rap_types::{Mono, Reason};
use serde_json::Map;
use tokio::sync::mpsc;

use super::{rotate_keys, start};
use crate::blocking::blocking;
use crate::config::Config;
use crate::dataplane::DataplaneCommand;
use crate::host::{Directory, Entry, HostClaims, HostEvent, HostHandle, absent};
use crate::membership::{HostAllocations, Wanted, allocation_facts, read_allocation, sweep};
use crate::requests::ask;

/// The memberships of this host.
pub struct Host {
    config: Config,
    directory: Directory,
    claims: HostClaims,
    group: TaskGroup,
    watchdog: Watchdog,
    lives: BTreeMap<String, Life>,
    events: mpsc::Sender<HostEvent>,
    heard: mpsc::Receiver<HostEvent>,
    clock: Clock,
    next_start: u64,
}

/// One membership, running or waiting to be tried again.
#[derive(Default)]
struct Life {
    start: u64,
    began: Mono,
    failures: u32,
    said: Option<Reason>,
    rotated: Option<Mono>,
    running: Option<(TaskGroup, mpsc::Sender<DataplaneCommand>)>,
}

impl Host {
    /// A host without memberships. Tasks belong to `group`; `watchdog` hears of each membership's turns.
    pub fn new(config: Config, group: TaskGroup, watchdog: Watchdog) -> Self {
        let (events, heard) = mpsc::channel(16);
        Self {
            config,
            directory: Directory::default(),
            claims: HostClaims::default(),
            group,
            watchdog,
            lives: BTreeMap::new(),
            events,
            heard,
            clock: Clock::new(),
            next_start: 1,
        }
    }

    /// Who runs here.
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// A way to this host.
    pub fn handle(&self) -> HostHandle {
        HostHandle::new(self.events.clone())
    }

    /// Starts every membership in the data directory, the one that came first to this host first: where
    /// two want the same addresses, it is the one that runs.
    ///
    /// # Errors
    /// An error of the data directory.
    pub async fn start_all(&mut self) -> Result<(), Fault> {
        let data = self.config.data_dir.clone();
        let names = blocking(move || {
            if let Err(fault) = sweep(&data) {
                tracing::warn!(reason = %fault.reason, error = %fault, "a removal that was cut off could not be ended");
            }
            let names = MembershipDir::list(&data)?;
            let numbers = if names.is_empty() { Vec::new() } else { numbered(&data) };
            let number = |name: &MembershipName| {
                let found = numbers.iter().find(|(numbered, _)| numbered == name);
                found.map_or(u16::MAX, |(_, number)| *number)
            };
            let mut names = names;
            names.sort_by_key(|name| (number(name), name.clone()));
            Ok(names)
        });
        for name in names.await? {
            self.start(&name).await;
        }
        Ok(())
    }

    /// The next thing that happened.
    pub async fn next(&mut self) -> Option<HostEvent> {
        self.heard.recv().await
    }

    /// Carries out what an event asks for.
    pub async fn handle_event(&mut self, event: HostEvent) {
        match event {
            HostEvent::Load(name, reply) => {
                let loaded = self.load(&name).await;
                // The caller may have stopped waiting, here and below.
                let _ = reply.send(loaded);
            }
            HostEvent::Unload(name, reply) => drop(reply.send(self.unload(&name).await)),
            HostEvent::Rotate(name, wanted, reply) => {
                let by_hand = reply.is_some();
                let rotated = self.rotate(&name, wanted, by_hand).await;
                if let Err(fault) = &rotated {
                    tracing::warn!(membership = name, reason = %fault.reason, error = %fault, "keys were not replaced");
                }
                drop(reply.map(|reply| reply.send(rotated)));
            }
            HostEvent::Ended(name, start) => self.ended(&name, start).await,
            HostEvent::Retry(name, start) => {
                let waits = self.lives.get(&name).is_some_and(|life| life.start == start);
                if let (true, Ok(name)) = (waits, MembershipName::new(&name)) {
                    self.start(&name).await;
                }
            }
        }
    }

    async fn load(&mut self, name: &str) -> Result<(), Fault> {
        let name = MembershipName::new(name)?;
        if self.directory.is_running(name.as_str()) {
            return Ok(());
        }
        self.lives.remove(name.as_str());
        self.start(&name).await;
        match self.directory.failure(name.as_str()) {
            Some(fault) => Err(fault),
            None if self.directory.is_running(name.as_str()) => Ok(()),
            None => Err(absent()),
        }
    }

    /// Tries to start a membership; a failure is shown and tried again later.
    async fn start(&mut self, name: &MembershipName) {
        let text = name.to_string();
        let start = self.next_start;
        self.next_start += 1;
        let beat = self.watchdog.part(text.as_str());
        let claim = self.claims.of(&text);
        let started = start::start(&self.config, name.clone(), claim, &self.group, beat, self.handle()).await;
        let life = self.lives.entry(text.clone()).or_default();
        (life.start, life.began) = (start, self.clock.now().mono);
        match started {
            Ok(started) => {
                tracing::info!(membership = text, place = started.allocation.number, "membership runs");
                life.said = None;
                self.directory.set(&text, Entry { facts: started.facts, state: Ok(started.requests) });
                let (token, events) = (started.tasks.token(), self.events.clone());
                life.running = Some((started.tasks, started.commands));
                self.group.spawn("membership-end", async move {
                    token.cancelled().await;
                    // Without a listener the agent ends, too.
                    let _ = events.send(HostEvent::Ended(text, start)).await;
                });
            }
            Err(fault) if matches!(fault.reason, Reason::EnrollmentPending | Reason::MembershipAbsent) => {
                tracing::info!(membership = text, "the join is not finished; membership not started");
                self.lives.remove(&text);
                self.directory.remove(&text);
            }
            Err(fault) => self.failed(&text, fault),
        }
    }

    /// A failing membership is shown as stopped and tried again after a growing pause. The others do not
    /// notice.
    fn failed(&mut self, name: &str, fault: Fault) {
        let life = self.lives.entry(name.to_owned()).or_default();
        life.failures = life.failures.saturating_add(1);
        let pause = (FIRST_RETRY * (1 << (life.failures - 1).min(6))).min(LAST_RETRY);
        if life.said != Some(fault.reason) {
            life.said = Some(fault.reason);
            let reason = fault.reason;
            tracing::error!(membership = name, %reason, error = %fault, ?pause, "membership does not run");
        }
        let facts = self.stopped_facts(name);
        self.directory.set(name, Entry { facts, state: Err(fault) });
        let (events, token) = (self.events.clone(), self.group.token());
        let (name, start) = (name.to_owned(), self.lives.get(name).map_or(0, |life| life.start));
        self.group.spawn("membership-retry", async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = tokio::time::sleep(pause) => drop(events.send(HostEvent::Retry(name, start)).await),
            }
        });
    }

    fn stopped_facts(&self, name: &str) -> Map<String, serde_json::Value> {
        match read_allocation(&self.config.data_dir.join(name)) {
            Ok(Some(allocation)) => allocation_facts(&self.config, &allocation),
            _ => Map::new(),
        }
    }

    async fn ended(&mut self, name: &str, start: u64) {
        let current = self.lives.get_mut(name).filter(|life| life.start == start);
        let Some((tasks, _)) = current.and_then(|life| life.running.take()) else { return };
        if self.group.token().is_cancelled() {
            return;
        }
        let drained = tasks.shutdown(DRAIN).await;
        let cause =
            drained.failure.map_or_else(|| "its tasks ended".to_owned(), |failure| failure.to_string());
        if let Some(life) = self.lives.get_mut(name) {
            let lived = self.clock.now().mono.since(life.began);
            if lived > LONG_LIFE {
                life.failures = 0;
            }
        }
        self.failed(name, Fault::new(Reason::StateIo, cause));
    }

    /// Stops the membership's tasks, not its data plane, replaces keys, and starts it with what it then has.
    async fn rotate(&mut self, name: &str, wanted: Wanted, by_hand: bool) -> Result<u64, Fault> {
        let now = self.clock.now().mono;
        let life = self.lives.get_mut(name).ok_or_else(absent)?;
        let again_at = life.rotated.map(|at| at.plus(ROTATE_AGAIN));
        if !by_hand && again_at.is_some_and(|at| now < at) {
            return Err(Fault::new(Reason::RateLimited, "keys were replaced, or could not be, a moment ago"));
        }
        life.rotated = Some(now);
        let name = MembershipName::new(name)?;
        if let Some((tasks, _)) = life.running.take() {
            tasks.shutdown(DRAIN).await;
        }
        let rotated = rotate_keys::rotate(&self.config, &name, wanted).await;
        self.start(&name).await;
        if rotated.is_ok() {
            let Wanted { identity, wireguard } = wanted;
            tracing::info!(membership = %name, identity, wireguard, "keys were replaced");
        }
        rotated
    }

    async fn unload(&mut self, name: &str) -> Result<(), Fault> {
        let life = self.lives.remove(name);
        if life.is_none() && self.directory.failure(name).is_none() {
            return Err(absent());
        }
        if let Some((tasks, commands)) = life.and_then(|life| life.running) {
            let stop = ask(&commands, DataplaneCommand::Stop);
            if tokio::time::timeout(STOP_WAIT, stop).await.ok().flatten().is_none() {
                tracing::warn!(
                    membership = name,
                    "its data plane did not answer; nothing keeps it but its deadlines"
                );
            }
            tasks.shutdown(DRAIN).await;
        }
        self.directory.remove(name);
        self.claims.release(name);
        tracing::info!(membership = name, "membership unloaded");
        Ok(())
    }
}

/// The memberships that have an allocation, with its number. Without access to the lock nobody is first.
fn numbered(data: &std::path::Path) -> Vec<(MembershipName, u16)> {
    match HostAllocations::open(data).and_then(|allocations| allocations.all()) {
        Ok(all) => all.into_iter().map(|(name, allocation)| (name, allocation.number)).collect(),
        Err(fault) => {
            tracing::warn!(reason = %fault.reason, error = %fault, "host allocations are not readable");
            Vec::new()
        }
    }
}

const DRAIN: Duration = Duration::from_secs(5);
const STOP_WAIT: Duration = Duration::from_secs(5);
const ROTATE_AGAIN: Duration = Duration::from_secs(60);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
const LONG_LIFE: Duration = Duration::from_secs(300);
