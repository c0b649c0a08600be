//! The acceptor: nothing becomes active that is not signed, in scope, newer, whole and on disk.
//!
//! Order: head signature with the pinned authority; installation, cluster, times, critical features;
//! freeze and floors; proof; scope; slots onto the stored slots; manifest root; chunks; contents;
//! persist; activate. A refusal leaves everything as it was. Authority records move the pin itself.
//!
//! One thing comes before the disk: what a verified snapshot revokes. To take a permission away too early is
//! safe, because it stays away once the snapshot is activated. To give one too early is not.
//!
//! Owns floors, equivocation and the order persist-then-activate. Refuses to own storage and streams.

mod activation;
mod authority;
mod events;
mod floors;
mod own;
mod parts;

use std::collections::VecDeque;
use std::sync::Arc;

use rap_contract::{
    AuthorityChain, Expectation, HeadFacts, KeySet, Reject, RootedSnapshot, Verified, VerifiedSnapshot,
};
use rap_types::{Digest, HeadOrder, Now, Reason, Wall};
use rap_wire::v1;

pub use events::{Evidence, Input, Output, PersistId, Record, Restriction};
pub use floors::{Floors, HeadFloor, RevocationFloor};
pub use own::{FormerKeys, Pinned};
pub use parts::StoredSnapshot;

use crate::{OwnAddresses, Rejects, Sense, TrustedClock, known_features, sense};

/// Most accepted snapshots that may wait for the disk.
const OUTSTANDING_CAP: usize = 4;

/// A refusal and the leaf that it concerns, if that could be computed.
struct Refusal {
    reject: Reject,
    leaf: Option<Digest>,
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self { reject, leaf: None }
    }
}

struct Outstanding {
    id: PersistId,
    snapshot: Option<Arc<VerifiedSnapshot>>,
    chain: Option<Arc<AuthorityChain>>,
}

/// Decides what this node believes about its cluster.
pub struct Acceptor {
    pinned: Pinned,
    keys: KeySet,
    floors: Floors,
    clock: TrustedClock,
    active: Option<Arc<VerifiedSnapshot>>,
    /// What of the snapshot in use is used.
    sense: Option<Arc<Sense>>,
    /// Newest accepted snapshot, on disk or on its way there: deltas apply to it.
    base: Option<Arc<VerifiedSnapshot>>,
    outstanding: VecDeque<Outstanding>,
    next_id: u64,
    outputs: VecDeque<Output>,
    rejects: Rejects,
}

impl Acceptor {
    /// Starts from what is on disk: takes the highest stored snapshot that verifies again and is not
    /// below the floor. One above the floor becomes active once the floor has been raised to it; until then the one at
    /// the floor is.
    pub fn start(pinned: Pinned, floors: Floors, stored: &[StoredSnapshot], now: Now) -> Self {
        let mut acceptor = Self {
            keys: pinned.chain.keys::<v1::ClusterHead>(),
            clock: TrustedClock::new(floors.time, now),
            pinned,
            floors,
            active: None,
            sense: None,
            base: None,
            outstanding: VecDeque::new(),
            next_id: 1,
            outputs: VecDeque::new(),
            rejects: Rejects::default(),
        };
        let mut verified = Vec::new();
        for candidate in stored {
            match acceptor.reopen(candidate) {
                Ok(snapshot) => verified.push(Arc::new(snapshot)),
                Err(reject) => acceptor.rejects.count(reject.reason, now.wall),
            }
        }
        acceptor.take_stored(&verified, now);
        acceptor
    }

    /// Verifies a stored snapshot again, against signature, scope, chain and floors, not against time.
    ///
    /// # Errors
    /// The snapshot does not verify; `snapshot.rollback`, `snapshot.equivocation`.
    pub fn reopen(&self, stored: &StoredSnapshot) -> Result<VerifiedSnapshot, Reject> {
        let head = self.open_stored(&stored.head)?;
        let snapshot = VerifiedSnapshot::verify(stored.to_parts(head)?, Some(self.pinned.node))?;
        self.pinned.check(&snapshot)?;
        self.floors.check_revocations(snapshot.head(), &snapshot.contents().trust)?;
        Ok(snapshot)
    }

    /// Takes one input in; outputs follow by [`Self::poll_output`].
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Updated(update) => {
                let offered = update.head.clone();
                if let Err(refusal) = self.update(update, now) {
                    self.refuse(refusal, &offered, now);
                }
            }
            Input::HeadArrived(update) => {
                let offered = update.head.clone();
                if let Err(reject) = self.refresh(update, now) {
                    self.refuse(reject.into(), &offered, now);
                }
            }
            Input::RecordsArrived(records) => self.records_arrived(&records, now),
            Input::Persisted(id) => self.persisted(id, now),
            Input::PersistFailed(id, reason) => self.persist_failed(id, reason, now),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The snapshot in use.
    pub fn active(&self) -> Option<&Arc<VerifiedSnapshot>> {
        self.active.as_ref()
    }

