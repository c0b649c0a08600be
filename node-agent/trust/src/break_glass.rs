//! Break-glass grants on a node: each is verified with the pins alone, applied once, shown with its clock,
//! ended by itself, and told to the control plane until that says it has it.
//!
//! Owns what is held and what it permits at an instant. Refuses to own the disk: a grant counts once the
//! caller says that it is stored.

use std::net::IpAddr;

use rap_contract::{BreakGlassExpectation, BreakGlassText, PublicKey, Reject, VerifiedBreakGlass};
use rap_types::{ClusterId, Digest, InstallationId, NodeId, Reason, Wall};
use rap_wire::v1;

use crate::sense::check_peer_sense;
use crate::{Sense, known_features};

/// Most grants held at once that an operator did not drop.
const HELD_CAP: usize = 64;
/// Most grants held at once, with those that were dropped and that the control plane has not got yet.
const UNTOLD_CAP: usize = 256;
/// Fewest digits of a digest that name a grant.
const DIGITS: usize = 8;
/// Most grants remembered after their end. A node that used so many takes no more.
const SPENT_CAP: usize = 4096;

/// What grants are verified with.
#[derive(Debug, Clone)]
pub struct BreakGlassPins {
    /// Installation of the membership.
    pub installation: InstallationId,
    /// Cluster of the membership.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The cluster's active authority.
    pub authority: PublicKey,
    /// Encoded activation manifest that came with the bootstrap contract.
    pub activation_manifest: Vec<u8>,
    /// True if the membership was made in development mode.
    pub accept_dev: bool,
}

/// A grant as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBreakGlassGrant {
    /// Encoded `BreakGlassFile`.
    pub file: Vec<u8>,
    /// Digest of the file.
    pub digest: Digest,
    /// When it was applied here.
    pub applied_at: Wall,
    /// True once the control plane said that it has it.
    pub acknowledged: bool,
    /// True once an operator of this host dropped it: it permits nothing.
    pub dropped: bool,
}

/// Everything about grants that is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredBreakGlass {
    /// Grants that run, or that the control plane has not got yet.
    pub held: Vec<StoredBreakGlassGrant>,
    /// Digests of those that are over: none is applied twice.
    pub spent: Vec<Digest>,
}

/// A grant that may be applied, and what must be on disk before it is.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The grant.
    pub grant: VerifiedBreakGlass,
    /// To be written.
    pub stored: StoredBreakGlass,
}

/// A peer that a grant admits, until its end.
#[derive(Debug, Clone, PartialEq)]
pub struct PermittedPeer {
    /// The peer.
    pub record: v1::PeerRecord,
    /// When the permit ends.
    pub until: Wall,
}

/// A grant as status shows it.
#[derive(Debug, Clone)]
pub struct BreakGlassView<'a> {
    /// What is kept.
    pub stored: &'a StoredBreakGlassGrant,
    /// The grant, if it still verifies with the pins of now.
    pub grant: Option<&'a VerifiedBreakGlass>,
}

#[derive(Debug, Clone)]
struct Held {
    stored: StoredBreakGlassGrant,
    grant: Option<VerifiedBreakGlass>,
}

/// The grants of one membership.
#[derive(Debug, Clone)]
pub struct BreakGlass {
    pins: BreakGlassPins,
    held: Vec<Held>,
    spent: Vec<Digest>,
}

impl BreakGlass {
    /// Starts from the disk; every grant is verified again. One that does not verify any more (another
    /// authority since) permits nothing and is still told.
    pub fn start(pins: BreakGlassPins, stored: StoredBreakGlass) -> Self {
        let held = stored.held.into_iter().map(|stored| {
            let opened = BreakGlassText::decode(&stored.file).and_then(|file| open(&pins, &file, None));
            let grant = opened.ok().filter(|grant| grant.digest() == stored.digest);
            Held { stored, grant }
        });
        Self { held: held.collect(), spent: stored.spent, pins }
    }

    /// The cluster has another authority: what the one before signed permits nothing more.
    pub fn follow(&mut self, authority: PublicKey) {
        if authority != self.pins.authority {
            self.pins.authority = authority;
            for held in &mut self.held {
                let opened = BreakGlassText::decode(&held.stored.file);
                held.grant = opened.and_then(|file| open(&self.pins, &file, None)).ok();
            }
        }
    }

