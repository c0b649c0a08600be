//! One run: a control plane, its nodes, the streams between them, what goes wrong, and the fabric on top.
//!
//! Owns the order of steps and what must hold after each. Everything follows from the seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rap_planner::{Delivery, Step};
use rap_trust::Input;
use rap_types::{Digest, Incarnation, Mono, NodeId, Now, Reason, Version, Wall};
use rap_wire::v1;
use v1::control_message::Body;

use crate::control::{Control, row};
use crate::events::{Counts, Event};
use crate::fabric::Fabric;
use crate::host::{Disk, Host, Reply};
use crate::require::require;

/// One node's stream: the control plane's side, and what is under way.
struct Stream {
    delivery: Delivery,
    to_host: VecDeque<Body>,
    to_control: VecDeque<Reply>,
    waits_since: Option<Mono>,
}

pub struct World {
    random: StdRng,
    now: Now,
    control: Control,
    hosts: BTreeMap<NodeId, Host>,
    streams: BTreeMap<NodeId, Stream>,
    next_number: u32,
    faults: bool,
    /// The data planes, and how many tables each of them was given.
    pub fabric: Fabric,
    given: BTreeMap<NodeId, u64>,
    /// As `given`, of the tables that were checked.
    checked: BTreeMap<NodeId, u64>,
}

