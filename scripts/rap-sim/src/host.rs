//! A node of a run: the shipped acceptor and forwarding table, with a disk that survives restarts.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, bail};
use rap_contract::VerifiedSnapshot;
use rap_node::{ForwardingTable, Hints, LinkCertificate, PathTerms, Paths, TableInputs, build_table};
use rap_planner::NodeRow;
use rap_trust::{Acceptor, Floors, Input, Output, Pinned, Restriction, StoredSnapshot, TrustedClock};
use rap_types::sense::Loopback;
use rap_types::{Digest, HeadOrder, Incarnation, KeyId, NodeId, Now, Reason, Wall};
use rap_wire::v1;
use zeroize::Zeroizing;

use crate::control::{CLUSTER, Control, INSTALLATION};
use crate::events::{Counts, Event};
use crate::fabric::LIFETIME_S;
use crate::require::require;

/// What the disk does with the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    Works,
    Fails,
    /// The host restarts before the write.
    Lost,
}

/// What a host tells the control plane.
#[derive(Debug, Clone)]
pub enum Reply {
    Ack(v1::SnapshotAck),
    Nack(v1::SnapshotNack),
}

pub struct Host {
    pinned: Pinned,
    floors: Floors,
    stored: Option<StoredSnapshot>,
    acceptor: Acceptor,
    restriction: Option<Restriction>,
    /// Highest order that was ever in use.
    highest: HeadOrder,
    pub table: Option<ForwardingTable>,
    /// How many tables it made.
    pub tables: u64,
    /// Relays as this node uses them.
    paths: Paths,
}

impl Host {
    pub fn new(row: &NodeRow, control: &Control, now: Now) -> Self {
        let pinned = Pinned {
            installation: INSTALLATION,
            cluster: CLUSTER,
            node: row.node,
            node_key: KeyId::of(&row.node_public_key),
            wireguard_key: row.wireguard_public_key,
            installation_authority: control.installation_authority.public(),
            chain: control.chain.clone(),
            former: None,
            addresses: None,
            accept_dev: false,
        };
        let floors = Floors::initial(Incarnation(1));
        let acceptor = Acceptor::start(pinned.clone(), floors.clone(), &[], now);
        Self {
            pinned,
            floors,
            stored: None,
            acceptor,
            restriction: None,
            highest: HeadOrder::default(),
            table: None,
            tables: 0,
            paths: Paths::default(),
        }
    }

    /// The snapshot in use.
    pub fn active(&self) -> Option<&Arc<VerifiedSnapshot>> {
        self.acceptor.active()
    }

    /// The leaf that its hello names.
    pub fn leaf(&self) -> Option<Digest> {
        self.active().map(|snapshot| snapshot.leaf_hash())
    }

    /// Starts again from its disk.
    pub fn restart(&mut self, now: Now, counts: &mut Counts) -> Result<()> {
        let stored: Vec<StoredSnapshot> = self.stored.iter().cloned().collect();
        self.acceptor = Acceptor::start(self.pinned.clone(), self.floors.clone(), &stored, now);
        (self.table, self.restriction) = (None, None);
        self.carry_out(Disk::Works, now, counts).map(drop)
    }

    /// Takes a message in; `None` if the host restarted over it.
    pub fn receive(
        &mut self,
        input: Input,
        disk: Disk,
        now: Now,
        counts: &mut Counts,
    ) -> Result<Option<Vec<Reply>>> {
        self.acceptor.handle(input, now);
        self.carry_out(disk, now, counts)
    }

    fn carry_out(&mut self, disk: Disk, now: Now, counts: &mut Counts) -> Result<Option<Vec<Reply>>> {
        let mut replies = Vec::new();
        while let Some(output) = self.acceptor.poll_output() {
            match output {
                Output::Restrict(restriction) => {
                    counts.add(Event::Restricted);
                    self.restriction = Some(restriction);
                    self.publish(now);
                }
                Output::Persist(id, record) => match disk {
                    Disk::Lost => {
                        counts.add(Event::RestartedBeforeDisk);
                        self.restart(now, counts)?;
                        return Ok(None);
                    }
                    Disk::Fails => {
                        counts.add(Event::DiskFailed);
                        self.acceptor.handle(Input::PersistFailed(id, Reason::StateIo), now);
                    }
                    Disk::Works => {
                        self.floors = record.floors.clone();
                        if let Some(snapshot) = &record.snapshot {
                            self.stored = Some(StoredSnapshot::of(snapshot));
                        }
                        self.acceptor.handle(Input::Persisted(id), now);
                    }
                },
                Output::Activate(snapshot) => {
                    counts.add(Event::Activated);
                    let order = snapshot.head().order;
                    require(order.durable() >= self.highest.durable(), || {
                        format!("node {} went back from {} to {order}", self.pinned.node, self.highest)
                    })?;
                    self.highest = order;
                    self.restriction = None;
                    self.publish(now);
                }
                Output::Acknowledge(ack) => replies.push(Reply::Ack(ack)),
                Output::Refuse(nack) => replies.push(Reply::Nack(nack)),
                Output::Confirm(_) => {}
                Output::Alarm(evidence) => {
                    bail!("node {} saw two histories: {}", self.pinned.node, evidence.order)
                }
            }
        }
        Ok(Some(replies))
    }

    fn publish(&mut self, now: Now) {
        let (Some(snapshot), Some(sense)) = (self.acceptor.active(), self.acceptor.sense()) else { return };
        let leaf = LinkCertificate {
            certificate: vec![1],
            private_key: Zeroizing::new(vec![1]),
            not_after: Wall(now.wall.0 + 86_400_000),
            authority: Vec::new(),
        };
        let clock = TrustedClock::new(Wall(0), now);
        let hints = Hints::default();
        self.tables += 1;
        self.paths.follow(sense, self.restriction.as_ref(), now.mono);
        self.paths.decide(now.mono);
        let inputs = TableInputs {
            control: &Default::default(),
            wireguard_private_key: &[1; 32],
            leaf: &leaf,
            hints: &hints,
            extension: None,
            permitted: &[],
            restriction: self.restriction.as_ref(),
            sense,
            paths: Some(&self.paths),
            path_terms: PathTerms { lifetime_s: LIFETIME_S, ..PathTerms::default() },
            loopback: Loopback::Refused,
            clock: &clock,
            now,
        };
        self.table = Some(build_table(snapshot, self.tables, &inputs));
    }

    /// Nodes in the forwarding table.
    pub fn peers(&self) -> BTreeSet<NodeId> {
        let table = self.table.as_ref().map(ForwardingTable::message).unwrap_or_default();
        table.peers.iter().filter_map(|peer| NodeId::from_slice(&peer.node_id).ok()).collect()
    }

    /// Nodes that the snapshots this host has verified revoke.
    pub fn revoked(&self) -> BTreeSet<NodeId> {
        let active = self.acceptor.active().map(|active| &active.contents().trust);
        let trusts =
            active.into_iter().chain(self.restriction.as_ref().map(|restriction| &restriction.trust));
        let revoked = trusts.flat_map(|trust| &trust.revoked);
        revoked.filter_map(|revoked| NodeId::from_slice(&revoked.node_id).ok()).collect()
    }
}