    /// Judges a grant at trusted time `now` against the snapshot in use. Changes nothing.
    ///
    /// # Errors
    /// The grant does not verify; `break_glass.replayed`, `break_glass.conflict`, `node.revoked`,
    /// `snapshot.absent`, `state.full`.
    pub fn judge(&self, text: &str, sense: Option<&Sense>, now: Wall) -> Result<Admission, Reject> {
        let file = BreakGlassText::parse(text)?;
        let grant = open(&self.pins, &file, Some(now))?;
        let digest = grant.digest();
        let same_nonce = |held: &Held| held.grant.as_ref().is_some_and(|held| held.nonce() == grant.nonce());
        let held = self.held.iter().any(|held| held.stored.digest == digest || same_nonce(held));
        Reject::when(held || self.spent.contains(&digest), Reason::BreakGlassReplayed, "applied before")?;
        if let Some(peer) = grant.peer() {
            let sense = sense.ok_or(Reject::new(Reason::SnapshotAbsent, "a peer needs a snapshot"))?;
            check_peer(peer, self.pins.node, sense)?;
        }
        let mut stored = self.stored_without_ended(now);
        let held = stored.held.iter().filter(|held| !held.dropped).count();
        if held >= HELD_CAP || stored.held.len() >= UNTOLD_CAP || stored.spent.len() >= SPENT_CAP {
            return Err(Reject::new(Reason::StateFull, "too many grants"));
        }
        stored.held.push(StoredBreakGlassGrant {
            file: file.encode(),
            digest,
            applied_at: now,
            acknowledged: false,
            dropped: false,
        });
        Ok(Admission { grant, stored })
    }

    /// The grant is on disk: it counts from now on.
    pub fn install(&mut self, admission: Admission) {
        let Admission { grant, stored } = admission;
        let mut grants: Vec<VerifiedBreakGlass> = self.held.drain(..).filter_map(|held| held.grant).collect();
        grants.push(grant);
        let with_grant = |stored: StoredBreakGlassGrant| {
            let grant = grants.iter().find(|grant| grant.digest() == stored.digest).cloned();
            Held { stored, grant }
        };
        self.held = stored.held.into_iter().map(with_grant).collect();
        self.spent = stored.spent;
    }

    /// The control plane has it. True if that is news: [`Self::stored`] is to be written then.
    pub fn acknowledge(&mut self, digest: &[u8]) -> bool {
        let held = self.held.iter_mut().find(|held| held.stored.digest.as_bytes() == digest);
        held.is_some_and(|held| !std::mem::replace(&mut held.stored.acknowledged, true))
    }

    /// An operator of this host wants this grant to end. It is named by its digest or by the first digits of it. It
    /// permits nothing from now on, and [`Self::stored`] is to be written.
    ///
    /// # Errors
    /// `break_glass.absent` if no grant that holds, or more than one, is named so.
    pub fn discard(&mut self, named: &str) -> Result<Digest, Reject> {
        let absent = |what| Reject::new(Reason::BreakGlassAbsent, what);
        let is_named = |held: &&mut Held| {
            named.len() >= DIGITS && !held.stored.dropped && held.stored.digest.to_string().starts_with(named)
        };
        let mut found = self.held.iter_mut().filter(is_named);
        match (found.next(), found.next()) {
            (Some(one), None) => {
                one.stored.dropped = true;
                Ok(one.stored.digest)
            }
            (None, _) => Err(absent("no grant of this digest")),
            (Some(_), Some(_)) => Err(absent("several grants have these first digits")),
        }
    }

    /// What is to be on disk.
    pub fn stored(&self) -> StoredBreakGlass {
        let held = self.held.iter().map(|held| held.stored.clone()).collect();
        StoredBreakGlass { held, spent: self.spent.clone() }
    }

    /// What the control plane has not got yet.
    pub fn untold(&self) -> impl Iterator<Item = v1::BreakGlassUse> + '_ {
        let untold = self.held.iter().filter(|held| !held.stored.acknowledged);
        untold.map(|held| v1::BreakGlassUse {
            file: held.stored.file.clone(),
            applied_at_ms: held.stored.applied_at.0,
        })
    }

    /// Until when degraded mode lasts by a grant, if one says so now.
    pub fn extends_degraded(&self, now: Wall) -> Option<Wall> {
        self.active(now).filter_map(VerifiedBreakGlass::extends_degraded).filter(|until| *until > now).max()
    }

    /// Peers that grants admit now, as far as they do not contradict the snapshot.
    pub fn permitted(&self, sense: &Sense, now: Wall) -> Vec<PermittedPeer> {
        let mut permitted: Vec<PermittedPeer> = Vec::new();
        for grant in self.active(now) {
            let Some(record) = grant.peer() else { continue };
            let fits = check_peer(record, self.pins.node, sense).is_ok()
                && permitted.iter().all(|other| compatible(&other.record, record));
            if fits {
                // Of two grants for one peer the later word holds.
                permitted.retain(|other| other.record.node_id != record.node_id);
                permitted.push(PermittedPeer { record: record.clone(), until: grant.expires_at() });
            }
        }
        permitted
    }

    /// Digests of what runs now: another set needs another table.
    pub fn running(&self, now: Wall) -> Vec<Digest> {
        let extension = self.extends_degraded(now).is_some();
        let counts = |grant: &&VerifiedBreakGlass| grant.peer().is_some() || extension;
        self.active(now).filter(counts).map(VerifiedBreakGlass::digest).collect()
    }

    /// When the next grant, or an extension, ends.
    pub fn next_end(&self, now: Wall) -> Option<Wall> {
        let ends = self.active(now).flat_map(|grant| [Some(grant.expires_at()), grant.extends_degraded()]);
        ends.flatten().filter(|end| *end > now).min()
    }

    /// What is held, for status.
    pub fn views(&self) -> impl Iterator<Item = BreakGlassView<'_>> {
        self.held.iter().map(|held| BreakGlassView { stored: &held.stored, grant: held.grant.as_ref() })
    }

    fn active(&self, now: Wall) -> impl Iterator<Item = &VerifiedBreakGlass> {
        let kept = self.held.iter().filter(|held| !held.stored.dropped);
        kept.filter_map(|held| held.grant.as_ref()).filter(move |grant| grant.expires_at() > now)
    }

    /// Grants that are over and told are remembered by their digest alone.
    fn stored_without_ended(&self, now: Wall) -> StoredBreakGlass {
        let over = |held: &&Held| {
            let ended = held.grant.as_ref().is_none_or(|grant| grant.expires_at() <= now);
            held.stored.acknowledged && (ended || held.stored.dropped)
        };
        let spent = self.held.iter().filter(over).map(|held| held.stored.digest);
        let spent = self.spent.iter().copied().chain(spent).collect();
        let held = self.held.iter().filter(|held| !over(held)).map(|held| held.stored.clone()).collect();
        StoredBreakGlass { held, spent }
    }
}