impl World {
    pub fn new(seed: u64, nodes: u32) -> Result<Self> {
        let mut random = StdRng::seed_from_u64(seed);
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_800_000_000_000) };
        let rows = (1..=nodes).map(|number| row(number, organization(&mut random))).collect::<Vec<_>>();
        let control = Control::new(rows.clone(), now)?;
        let hosts = rows.iter().map(|row| (row.node, Host::new(row, &control, now))).collect();
        Ok(Self {
            random,
            now,
            control,
            hosts,
            streams: BTreeMap::new(),
            next_number: nodes + 1,
            faults: false,
            fabric: Fabric::new(StdRng::seed_from_u64(!seed), now),
            given: BTreeMap::new(),
            checked: BTreeMap::new(),
        })
    }

    /// Storms, and quiet after each. Adds what occurred to `counts`.
    pub fn run(&mut self, length: Duration, counts: &mut Counts) -> Result<()> {
        let ran = self.storms(length, counts);
        counts.merge(&self.fabric.counts);
        ran
    }

    fn storms(&mut self, length: Duration, counts: &mut Counts) -> Result<()> {
        self.settle(counts)?;
        let end = self.now.mono.plus(length);
        while self.now.mono.plus(STORM + QUIET) <= end || self.fabric.round == 0 {
            self.faults = true;
            self.fabric.begin_storm()?;
            self.fabric.choose_pairs();
            self.go_on(STORM, counts).context("storm")?;
            self.faults = false;
            self.fabric.end_storm()?;
            self.settle(counts)?;
            self.go_on(QUIET, counts).context("quiet")?;
            self.fabric.require_talk().context("at the end of the quiet")?;
        }
        Ok(())
    }

    fn go_on(&mut self, time: Duration, counts: &mut Counts) -> Result<()> {
        let end = self.now.mono.plus(time);
        while self.now.mono < end {
            self.step(counts)?;
        }
        Ok(())
    }

    /// Steps without faults until every node holds the newest version.
    fn settle(&mut self, counts: &mut Counts) -> Result<()> {
        // What a node refused, because its disk failed, is not sent again on the same stream.
        self.streams.clear();
        for _ in 0..SETTLING {
            if self.hosts.iter().all(|(node, host)| host.leaf() == self.control.published.leaf_hash(*node)) {
                return Ok(());
            }
            self.step(counts).context("settling")?;
        }
        let behind =
            self.hosts.iter().filter(|(node, host)| host.leaf() != self.control.published.leaf_hash(**node));
        require(false, || format!("{} nodes do not hold the newest version", behind.count()))
    }

    /// Gives data planes the tables that their nodes made, and lets the fabric go on to this instant.
    fn drive_fabric(&mut self) -> Result<()> {
        let gone: Vec<_> = self.given.keys().filter(|node| !self.hosts.contains_key(node)).copied().collect();
        for node in gone {
            self.given.remove(&node);
            self.fabric.remove(node);
        }
        for (node, host) in &self.hosts {
            if let Some(table) = &host.table
                && self.given.insert(*node, host.tables) != Some(host.tables)
            {
                let inbound = self.control.rows.nodes.iter().find(|row| row.node == *node);
                let inbound = inbound.is_some_and(|row| !row.link_endpoints.is_empty());
                self.fabric.apply(*node, &table.message(), inbound)?;
            }
        }
        self.fabric.advance(self.now)
    }

    fn step(&mut self, counts: &mut Counts) -> Result<()> {
        let passed = Duration::from_millis(self.random.random_range(100..1500));
        self.now = Now { mono: self.now.mono.plus(passed), wall: self.now.wall.plus(passed) };
        if self.faults {
            self.change(counts)?;
        }
        let mut moved = BTreeSet::new();
        for node in self.hosts.keys().copied().collect::<Vec<_>>() {
            if self.faults && self.random.random_bool(0.01) {
                self.disturb(node, counts)?;
                moved.insert(node);
            }
            self.push(node, counts)?;
            if self.random.random_bool(0.7) {
                self.deliver(node, counts)?;
                moved.insert(node);
            }
            self.answer(node, counts);
        }
        moved.into_iter().try_for_each(|node| self.check(node))?;
        self.drive_fabric()
    }

    /// At most one change of the rows.
    fn change(&mut self, counts: &mut Counts) -> Result<()> {
        let chosen = self.random.random_range(0..self.control.rows.nodes.len());
        let mut row = self.control.rows.nodes[chosen].clone();
        match self.random.random_range(0..30) {
            0 => {
                counts.add(Event::SharedChange);
                row.region = format!("r{}", self.random.random_range(0..3));
                self.control.publish(vec![row], None, self.now)
            }
            1 if !row.roles.is_empty() => {
                counts.add(Event::RelayDrained);
                // One in three at most.
                let draining = self.control.rows.nodes.iter().filter(|row| row.draining).count();
                let relays = self.control.rows.nodes.iter().filter(|row| !row.roles.is_empty()).count();
                row.draining = !row.draining && draining * 3 < relays;
                self.control.publish(vec![row], None, self.now)
            }
            2 => {
                counts.add(Event::PrivateChange);
                row.tags = vec![format!("t{}", self.random.random_range(0..1000))];
                self.control.publish(vec![row], None, self.now)
            }
            3 => {
                counts.add(Event::NodeAdded);
                let row = crate::control::row(self.next_number, organization(&mut self.random));
                self.next_number += 1;
                self.hosts.insert(row.node, Host::new(&row, &self.control, self.now));
                self.control.publish(vec![row], None, self.now)
            }
            4 if self.hosts.len() > 2 => {
                counts.add(Event::NodeRevoked);
                self.hosts.remove(&row.node);
                self.streams.remove(&row.node);
                self.control.publish(Vec::new(), Some(row.node), self.now)
            }
            5 => {
                counts.add(Event::HeadRefreshed);
                self.control.refresh(self.now)
            }
            _ => Ok(()),
        }
    }

    /// A node restarts or its stream is lost.
    fn disturb(&mut self, node: NodeId, counts: &mut Counts) -> Result<()> {
        self.streams.remove(&node);
        if self.random.random_bool(0.5) {
            counts.add(Event::StreamLost);
            return Ok(());
        }
        counts.add(Event::Restarted);
        self.hosts.get_mut(&node).map_or(Ok(()), |host| host.restart(self.now, counts))
    }

    /// The control plane's side of a stream decides what to send.
    fn push(&mut self, node: NodeId, counts: &mut Counts) -> Result<()> {
        let leaf = self.hosts.get(&node).and_then(Host::leaf);
        let stream = self.streams.entry(node).or_insert_with(|| Stream {
            delivery: Delivery::new(node, leaf),
            to_host: VecDeque::new(),
            to_control: VecDeque::new(),
            waits_since: None,
        });
        let waited = stream.waits_since.map(|since| self.now.mono.since(since)).unwrap_or_default();
        if waited > ACKNOWLEDGE {
            counts.add(Event::AckTimeout);
            self.streams.remove(&node);
            return Ok(());
        }
        match stream.delivery.next(&self.control.published, WINDOW, 0.5, self.now.mono) {
            Step::Send(body) => {
                counts.add(match &*body {
                    Body::Update(update) if update.full => Event::FullUpdate,
                    Body::Update(_) => Event::DeltaUpdate,
                    _ => Event::HeadSent,
                });
                if stream.delivery.waits() {
                    stream.waits_since = Some(self.now.mono);
                }
                stream.to_host.push_back(*body);
            }
            Step::WaitUntil(_) | Step::Idle => {}
            Step::LeftOut(_) | Step::Gone => {
                return require(false, || format!("node {node} is not in the plan"));
            }
        }
        Ok(())
    }

    /// The network brings a message to the node, or does something else with it.
    fn deliver(&mut self, node: NodeId, counts: &mut Counts) -> Result<()> {
        let (Some(stream), Some(host)) = (self.streams.get_mut(&node), self.hosts.get_mut(&node)) else {
            return Ok(());
        };
        if self.faults && stream.to_host.len() > 1 && self.random.random_bool(0.3) {
            counts.add(Event::Reordered);
            stream.to_host.swap(0, 1);
        }
        let Some(body) = stream.to_host.pop_front() else { return Ok(()) };
        if self.faults && self.random.random_bool(0.03) {
            counts.add(Event::Dropped);
            return Ok(());
        }
        if self.faults && self.random.random_bool(0.05) {
            counts.add(Event::Duplicated);
            stream.to_host.push_back(body.clone());
        }
        let disk = match self.random.random_range(0..100) {
            0 | 1 if self.faults => Disk::Fails,
            2 | 3 if self.faults => Disk::Lost,
            _ => Disk::Works,
        };
        let input = match body {
            Body::Update(update) => Input::Updated(update),
            Body::Head(head) => Input::HeadArrived(head),
            _ => return Ok(()),
        };
        match host.receive(input, disk, self.now, counts)? {
            Some(replies) => stream.to_control.extend(replies),
            None => drop(self.streams.remove(&node)),
        }
        Ok(())
    }

    /// The control plane hears what a node said.
    fn answer(&mut self, node: NodeId, counts: &mut Counts) {
        let Some(stream) = self.streams.get_mut(&node) else { return };
        while let Some(reply) = stream.to_control.pop_front() {
            if self.faults && self.random.random_bool(0.03) {
                counts.add(Event::Dropped);
                continue;
            }
            match reply {
                Reply::Ack(ack) => {
                    counts.add(Event::Acknowledged);
                    let said = (Incarnation(ack.incarnation), Version(ack.version));
                    if let Ok(leaf) = Digest::from_slice(&ack.leaf_hash) {
                        stream.delivery.acknowledged(leaf, said);
                    }
                }
                Reply::Nack(nack) => {
                    counts.add(Event::Refused);
                    let reason = Reason::from_code(&nack.reason).unwrap_or(Reason::SnapshotMalformed);
                    stream.delivery.refused(reason, nack.need_full, self.now.mono);
                }
            }
            if !stream.delivery.waits() {
                stream.waits_since = None;
            }
        }
    }

    /// What a node holds was published, is its own, and gives nobody who is out a place in its table.
    fn check(&mut self, node: NodeId) -> Result<()> {
        let Some(host) = self.hosts.get(&node) else { return Ok(()) };
        // What it holds and its table change together.
        if self.checked.insert(node, host.tables) == Some(host.tables) {
            return Ok(());
        }
        let Some(snapshot) = host.active() else { return Ok(()) };
        let order = snapshot.head().order;
        let plan =
            self.control.history.get(&order.version).with_context(|| format!("{order} was published"))?;
        let part = plan.nodes.get(&node).with_context(|| format!("{node} is in {order}"))?;
        require(snapshot.manifest().root() == part.manifest.root(), || {
            format!("node {node} holds another manifest than version {}", order.version.0)
        })?;
        let planned = |peer: &&NodeId| part.manifest.chunk(&rap_contract::peer_slot(**peer)).is_some();
        let expected: BTreeSet<NodeId> = plan.nodes.keys().filter(planned).copied().collect();
        let revoked = host.revoked();
        let expected: BTreeSet<NodeId> = expected.difference(&revoked).copied().collect();
        require(host.peers() == expected, || {
            format!("the table of node {node} has other peers than its scope in version {}", order.version.0)
        })
    }
}

fn organization(random: &mut StdRng) -> Option<u8> {
    random.random_bool(0.7).then(|| random.random_range(1..5))
}

/// As the control plane's.
const ACKNOWLEDGE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(5);
/// How long faults happen, and how long none does after them: a source tries again after at most a minute.
const STORM: Duration = Duration::from_secs(75);
const QUIET: Duration = Duration::from_secs(70);
/// Steps without faults within which every node holds the newest version.
const SETTLING: u32 = 120;
