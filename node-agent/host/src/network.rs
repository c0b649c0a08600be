//! One overlay interface on its host: what is wanted, what is there, what is held back and what was put right.
//!
//! Owns the order of changes. Nothing here fails an apply: what cannot be applied is a finding, and the rest is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use rap_hostnet::{Applied, Conflict, HostFacts, Missing, Present, PutRight, Settling, conflicts};
use rap_types::{Mono, Reason};
use tokio::sync::watch;

use crate::guard::Guard;
use crate::item::{Item, items};
use crate::observe::{Seen, observed};
use crate::record::Record;
use crate::requests;

/// Settings of one overlay interface.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// Its MTU.
    pub mtu: u16,
    /// File that says what outlives the process. Absent: nothing does, and there is no packet filter.
    pub record: Option<PathBuf>,
    /// Prefixes in which routes of the host do not hold the overlay back.
    pub allowed: Vec<IpNet>,
}

/// What is wanted on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostWanted {
    /// Own addresses, each with the prefix length of its pool.
    pub own: Vec<IpNet>,
    /// Prefixes of peers.
    pub prefixes: Vec<IpNet>,
    /// Addresses of the control plane.
    pub control: BTreeSet<IpAddr>,
}

/// Something that a person should know of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable code.
    pub reason: Reason,
    /// What it is about.
    pub text: String,
    /// True if the node does not do all that it should because of it.
    pub degrades: bool,
}

/// The overlay interface and what belongs to it.
pub struct HostNetwork {
    settings: HostSettings,
    wanted: HostWanted,
    /// The prefixes of `wanted`, for who watches the host.
    concerned: watch::Sender<Vec<IpNet>>,
    settling: Settling,
    target: Applied,
    /// What was added by this process, routes with their source.
    placed: BTreeMap<IpNet, Option<IpAddr>>,
    addresses: BTreeSet<IpAddr>,
    record: Record,
    refused: BTreeMap<Item, String>,
    put_right: PutRight,
    guard: Guard,
    retry: Option<Mono>,
}

impl HostNetwork {
    /// Takes the new interface and brings it up.
    ///
    /// # Errors
    /// The kernel refuses that.
    pub async fn set_up(settings: HostSettings) -> io::Result<Self> {
        if let Err(error) = requests::no_link_local(settings.index).await {
            tracing::debug!(%error, "no IPv6, or the interface gets a link-local address");
        }
        requests::set_up(settings.index, settings.mtu).await?;
        let record = settings.record.as_deref().map(Record::read).transpose().map_err(io::Error::other)?;
        Ok(Self {
            record: Record { interface: settings.interface.clone(), ..record.unwrap_or_default() },
            settings,
            wanted: HostWanted::default(),
            concerned: watch::Sender::default(),
            settling: Settling::default(),
            target: Applied::default(),
            placed: BTreeMap::new(),
            addresses: BTreeSet::new(),
            refused: BTreeMap::new(),
            put_right: PutRight::default(),
            guard: Guard::default(),
            retry: None,
        })
    }

    /// The prefixes that changes of the host are compared with.
    pub fn concerned(&self) -> watch::Receiver<Vec<IpNet>> {
        self.concerned.subscribe()
    }

    /// Adds what is wanted from now on and missing. What is wanted no more stays until [`Self::trim`].
    pub async fn extend(&mut self, wanted: HostWanted, now: Mono) {
        let before = self.prefixes();
        self.wanted = wanted;
        let prefixes = self.prefixes();
        self.concerned.send_replace(prefixes.clone());
        let Some(seen) = self.read().await else { return };
        // A pool that was not wanted before carries nothing that could be cut.
        let is_new = |conflict: &Conflict| !before.iter().any(|known| known.contains(&conflict.prefix));
        let found = self.conflicts(&seen.facts);
        self.settling.admit(found.iter().filter(|conflict| is_new(conflict)).cloned());
        self.settling.observe(found, now);
        self.retarget();
        self.write_record(true);
        self.load_guard().await;
        self.add(&self.missing(&seen.present)).await;
        self.schedule(now);
    }

