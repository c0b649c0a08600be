//! The life of a cluster's authority with every interleaving of operators, a node, its deaths and a
//! thief, up to three keys: the control plane's own table of steps beside the acceptor that nodes run.
//!
//! Nodes do not hear of authorities from each other, so one stands for all.

mod steps;
#[path = "../support/mod.rs"]
mod support;

use rap_authority::{AuthorityLife, AuthorityStep};
use rap_contract::{AuthorityChain, KeyState, Signer};
use rap_trust::{Acceptor, Floors, Input, Output, Pinned, StoredSnapshot};
use rap_types::{HeadOrder, Incarnation};
use rap_wire::v1;
use stateright::{Checker, Model, Property};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use support::{ISSUED, Published, World, at};
use v1::authority_record::Kind;

const KEYS: usize = 3;

const VERSIONS: u64 = 2;

/// Of a thief's heads: above every version there is.
const STOLEN_VERSION: u64 = 9;

/// A head: whose key signed it, in the incarnation of whose record, at which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Head {
    signer: usize,
    incarnation: usize,
    version: u64,
}

/// How each key after the first came in.
type Kinds = Vec<Kind>;

/// What one node's disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Disk {
    records: Kinds,
    /// Records that the floors know of.
    floors_know: usize,
    floors: Floors,
    stored: BTreeSet<Head>,
}

impl Hash for Disk {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.records, self.floors_know, format!("{:?}", self.floors), &self.stored).hash(state);
    }
}

/// The cluster as its database has it, and the disk of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Fabric {
    records: Kinds,
    life: AuthorityLife,
    version: u64,
    /// Newest record that the node confirmed, counted from 1.
    confirmed: u64,
    /// Seen within a day.
    seen: bool,
    disk: Disk,
}

/// What somebody tells the node.
#[derive(Debug, Clone, Default)]
struct Told {
    /// The records that whoever tells has; the node takes those after its own.
    records: Kinds,
    heads: Vec<Head>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    Operator(AuthorityStep),
    Publish,
    /// The node is away for more than a day.
    Away,
    /// The control plane and the node meet; the node dies after so many writes to its disk, if at all.
    Meet(Option<usize>),
    /// A replica, or a database, that is still of an earlier authority.
    MeetOld(usize),
    /// Somebody who holds a key that was replaced.
    Thief(Head),
}

/// What one meeting did to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Met {
    disk: Disk,
    active: Option<Head>,
    confirmed: Option<u64>,
    refused: bool,
}

struct Rotations {
    worlds: Vec<World>,
    heads: BTreeMap<Head, Published>,
    by_bytes: BTreeMap<Vec<u8>, Head>,
    chains: BTreeMap<Kinds, (AuthorityChain, Vec<Vec<u8>>)>,
    met: Mutex<BTreeMap<String, Met>>,
}

/// Incarnation that the record of a key starts.
fn incarnation(record: usize) -> u64 {
    (record as u64 * 10).max(1)
}

/// What a thief with a key can sign: something above every version, in any incarnation.
fn stolen_heads(signer: usize) -> impl Iterator<Item = Head> {
    (0..KEYS).map(move |incarnation| Head { signer, incarnation, version: STOLEN_VERSION })
}

fn only(head: Head) -> Told {
    Told { heads: vec![head], ..Told::default() }
}

impl Rotations {
    fn new() -> Self {
        let worlds: Vec<World> = (0..KEYS as u8)
            .map(|key| match key {
                0 => World::default(),
                _ => World { authority: Signer::from_seed(&[80 + key; 32]), ..World::default() },
            })
            .collect();
        let mut made = Self {
            heads: BTreeMap::new(),
            by_bytes: BTreeMap::new(),
            chains: BTreeMap::from([(Vec::new(), (worlds[0].chain(), worlds[0].authority_records()))]),
            met: Mutex::default(),
            worlds,
        };
        for signer in 0..KEYS {
            let own = (1..=VERSIONS).map(|version| Head { signer, incarnation: signer, version });
            for head in own.chain(stolen_heads(signer)) {
                made.publish(head);
            }
        }
        for length in 1..KEYS {
            let shorter: Vec<Kinds> =
                made.chains.keys().filter(|kinds| kinds.len() == length - 1).cloned().collect();
            for kinds in shorter {
                for kind in [Kind::Rotate, Kind::Recovery] {
                    made.extend(&kinds, kind);
                }
            }
        }
        made
    }

    fn publish(&mut self, head: Head) {
        let world = &self.worlds[head.signer];
        // A thief's version has other contents than any of the cluster's.
        let contents = world.contents(if head.version == STOLEN_VERSION { 3 } else { 2 });
        let order = HeadOrder::new(incarnation(head.incarnation), head.version, 0);
        let published = world.publish(order, &contents, ISSUED);
        self.by_bytes.insert(published.head.clone(), head);
        self.heads.insert(head, published);
    }

    fn extend(&mut self, kinds: &Kinds, kind: Kind) {
        let (chain, records) = &self.chains[kinds];
        let (before, next) = (&self.worlds[kinds.len()], &self.worlds[kinds.len() + 1]);
        let issuer = match kind {
            Kind::Recovery => &before.installation_authority,
            _ => &before.authority,
        };
        let signers = (issuer, &next.authority);
        let record = before.record(chain, kind, signers, incarnation(kinds.len() + 1));
        let vouching = before.installation_authority.public();
        let longer = chain.extended(&[&record], &vouching, &[]).unwrap();
        let records = [records.clone(), vec![record]].concat();
        self.chains.insert([kinds.clone(), vec![kind]].concat(), (longer, records));
    }