    /// The newest accepted snapshot, in use or on its way to the disk.
    pub fn newest(&self) -> Option<&Arc<VerifiedSnapshot>> {
        self.base.as_ref()
    }

    /// What of the snapshot in use is used.
    pub fn sense(&self) -> Option<&Arc<Sense>> {
        self.sense.as_ref()
    }

    /// Own addresses that would be used with this snapshot.
    pub fn own_addresses(&self, snapshot: &VerifiedSnapshot) -> Option<OwnAddresses> {
        let given = self.pinned.addresses.as_ref();
        sense::own_addresses(snapshot.contents(), self.sense.as_deref(), given).0
    }

    /// What it pinned.
    pub const fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// Floors that the last outputs put to disk.
    pub const fn floors(&self) -> &Floors {
        &self.floors
    }

    /// It is at least this late: a start before remembers it.
    pub fn remember(&mut self, trusted: Wall, now: Now) {
        self.clock.raise(trusted, now);
    }

    /// Time as this node trusts it.
    pub const fn clock(&self) -> &TrustedClock {
        &self.clock
    }

    /// Refusals so far.
    pub const fn rejects(&self) -> &Rejects {
        &self.rejects
    }

    /// Order of a head that somebody else holds, if the present authority of this cluster signed it. Its age
    /// does not matter, and nothing changes.
    ///
    /// # Errors
    /// The reason why the message does not verify.
    pub fn order_of(&self, head: &[u8]) -> Result<HeadOrder, Reject> {
        self.open_head(head, None).map(|(_, facts)| facts.order)
    }

    fn update(&mut self, update: v1::SnapshotUpdate, now: Now) -> Result<(), Refusal> {
        parts::check_size(&update)?;
        let head = self.open_head(&update.head, Some(self.clock.wall(now)))?;
        self.judge(&head, now)?;
        let parts = parts::merge(self.base.as_deref(), update, head)?;
        let offered = (parts.leaf.clone(), parts.manifest.clone());
        let facts = parts.head.1;
        let snapshot = RootedSnapshot::check(parts, Some(self.pinned.node))
            .and_then(|rooted| {
                // Whatever the other chunks say: what this one revokes is signed.
                let trust = rooted.trust().map(Arc::new);
                rooted.finish(self.base.as_deref()).inspect_err(|_| self.restrict(&facts, trust))
            })
            .and_then(|snapshot| self.pinned.check(&snapshot).map(|()| snapshot))
            .and_then(|snapshot| {
                let trust = &snapshot.contents().trust;
                self.floors.check_revocations(snapshot.head(), trust).map(|()| snapshot)
            })
            .map_err(|reject| Refusal { reject, leaf: parts::leaf_of(&offered, self.pinned.cluster) })?;
        self.accept(snapshot, now).map_err(Refusal::from)
    }

    fn refresh(&mut self, update: v1::HeadUpdate, now: Now) -> Result<(), Reject> {
        let head = self.open_head(&update.head, Some(self.clock.wall(now)))?;
        self.judge(&head, now)?;
        let base = self.base.as_ref().ok_or(Reject::new(Reason::SnapshotChunkMissing, "no snapshot yet"))?;
        let proof = update.proof.ok_or(Reject::new(Reason::SnapshotMalformed, "proof"))?;
        let snapshot = base.under_head(head, proof)?;
        self.accept(snapshot, now)
    }

    fn open_head(
        &self,
        bytes: &[u8],
        now: Option<Wall>,
    ) -> Result<(Verified<v1::ClusterHead>, HeadFacts), Reject> {
        let head = HeadFacts::open(bytes, &self.keys, &self.expect(now))?;
        if head.1.order.incarnation < self.pinned.incarnation() {
            return Err(Reject::new(Reason::SnapshotRollback, "older than the authority record"));
        }
        Ok(head)
    }