    /// Removes what is wanted no more.
    pub async fn trim(&mut self, now: Mono) {
        let stale: Vec<IpNet> =
            self.placed.keys().filter(|route| !self.target.routes.contains(*route)).copied().collect();
        for route in &stale {
            self.removed("route", route, requests::remove_route(self.settings.index, *route).await);
            self.placed.remove(route);
        }
        let stale: Vec<IpAddr> = self.addresses.difference(&self.target.addresses).copied().collect();
        for address in &stale {
            self.removed("address", address, requests::remove_address(self.settings.index, *address).await);
            self.addresses.remove(address);
        }
        let stale: Vec<IpNet> = self.record.prefixes.difference(&self.target.routes).copied().collect();
        for prefix in &stale {
            self.removed("unreachable route", prefix, requests::remove_unreachable(*prefix).await);
        }
        self.write_record(false);
        // With an address the kernel removes routes that have it as their source.
        if let Some(seen) = self.read().await {
            self.add(&self.missing(&seen.present)).await;
        }
        self.schedule(now);
    }

    /// Looks at the host again, puts right what others changed, and follows conflicts. True if what is held back
    /// changed.
    pub async fn look(&mut self, now: Mono) -> bool {
        let Some(seen) = self.read().await else { return false };
        let found = self.conflicts(&seen.facts);
        let changed = self.settling.observe(found, now);
        if changed {
            self.retarget();
            self.write_record(true);
            self.load_guard().await;
            self.add(&self.missing(&seen.present)).await;
            self.trim(now).await;
        } else {
            self.correct(&seen.present, now).await;
        }
        self.schedule(now);
        changed
    }

    /// When to look again although nothing was heard.
    pub fn due(&self) -> Option<Mono> {
        self.settling.due().into_iter().chain(self.retry).min()
    }

    /// The parts of wanted prefixes that are not applied.
    pub fn held(&self) -> Vec<IpNet> {
        let held = self.settling.counting().filter(|conflict| conflict.holds_back());
        held.map(|conflict| conflict.prefix).collect()
    }

    /// What a person should know.
    pub fn findings(&self) -> Vec<Finding> {
        let conflicts = self.settling.counting().map(|conflict| Finding {
            reason: if conflict.holds_back() {
                Reason::OverlayHostConflict
            } else {
                Reason::OverlayShadowsRoute
            },
            text: conflict.to_string(),
            degrades: conflict.holds_back() && self.cuts(&conflict.prefix),
        });
        let contested = self.put_right.is_contested().then(|| Finding {
            reason: Reason::InterfaceContested,
            text: format!(
                "{}: somebody else changes it again and again; it is left as it is",
                self.settings.interface
            ),
            degrades: true,
        });
        let refused = self.refused.iter().map(|(item, why)| Finding {
            reason: Reason::InterfaceIncomplete,
            text: format!("{}: {item} not applied: {why}", self.settings.interface),
            degrades: !self.is_without_ipv6(item),
        });
        let guard = self.guard.failure().map(|why| Finding {
            reason: Reason::HostnetNoNft,
            text: format!("overlay addresses are open to the host's neighbours: {why}"),
            degrades: false,
        });
        conflicts.chain(contested).chain(refused).chain(guard).collect()
    }

    /// Whether the packet filter is still the one that was loaded; loads it again if not. Others replace all rules at
    /// once, for example when a firewall starts anew.
    pub async fn look_at_guard(&mut self, now: Mono) {
        if self.guard.is_changed().await && self.put_right.may_correct(now) {
            tracing::warn!(interface = self.settings.interface, "the packet filter was changed: put right");
            self.guard.load_again().await;
        }
    }

    fn prefixes(&self) -> Vec<IpNet> {
        Applied::wanted(&self.wanted.own, &self.wanted.prefixes)
    }

    async fn read(&self) -> Option<Seen> {
        let seen = observed(&self.prefixes(), &self.settings.interface, self.settings.index).await;
        let unread = |error: &io::Error| tracing::warn!(%error, "the host's network cannot be read");
        seen.inspect_err(unread).ok()
    }

    fn conflicts(&self, facts: &HostFacts) -> Vec<Conflict> {
        let facts = HostFacts { control: self.wanted.control.clone(), ..facts.clone() };
        conflicts(&self.prefixes(), &facts, &self.settings.allowed)
    }

    /// What is wanted and not there.
    fn missing(&self, present: &Present) -> Missing {
        let mut missing = self.target.missing(present);
        if self.settings.record.is_none() {
            missing.unreachable.clear();
        }
        missing
    }