fn open(
    pins: &BreakGlassPins,
    file: &BreakGlassText,
    now: Option<Wall>,
) -> Result<VerifiedBreakGlass, Reject> {
    file.open(&BreakGlassExpectation {
        installation: pins.installation,
        cluster: pins.cluster,
        node: Some(pins.node),
        authority: pins.authority,
        activation_manifest: &pins.activation_manifest,
        now,
        features: known_features(pins.accept_dev),
    })
}

/// A grant adds a peer to what the snapshot says; it takes nothing from anybody in it, and its record makes as much
/// sense as one of a snapshot.
fn check_peer(record: &v1::PeerRecord, own: NodeId, sense: &Sense) -> Result<(), Reject> {
    let conflict = |what| Err(Reject::new(Reason::BreakGlassConflict, what));
    let node = NodeId::from_slice(&record.node_id)
        .map_err(|_| Reject::new(Reason::PayloadMalformed, "peer node_id"))?;
    let contents = sense.contents();
    let assignment = &contents.assignment;
    if node == own || record.wireguard_public_key == assignment.wireguard_public_key {
        return conflict("the peer is this node");
    }
    // Who was revoked comes back by a snapshot alone, whatever generation a grant names.
    let member = contents.peers.get(&node).is_some_and(|known| known.key_generation == record.key_generation);
    let revoked = |revoked: &v1::RevokedNode| {
        (revoked.node_id == record.node_id && (!member || revoked.key_generation >= record.key_generation))
            || (!revoked.node_key_sha256.is_empty() && revoked.node_key_sha256 == record.node_key_sha256)
    };
    Reject::when(contents.trust.revoked.iter().any(revoked), Reason::NodeRevoked, "the peer is revoked")?;
    let own =
        sense.own().ok_or(Reject::new(Reason::BreakGlassConflict, "the cluster's pools are not known"))?;
    check_peer_sense(record, own.pools()).map_err(|what| Reject::new(Reason::BreakGlassConflict, what))?;
    let addresses = [&record.overlay_ipv4, &record.overlay_ipv6];
    let bare = |text: &str| text.split('/').next().and_then(|text| text.parse::<IpAddr>().ok());
    let owns = own.texts().each_ref().map(|text| bare(text));
    if addresses.iter().any(|address| owns.contains(&bare(address))) {
        return conflict("an address is this node's");
    }
    if record.name == assignment.name {
        return conflict("the name is this node's");
    }
    match contents.peers.get(&node) {
        Some(known) if !same_peer(known, record) => return conflict("the peer has other keys or addresses"),
        _ => {}
    }
    if contents.peers.iter().any(|(id, peer)| *id != node && !compatible(peer, record)) {
        return conflict("a name, key or address is another peer's");
    }
    Ok(())
}

fn same_peer(known: &v1::PeerRecord, record: &v1::PeerRecord) -> bool {
    known.node_key_sha256 == record.node_key_sha256
        && known.wireguard_public_key == record.wireguard_public_key
        && known.key_generation == record.key_generation
        && address(&known.overlay_ipv4) == address(&record.overlay_ipv4)
        && address(&known.overlay_ipv6) == address(&record.overlay_ipv6)
}

/// The same peer, or two that share neither name nor key nor address.
fn compatible(one: &v1::PeerRecord, other: &v1::PeerRecord) -> bool {
    if one.node_id == other.node_id {
        return same_peer(one, other);
    }
    one.name != other.name
        && one.wireguard_public_key != other.wireguard_public_key
        && one.node_key_sha256 != other.node_key_sha256
        && address(&one.overlay_ipv4) != address(&other.overlay_ipv4)
        && address(&one.overlay_ipv6) != address(&other.overlay_ipv6)
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}