    fn expect(&self, now: Option<Wall>) -> Expectation<'static> {
        let (pinned, features) = (&self.pinned, known_features(self.pinned.accept_dev));
        Expectation { now, ..Expectation::within(pinned.installation, pinned.cluster, features) }
    }

    /// The newest accepted snapshot, if the present authority signed it: what an earlier one signed
    /// says nothing about the order of heads.
    fn newest_of_authority(&self) -> Option<&Arc<VerifiedSnapshot>> {
        self.base.as_ref().filter(|base| self.pinned.is_by_present_authority(base))
    }

    /// Freeze, rollback and equivocation, before anything below the head is looked at.
    fn judge(&mut self, head: &(Verified<v1::ClusterHead>, HeadFacts), now: Now) -> Result<(), Reject> {
        let (document, facts) = head;
        self.floors.check_frozen(facts)?;
        let newest = self.newest_of_authority();
        let other_digest = newest.is_some_and(|newest| {
            newest.head().order == facts.order && newest.head_document().digest() != document.digest()
        });
        let verdict = if other_digest {
            Err(Reject::new(Reason::SnapshotEquivocation, "equal position with another digest"))
        } else {
            self.floors.check_head(facts)
        };
        if let Err(reject) = verdict {
            if reject.reason == Reason::SnapshotEquivocation {
                self.freeze(document, facts, now);
            }
            return Err(reject);
        }
        if newest.is_some_and(|newest| facts.order < newest.head().order) {
            return Err(Reject::new(Reason::SnapshotRollback, "refresh is older than the accepted one"));
        }
        Ok(())
    }

    fn freeze(&mut self, document: &Verified<v1::ClusterHead>, facts: &HeadFacts, now: Now) {
        let accepted = self.newest_of_authority().map(|base| base.head_document().envelope().to_vec());
        let evidence = Evidence {
            order: facts.order,
            accepted: accepted.unwrap_or_default(),
            contradicting: document.envelope().to_vec(),
        };
        self.floors.frozen = Some(facts.order);
        self.clock.raise(facts.issued_at, now);
        let id = self.next_persist();
        self.outstanding.push_back(Outstanding { id, snapshot: None, chain: None });
        let record = Record {
            floors: self.floors.clone(),
            snapshot: None,
            contents_changed: false,
            evidence: Some(evidence.clone()),
            chain: None,
        };
        self.outputs.push_back(Output::Persist(id, Box::new(record)));
        self.outputs.push_back(Output::Alarm(evidence));
    }

    fn accept(&mut self, snapshot: VerifiedSnapshot, now: Now) -> Result<(), Reject> {
        tracing::trace!(way = "the snapshot is verified");
        let newest = self.newest_of_authority();
        if newest.is_some_and(|newest| newest.head().order == snapshot.head().order) {
            // The very same head again: nothing to write. It is acknowledged if it is in use already,
            // else its own activation will be.
            if self.outstanding.is_empty() {
                self.acknowledge(now);
            }
            return Ok(());
        }
        let snapshot = Arc::new(snapshot);
        let facts = *snapshot.head();
        self.restrict(&facts, Some(snapshot.contents().trust.clone()));
        Reject::when(self.outstanding.len() >= OUTSTANDING_CAP, Reason::StateTimeout, "the disk is behind")?;
        let contents_changed =
            self.base.as_ref().is_none_or(|newest| newest.leaf_hash() != snapshot.leaf_hash());
        self.clock.raise(snapshot.head().issued_at, now);
        self.commit(self.floors.raised_to(&snapshot), snapshot, contents_changed);
        Ok(())
    }

    fn commit(&mut self, floors: Floors, snapshot: Arc<VerifiedSnapshot>, contents_changed: bool) {
        let id = self.next_persist();
        self.floors = floors.clone();
        self.base = Some(snapshot.clone());
        self.outstanding.push_back(Outstanding { id, snapshot: Some(snapshot.clone()), chain: None });
        let record =
            Record { floors, snapshot: Some(snapshot), contents_changed, evidence: None, chain: None };
        self.outputs.push_back(Output::Persist(id, Box::new(record)));
    }

    /// The floors in memory stay up: what is on disk is unknown, and nothing may go below it.
    fn persist_failed(&mut self, id: PersistId, reason: Reason, now: Now) {
        let Some(failed) = self.outstanding.iter().find(|outstanding| outstanding.id == id) else { return };
        let records_failed = failed.chain.is_some();
        self.outstanding.clear();
        self.base.clone_from(&self.active);
        if records_failed {
            return self.refuse_records(Reject::new(reason, "could not be stored"), now);
        }
        self.refuse(Reject::new(reason, "could not be stored").into(), &[], now);
    }

    fn refuse(&mut self, refusal: Refusal, offered_head: &[u8], now: Now) {
        let Refusal { reject, leaf } = refusal;
        self.rejects.count(reject.reason, self.clock.wall(now));
        let shows_evidence = !offered_head.is_empty()
            && matches!(
                reject.reason,
                Reason::SnapshotEquivocation | Reason::SnapshotRollback | Reason::SnapshotFrozen
            );
        let evidence = match &self.base {
            Some(base) if shows_evidence => base.head_document().envelope().to_vec(),
            _ => Vec::new(),
        };
        let need_full = matches!(
            reject.reason,
            Reason::SnapshotChunkMissing | Reason::SnapshotManifest | Reason::SnapshotProof
        );
        self.outputs.push_back(Output::Refuse(v1::SnapshotNack {
            leaf_hash: leaf.map(Digest::to_vec).unwrap_or_default(),
            reason: reject.reason.code().to_owned(),
            need_full,
            evidence,
        }));
    }

    fn next_persist(&mut self) -> PersistId {
        let id = PersistId(self.next_id);
        self.next_id += 1;
        id
    }
}