    fn pinned(&self, records: &Kinds) -> Pinned {
        Pinned { chain: Arc::new(self.chains[records].0.clone()), ..self.worlds[0].pinned() }
    }

    fn stored(&self, head: Head) -> StoredSnapshot {
        let published = &self.heads[&head];
        StoredSnapshot {
            head: published.head.clone(),
            leaf: published.leaf.clone(),
            proof: published.proof.clone(),
            slots: published.contents.manifest().to_wire(),
            chunks: published.contents.chunks.values().cloned().collect(),
        }
    }

    /// What an honest control plane with these records and this version tells a node.
    fn told_by(&self, records: &Kinds, version: u64) -> Told {
        let newest = records.len();
        let head = Head { signer: newest, incarnation: newest, version };
        Told { records: records.clone(), heads: vec![head] }
    }

    /// One start of a node, one conversation, and perhaps its death after so many writes.
    fn meet(&self, disk: &Disk, told: &Told, dies_after: Option<usize>) -> Met {
        let key = format!("{disk:?} {told:?} {dies_after:?}");
        if let Some(known) = self.met.lock().unwrap().get(&key) {
            return known.clone();
        }
        let met = self.live(disk, told, dies_after);
        self.met.lock().unwrap().insert(key, met.clone());
        met
    }

    fn live(&self, disk: &Disk, told: &Told, dies_after: Option<usize>) -> Met {
        let mut disk = disk.clone();
        if disk.floors_know < disk.records.len() {
            // As the agent does when it opens a membership: the records are older than the floors.
            let floors = Floors::initial(Incarnation(incarnation(disk.records.len())));
            disk.floors = Floors { time: disk.floors.time, ..floors };
            disk.floors_know = disk.records.len();
        }
        let stored: Vec<StoredSnapshot> = disk.stored.iter().map(|head| self.stored(*head)).collect();
        let pinned = self.pinned(&disk.records);
        let acceptor = Acceptor::start(pinned, disk.floors.clone(), &stored, at(2));
        let mut node = Living {
            rotations: self,
            acceptor,
            met: Met { disk, active: None, confirmed: None, refused: false },
            writes_left: dies_after,
        };
        node.run(told);
        node.met
    }
}

/// A node while it runs.
struct Living<'a> {
    rotations: &'a Rotations,
    acceptor: Acceptor,
    met: Met,
    writes_left: Option<usize>,
}

impl Living<'_> {
    /// `None` once the node died.
    fn run(&mut self, told: &Told) -> Option<()> {
        self.settle()?;
        let own = self.met.disk.records.len();
        if told.records.len() > own {
            let records = self.rotations.chains[&told.records].1[own + 1..].to_vec();
            self.acceptor.handle(Input::RecordsArrived(v1::AuthorityRecords { records }), at(2));
            self.settle()?;
        }
        for head in &told.heads {
            self.acceptor.handle(Input::Updated(self.rotations.heads[head].full()), at(2));
            self.settle()?;
        }
        Some(())
    }

    fn settle(&mut self) -> Option<()> {
        while let Some(output) = self.acceptor.poll_output() {
            match output {
                Output::Persist(id, record) => {
                    if let Some(chain) = &record.chain {
                        self.write()?;
                        let is = |kinds: &&Kinds| self.rotations.chains[*kinds].0.digest() == chain.digest();
                        self.met.disk.records = self.rotations.chains.keys().find(is)?.clone();
                    }
                    if let Some(snapshot) = &record.snapshot {
                        self.write()?;
                        let head = self.rotations.by_bytes[snapshot.head_document().envelope()];
                        self.met.disk.stored.insert(head);
                    }
                    self.write()?;
                    self.met.disk.floors = record.floors.clone();
                    self.met.disk.floors_know = self.met.disk.records.len();
                    self.acceptor.handle(Input::Persisted(id), at(2));
                }
                Output::Activate(snapshot) => {
                    let head = self.rotations.by_bytes[snapshot.head_document().envelope()];
                    self.met.active = Some(head);
                    self.met.disk.stored.retain(|stored| *stored == head);
                }
                Output::Confirm(confirm) if confirm.reason.is_empty() => {
                    self.met.confirmed = Some(confirm.sequence);
                }
                Output::Confirm(_) | Output::Refuse(_) | Output::Alarm(_) => self.met.refused = true,
                Output::Acknowledge(_) | Output::Restrict(_) => {}
            }
        }
        Some(())
    }

    fn write(&mut self) -> Option<()> {
        match &mut self.writes_left {
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(())
            }
            None => Some(()),
        }
    }
}

impl Fabric {
    fn newest(&self) -> usize {
        self.records.len()
    }

    /// Nodes that an operator waits for before the key of this record is tainted.
    fn unconfirmed(&self, sequence: u64) -> u64 {
        u64::from(self.seen && self.confirmed <= sequence)
    }

    fn steps(&self) -> Vec<AuthorityStep> {
        let mut steps = vec![AuthorityStep::Prepare];
        if self.records.len() + 1 < KEYS {
            steps.extend([AuthorityStep::Rotate, AuthorityStep::Recover]);
        }
        for sequence in 1..=self.life.signer() {
            let unconfirmed = self.unconfirmed(sequence);
            steps.push(AuthorityStep::Taint { sequence, unconfirmed, force: false });
            steps.push(AuthorityStep::Taint { sequence, unconfirmed, force: true });
            steps.push(AuthorityStep::Revoke { sequence });
        }
        steps
    }
}

#[test]
fn every_interleaving_of_a_rotation_keeps_every_promise() {
    let checker = Rotations::new().checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    assert!(states > 10_000, "{states} states are too few to mean anything");
    println!("{states} states");
}