    fn retarget(&mut self) {
        self.target = Applied::of(&self.wanted.own, &self.wanted.prefixes, self.settling.counting());
        self.refused.clear();
        for conflict in self.settling.counting() {
            tracing::info!(class = ?conflict.class, %conflict, "conflict with the host's network");
        }
    }

    /// Puts right what others changed. What the kernel refused before is tried again, and is nobody's change.
    async fn correct(&mut self, present: &Present, now: Mono) {
        let missing = self.missing(present);
        if missing.is_empty() {
            self.refused.clear();
            return self.put_right.is_right();
        }
        let changed = items(&missing).any(|item| !self.refused.contains_key(&item));
        if changed {
            if !self.put_right.may_correct(now) {
                return;
            }
            tracing::warn!(
                interface = self.settings.interface,
                ?missing,
                "changed by somebody else: put right"
            );
        }
        self.add(&missing).await;
    }

    async fn add(&mut self, missing: &Missing) {
        let index = self.settings.index;
        self.refused.retain(|item, _| items(missing).any(|other| other == *item));
        if missing.down {
            let done = requests::set_up(index, self.settings.mtu).await;
            self.note(Item::Up, done);
        }
        for prefix in &missing.unreachable {
            let done = requests::add_unreachable(*prefix).await;
            self.note(Item::Unreachable(*prefix), done);
        }
        for address in &missing.addresses {
            let done = requests::add_address(index, *address).await;
            if self.note(Item::Address(*address), done) {
                self.addresses.insert(*address);
            }
        }
        for route in &missing.routes {
            let source = self.target.source_of(route).filter(|source| self.addresses.contains(source));
            let done = requests::add_route(index, *route, source).await;
            if self.note(Item::Route(*route), done) {
                self.placed.insert(*route, source);
            }
        }
    }

    /// True if it is there now.
    fn note(&mut self, item: Item, done: io::Result<()>) -> bool {
        match done {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let why = if self.is_ipv6_off() && item.is_ipv6() {
                    "IPv6 is switched off on this host".to_owned()
                } else {
                    error.to_string()
                };
                if self.refused.insert(item, why.clone()).is_none() {
                    tracing::warn!(interface = self.settings.interface, %item, error = why, "not applied");
                }
                false
            }
            _ => {
                self.refused.remove(&item);
                true
            }
        }
    }

    fn removed(&self, what: &str, which: impl std::fmt::Display, done: io::Result<()>) {
        match done {
            Err(error) if !is_absent(&error) => {
                tracing::warn!(interface = self.settings.interface, what, %which, %error, "not removed");
            }
            _ => {}
        }
    }

    /// Written before anything is added, so that nothing is ever on the host that the record does not name.
    fn write_record(&mut self, keep: bool) {
        let Some(path) = &self.settings.record else { return };
        let mut prefixes = self.target.routes.clone();
        if keep {
            prefixes.extend(&self.record.prefixes);
        }
        let record = Record { prefixes, interface: self.settings.interface.clone() };
        if let Err(error) = record.write(path) {
            tracing::warn!(%error, "what outlives this process cannot be written down");
        }
        self.record = record;
    }

    async fn load_guard(&mut self) {
        if self.settings.record.is_some() {
            self.guard.load(&self.settings.interface, &self.target).await;
        }
    }

    fn schedule(&mut self, now: Mono) {
        self.retry = (!self.refused.is_empty()).then(|| Mono(now.0 + RETRY.as_nanos() as u64));
    }

    /// True if traffic of this node is lost when the part is held back.
    fn cuts(&self, part: &IpNet) -> bool {
        let own = self.wanted.own.iter().map(|own| IpNet::from(own.addr()));
        own.chain(self.wanted.prefixes.iter().copied()).any(|prefix| rap_hostnet::share(&prefix, part))
    }

    fn is_without_ipv6(&self, item: &Item) -> bool {
        item.is_ipv6() && self.is_ipv6_off()
    }

    fn is_ipv6_off(&self) -> bool {
        let path = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.settings.interface);
        std::fs::read_to_string(path).map_or(true, |text| text.trim() == "1")
    }
}

/// The kernel's word for what is not there any more.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ESRCH | nix::libc::EADDRNOTAVAIL | nix::libc::ENODEV))
}

/// How often what the kernel refused is tried again.
const RETRY: Duration = Duration::from_secs(5);
